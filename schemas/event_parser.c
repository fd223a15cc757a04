#include "schemas/event_parser.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/catalog.h"
#include "schemas/event.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { MAX_TYPE = 128, MAX_ID = 256 };

struct event_parser {
    struct json_reader *reader;
    struct buf scratch;
};

/* The members that route, with the field each becomes. */
static const struct member {
    const char *key;
    enum event_field field;
} event_members[] = {
    {"id", EVENT_ID},
    {"object_type", EVENT_OBJECT_TYPE},
    {"action", EVENT_ACTION},
    {"object_id", EVENT_OBJECT_ID},
    {"lead_id", EVENT_LEAD_ID},
    {"organization_id", EVENT_ORGANIZATION_ID},
    {"date_created", EVENT_DATE_CREATED},
    {"date_updated", EVENT_DATE_UPDATED},
};

enum { EVENT_MEMBERS = sizeof(event_members) / sizeof(event_members[0]) };

enum top_member { TOP_EVENT, TOP_SUBSCRIPTION, TOP_DATA, TOP_ID, TOP_TIMESTAMP, TOP_COUNT };

static const char *const top_keys[TOP_COUNT] = {"event", "subscription_id", "data", "id",
                                                "timestamp"};

struct event_parser *event_parser_new(struct error *err)
{
    struct event_parser *parser = calloc(1, sizeof(*parser));

    if (parser)
        parser->reader = json_reader_new();
    if (parser && parser->reader)
        return parser;
    error_set(err, ERROR_FATAL, "out of memory");
    event_parser_free(parser);
    return NULL;
}

void event_parser_free(struct event_parser *parser)
{
    if (!parser)
        return;
    json_reader_free(parser->reader);
    buf_release(&parser->scratch);
    free(parser);
}

/* The numbers are too large for the parser, not for JSON: it judges the text without them. */
static enum json_verdict check_without_numbers(struct event_parser *parser, struct text body)
{
    static const char padding[JSON_PADDING];
    size_t size;

    buf_clear(&parser->scratch);
    if (!json_blank_numbers(body, &parser->scratch))
        return JSON_INVALID;
    size = parser->scratch.size;
    buf_append(&parser->scratch, padding, sizeof(padding));
    if (parser->scratch.failed)
        return JSON_NO_MEMORY;
    return json_reader_check(parser->reader, parser->scratch.data, size);
}

static int check_json(struct event_parser *parser, struct text body, struct error *err)
{
    enum json_verdict verdict = json_reader_check(parser->reader, body.data, body.size);

    if (verdict == JSON_NUMBER_TOO_LARGE)
        verdict = check_without_numbers(parser, body);
    switch (verdict) {
    case JSON_VALID:
        return 0;
    case JSON_TOO_DEEP:
        return error_set(err, ERROR_INPUT, "the body is JSON nested deeper than %d",
                         JSON_MAX_DEPTH);
    case JSON_NO_MEMORY:
        return error_set(err, ERROR_FATAL, "out of memory");
    case JSON_INVALID:
    case JSON_NUMBER_TOO_LARGE:
        break;
    }
    return error_set(err, ERROR_INPUT, "the body is not JSON");
}

/* Sets values[i] to the member `keys[i]`, absent when there is none. A repeated one is ambiguous.
 */
static int find_members(struct text object, const char *const *keys, struct text *values,
                        size_t count, struct error *err)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    memset(values, 0, count * sizeof(*values));
    if (!json_object_begin(&cursor, object))
        return error_set(err, ERROR_INPUT, "the body is not a JSON object");
    while (json_object_next(&cursor, &key, &value)) {
        for (size_t i = 0; i < count; i++) {
            if (!json_key_is(key, keys[i]))
                continue;
            if (values[i].data)
                return error_set(err, ERROR_INPUT, "the member %s occurs twice", keys[i]);
            values[i] = value;
            break;
        }
    }
    return 0;
}

static bool is_type_name(struct text name)
{
    bool was_dot = true;

    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool is_dot = c == '.';

        if (is_dot ? was_dot
                   : !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-'))
            return false;
        was_dot = is_dot;
    }
    return !was_dot && name.size <= MAX_TYPE;
}

static int check_required(const struct event *event, struct error *err)
{
    struct text id = event_text(event, EVENT_ID);

    if (id.size == 0)
        return error_set(err, ERROR_INPUT, "the event has no id that is a string");
    if (id.size > MAX_ID || text_has_control(id))
        return error_set(err, ERROR_INPUT,
                         "the event's id is longer than %d bytes or has control characters",
                         MAX_ID);
    if (!is_type_name(event_text(event, EVENT_OBJECT_TYPE)))
        return error_set(err, ERROR_INPUT,
                         "the event's object_type is missing or not of letters, digits, _, - and "
                         "single dots, at most %d",
                         MAX_TYPE);
    if (!is_type_name(event_text(event, EVENT_ACTION)))
        return error_set(err, ERROR_INPUT,
                         "the event's action is missing or not of letters, digits, _, - and single "
                         "dots, at most %d",
                         MAX_TYPE);
    return 0;
}

/* A value found in the block, as an offset, because the block moves when something is added to it.
 */
static struct event_slice slice_of(const struct event *event, struct text value)
{
    return (struct event_slice){(uint32_t)(value.data - (const char *)event->record),
                                (uint32_t)value.size};
}

static struct text text_at(const struct event *event, struct event_slice slice)
{
    return (struct text){(const char *)event->record + slice.offset, slice.size};
}

/* Makes a field of a string in the block; other values leave it absent. */
static int set_string(struct event_parser *parser, struct event *event, enum event_field field,
                      struct event_slice slice, struct error *err)
{
    struct text value = text_at(event, slice);

    if (slice.size == 0 || !json_is_string(value))
        return 0;
    value = json_string_inside(value);
    if (!json_has_escape(value)) {
        event_set_slice(event, field, value);
        return 0;
    }
    buf_clear(&parser->scratch);
    if (!json_unescape(value, &parser->scratch))
        return error_set(err, ERROR_INPUT, "a string of the event has an escape that is not JSON");
    if (parser->scratch.failed || !event_add_field(event, field, buf_text(&parser->scratch)))
        return error_set(err, ERROR_FATAL, "out of memory");
    return 0;
}

/* The documents of Close list custom_activity under activity. */
static int resolve_aliases(struct event *event, bool is_from_log, struct error *err)
{
    struct text type = event_text(event, EVENT_OBJECT_TYPE);
    char name[sizeof("activity.") + MAX_TYPE] = "activity.";
    struct text resolved = {name, sizeof("activity.") - 1 + type.size};

    if (type.size > MAX_TYPE)
        return 0;
    memcpy(name + sizeof("activity.") - 1, type.data, type.size);
    if (!text_equal_string(type, "custom_activity") &&
        !(is_from_log && !catalog_find(type, event_text(event, EVENT_ACTION)) &&
          catalog_find(resolved, event_text(event, EVENT_ACTION))))
        return 0;
    if (!event_add_field(event, EVENT_OBJECT_TYPE, resolved))
        return error_set(err, ERROR_FATAL, "out of memory");
    return 0;
}

/* `object` lies inside the event's block. */
static int read_event_object(struct event_parser *parser, struct event *event, struct text object,
                             struct error *err)
{
    const char *keys[EVENT_MEMBERS];
    struct text values[EVENT_MEMBERS];
    struct event_slice slices[EVENT_MEMBERS];

    event_set_slice(event, EVENT_OBJECT, object);
    for (size_t i = 0; i < EVENT_MEMBERS; i++)
        keys[i] = event_members[i].key;
    if (find_members(object, keys, values, EVENT_MEMBERS, err) < 0)
        return -1;
    for (size_t i = 0; i < EVENT_MEMBERS; i++)
        slices[i] = values[i].data ? slice_of(event, values[i]) : (struct event_slice){0, 0};
    for (size_t i = 0; i < EVENT_MEMBERS; i++) {
        if (set_string(parser, event, event_members[i].field, slices[i], err) < 0)
            return -1;
    }
    if (check_required(event, err) < 0)
        return -1;
    return resolve_aliases(event, event_has(event, EVENT_FROM_LOG), err);
}

/* ---- the older shape ---- */

struct old_shape {
    struct text type; /* of the string "lead.created" */
    struct text action;
    struct text object_id; /* JSON values, absent or with their quotes */
    struct text lead_id;
};

static int split_name(struct text name, struct old_shape *old, struct error *err)
{
    static const struct {
        const char *name;
        const char *type;
    } renamed[] = {
        {"opportunity.status_change", "activity.opportunity_status_change"},
        {"lead.status_change", "activity.lead_status_change"},
    };
    size_t dot = name.size;

    for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++) {
        if (text_equal_string(name, renamed[i].name)) {
            old->type = text_of(renamed[i].type);
            old->action = text_of("created");
            return 0;
        }
    }
    while (dot > 0 && name.data[dot - 1] != '.')
        dot--;
    if (dot == 0)
        return error_set(err, ERROR_INPUT, "the event's name has no object type before a dot");
    old->type = (struct text){name.data, dot - 1};
    old->action = (struct text){name.data + dot, name.size - dot};
    if (!is_type_name(old->type) || !is_type_name(old->action))
        return error_set(err, ERROR_INPUT, "the event's name is not an object type and an action");
    return 0;
}

static int read_old_data(struct text data, struct old_shape *old, struct error *err)
{
    static const char *const keys[] = {"id", "lead_id"};
    struct text values[2];

    if (!data.data || data.data[0] != '{')
        return 0;
    if (find_members(data, keys, values, 2, err) < 0)
        return -1;
    old->object_id = values[0];
    old->lead_id = values[1];
    if (!old->lead_id.data && text_equal_string(old->type, "lead"))
        old->lead_id = values[0];
    return 0;
}

static void append_member(struct buf *out, const char *key, struct text json)
{
    buf_printf(out, "%s\"%s\": ", out->size > 1 ? ", " : "", key);
    if (json.data)
        buf_append_text(out, json);
    else
        buf_append_string(out, "null");
}

/* Makes an event object of the older shape's members. */
static void build_object(struct buf *out, const struct text top[TOP_COUNT],
                         const struct old_shape *old)
{
    buf_append_char(out, '{');
    append_member(out, "id", top[TOP_ID]);
    append_member(out, "date_created", top[TOP_TIMESTAMP]);
    append_member(out, "date_updated", top[TOP_TIMESTAMP]);
    buf_append_string(out, ", \"object_type\": ");
    buf_append_json_string(out, old->type);
    append_member(out, "object_id", old->object_id);
    append_member(out, "lead_id", old->lead_id);
    buf_append_string(out, ", \"action\": ");
    buf_append_json_string(out, old->action);
    append_member(out, "data", top[TOP_DATA]);
    buf_append_char(out, '}');
}

static int normalise_old_shape(struct event_parser *parser, struct event *event,
                               const struct text top[TOP_COUNT], struct error *err)
{
    struct old_shape old = {0};
    struct buf object = {0};
    bool added;

    if (json_has_escape(top[TOP_EVENT]))
        return error_set(err, ERROR_INPUT, "the event's name is not an object type and an action");
    if (split_name(json_string_inside(top[TOP_EVENT]), &old, err) < 0 ||
        read_old_data(top[TOP_DATA], &old, err) < 0)
        return -1;
    build_object(&object, top, &old);
    added = !object.failed && event_add_field(event, EVENT_OBJECT, buf_text(&object));
    buf_release(&object);
    if (!added)
        return error_set(err, ERROR_FATAL, "out of memory");
    return read_event_object(parser, event, event_text(event, EVENT_OBJECT), err);
}

static int read_body(struct event_parser *parser, struct event *event, struct error *err)
{
    struct text body = event_text(event, EVENT_BODY);
    struct text top[TOP_COUNT];
    struct event_slice subscription = {0, 0};

    if (check_json(parser, body, err) < 0 ||
        find_members(json_document(body), top_keys, top, TOP_COUNT, err) < 0)
        return -1;
    if (!top[TOP_EVENT].data)
        return error_set(err, ERROR_INPUT, "the body has no event");
    if (top[TOP_SUBSCRIPTION].data)
        subscription = slice_of(event, top[TOP_SUBSCRIPTION]);
    if (json_is_string(top[TOP_EVENT])) {
        if (normalise_old_shape(parser, event, top, err) < 0)
            return -1;
    } else if (top[TOP_EVENT].data[0] != '{') {
        return error_set(err, ERROR_INPUT, "the event is neither an object nor a name");
    } else if (read_event_object(parser, event, top[TOP_EVENT], err) < 0) {
        return -1;
    }
    return set_string(parser, event, EVENT_SUBSCRIPTION_ID, subscription, err);
}

static int read_log_entry(struct event_parser *parser, struct event *event, struct error *err)
{
    struct text body = event_text(event, EVENT_BODY);

    if (check_json(parser, body, err) < 0)
        return -1;
    return read_event_object(parser, event, json_document(body), err);
}

static struct event *parse(struct event_parser *parser, const struct event_origin *origin,
                           struct text body,
                           int (*read)(struct event_parser *, struct event *, struct error *),
                           struct error *err)
{
    struct event *event = event_new(origin, body, JSON_PADDING);

    if (!event) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    if (read(parser, event, err) == 0)
        return event;
    event_unref(event);
    return NULL;
}

struct event *event_parse(struct event_parser *parser, const struct event_origin *origin,
                          struct text body, struct error *err)
{
    return parse(parser, origin, body, read_body, err);
}

struct event *event_parse_object(struct event_parser *parser, const struct event_origin *origin,
                                 struct text object, struct error *err)
{
    struct event_origin from_log = *origin;

    from_log.flags |= EVENT_FROM_LOG;
    return parse(parser, &from_log, object, read_log_entry, err);
}

struct event *event_opaque(const struct event_origin *origin, struct text body)
{
    struct event_origin opaque = *origin;

    opaque.flags |= EVENT_IS_OPAQUE;
    return event_new(&opaque, body, 0);
}
