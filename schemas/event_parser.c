#include "schemas/event_parser.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/catalog.h"
#include "schemas/event.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"
#include "schemas/json_tokens.h"

enum { MAX_TYPE = 128, MAX_ID = 256 };

struct event_parser {
    struct json_reader *reader;
    struct buf scratch;
};

/* The event being made. Values are held as tokens, because the block moves when something is added
 * to it. */
struct reading {
    struct event_parser *parser;
    struct event *event;
    struct json_tokens tokens; /* of the body; token 0 is its first */
    struct error *err;
};

/* The members that route, with the field each becomes. */
static const struct member {
    const char *key;
    size_t size;
    enum event_field field;
} event_members[] = {
#define MEMBER(name, field)                                                                        \
    {                                                                                              \
        name, sizeof(name) - 1, field                                                              \
    }
    MEMBER("id", EVENT_ID),
    MEMBER("object_type", EVENT_OBJECT_TYPE),
    MEMBER("action", EVENT_ACTION),
    MEMBER("object_id", EVENT_OBJECT_ID),
    MEMBER("lead_id", EVENT_LEAD_ID),
    MEMBER("organization_id", EVENT_ORGANIZATION_ID),
    MEMBER("date_created", EVENT_DATE_CREATED),
    MEMBER("date_updated", EVENT_DATE_UPDATED),
};

enum top_index { TOP_EVENT, TOP_SUBSCRIPTION, TOP_DATA, TOP_ID, TOP_TIMESTAMP, TOP_COUNT };

static const struct member top_members[TOP_COUNT] = {
    [TOP_EVENT] = MEMBER("event", EVENT_OBJECT),
    [TOP_SUBSCRIPTION] = MEMBER("subscription_id", EVENT_SUBSCRIPTION_ID),
    [TOP_DATA] = MEMBER("data", EVENT_OBJECT),
    [TOP_ID] = MEMBER("id", EVENT_ID),
    [TOP_TIMESTAMP] = MEMBER("timestamp", EVENT_DATE_UPDATED),
};

enum data_index { DATA_ID, DATA_LEAD_ID, DATA_COUNT };

/* Of `data` in the older shape. */
static const struct member data_members[DATA_COUNT] = {
    [DATA_ID] = MEMBER("id", EVENT_OBJECT_ID),
    [DATA_LEAD_ID] = MEMBER("lead_id", EVENT_LEAD_ID),
#undef MEMBER
};

enum {
    EVENT_MEMBERS = sizeof(event_members) / sizeof(event_members[0]),
    MAX_MEMBERS = EVENT_MEMBERS, /* of the three lists */
    ABSENT = 0,                  /* no value is the body's first token */
};

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

/* These say -1 themselves, because the analyzer does not know that error_set() returns nothing
 * else. */
static int out_of_memory(struct error *err)
{
    error_set(err, ERROR_FATAL, "out of memory");
    return -1;
}

static int refuse(struct error *err, const char *reason)
{
    error_set(err, ERROR_INPUT, "%s", reason);
    return -1;
}

/* The numbers are too large for the parser, not for JSON: it judges the text without them. The
 * tokens of that copy lie at the same places. */
static enum json_verdict check_without_numbers(struct event_parser *parser, struct text body)
{
    static const char padding[JSON_PADDING];

    buf_clear(&parser->scratch);
    if (!json_blank_numbers(body, &parser->scratch))
        return JSON_INVALID;
    buf_append(&parser->scratch, padding, sizeof(padding));
    if (parser->scratch.failed)
        return JSON_NO_MEMORY;
    return json_reader_check(parser->reader, parser->scratch.data, body.size);
}

static int check_json(struct reading *reading)
{
    struct json_reader *reader = reading->parser->reader;
    struct text body = event_text(reading->event, EVENT_BODY);
    enum json_verdict verdict = json_reader_check(reader, body.data, body.size);

    if (verdict == JSON_NUMBER_TOO_LARGE)
        verdict = check_without_numbers(reading->parser, body);
    switch (verdict) {
    case JSON_VALID:
        break;
    case JSON_TOO_DEEP:
        error_set(reading->err, ERROR_INPUT, "the body is JSON nested deeper than %d",
                  JSON_MAX_DEPTH);
        return -1;
    case JSON_NO_MEMORY:
        return out_of_memory(reading->err);
    case JSON_INVALID:
    case JSON_NUMBER_TOO_LARGE:
        return refuse(reading->err, "the body is not JSON");
    }
    json_reader_tokens(reader, body.data, &reading->tokens);
    if (json_token(&reading->tokens, 0) != '{')
        return refuse(reading->err, "the body is not a JSON object");
    return 0;
}

/* Index of the member that has this name, `count` when it is another one. */
static size_t which_member(struct text key, const struct member *names, size_t count)
{
    size_t i = 0;

    while (i < count &&
           (key.size != names[i].size || memcmp(key.data, names[i].key, key.size) != 0))
        i++;
    if (i < count || !json_has_escape(key))
        return i;
    i = 0;
    while (i < count && !json_key_is(key, names[i].key))
        i++;
    return i;
}

/* Values of an object's members that have a meaning here. */
struct members {
    size_t values[MAX_MEMBERS]; /* tokens, or ABSENT */
    unsigned repeated;          /* bit i: the name of member i occurs twice */
    size_t end;                 /* token of the closing brace */
};

static void note_member(struct members *members, size_t i, size_t value)
{
    if (members->values[i] != ABSENT)
        members->repeated |= 1u << i;
    members->values[i] = value;
}

static void find_members(const struct reading *reading, size_t object, const struct member *names,
                         size_t count, struct members *out_members)
{
    struct json_member found;

    *out_members = (struct members){.end = object};
    while (json_token_member(&reading->tokens, &out_members->end, &found)) {
        size_t i = which_member(found.key, names, count);

        if (i < count)
            note_member(out_members, i, found.value);
    }
}

/* The body's members, and, on the way past it, those of the event in it. */
static void find_top_members(const struct reading *reading, struct members *out_top,
                             struct members *out_event)
{
    struct json_member found;

    *out_top = (struct members){0};
    while (json_token_member_here(&reading->tokens, &out_top->end, &found)) {
        size_t i = which_member(found.key, top_members, TOP_COUNT);

        if (i < TOP_COUNT)
            note_member(out_top, i, found.value);
        if (i == TOP_EVENT && json_token(&reading->tokens, found.value) == '{') {
            find_members(reading, found.value, event_members, EVENT_MEMBERS, out_event);
            out_top->end = out_event->end + 1;
        } else {
            out_top->end = json_token_skip(&reading->tokens, found.value);
        }
    }
}

/* Two programs could take different ones of two members with one name. */
static int refuse_repeated(const struct reading *reading, const struct member *names,
                           unsigned repeated)
{
    size_t i = 0;

    if (!repeated)
        return 0;
    while (!(repeated & 1u << i))
        i++;
    error_set(reading->err, ERROR_INPUT, "the member %s occurs twice", names[i].key);
    return -1;
}

static bool is_string(const struct reading *reading, size_t value)
{
    return value != ABSENT && json_token(&reading->tokens, value) == '"';
}

static int add_field(struct reading *reading, enum event_field field, struct text value)
{
    if (!event_add_field(reading->event, field, value))
        return out_of_memory(reading->err);
    reading->tokens.json = event_text(reading->event, EVENT_BODY).data;
    return 0;
}

/* Decodes a string into the parser's scratch. */
static int unescape(struct reading *reading, struct text inside, struct text *out_plain)
{
    struct buf *scratch = &reading->parser->scratch;

    buf_clear(scratch);
    if (!json_unescape(inside, scratch))
        return refuse(reading->err, "the body is not JSON");
    if (scratch->failed)
        return out_of_memory(reading->err);
    *out_plain = buf_text(scratch);
    return 0;
}

/* Makes a field of a string; other values leave it absent. */
static int set_string(struct reading *reading, enum event_field field, size_t value)
{
    struct text inside;
    struct text plain;

    if (!is_string(reading, value))
        return 0;
    inside = json_string_inside(json_token_value(&reading->tokens, value));
    if (!json_has_escape(inside)) {
        event_set_slice(reading->event, field, inside);
        return 0;
    }
    if (unescape(reading, inside, &plain) < 0)
        return -1;
    return add_field(reading, field, plain);
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
        return refuse(err, "the event has no id that is a string");
    if (id.size > MAX_ID || !text_is_clean(id))
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

/* What Close's Event Log once wrote for a type, under today's name: "note" is activity.note,
 * "status_change.lead" is activity.lead_status_change. `out` has room for both. */
static struct text todays_name(struct text type, char *out)
{
    static const char family[] = "activity.";
    static const char group[] = "status_change.";
    static const char kind[] = "_status_change";
    bool is_change = text_starts_with(type, group);
    size_t cut = is_change ? sizeof(group) - 1 : 0;
    size_t size = sizeof(family) - 1;

    memcpy(out, family, size);
    memcpy(out + size, type.data + cut, type.size - cut);
    size += type.size - cut;
    if (is_change) {
        memcpy(out + size, kind, sizeof(kind) - 1);
        size += sizeof(kind) - 1;
    }
    return (struct text){out, size};
}

/* Close's documents list custom_activity under activity, and its Event Log has been seen with older
 * names. */
static int resolve_aliases(struct reading *reading)
{
    struct text type = event_text(reading->event, EVENT_OBJECT_TYPE);
    struct text action = event_text(reading->event, EVENT_ACTION);
    char name[2 * MAX_TYPE];
    struct text resolved;
    bool is_older;

    if (!text_equal_string(type, "custom_activity") && !event_has(reading->event, EVENT_FROM_LOG))
        return 0;
    resolved = todays_name(type, name);
    is_older = !catalog_find(type, action) && catalog_find(resolved, action);
    if (!is_older && !text_equal_string(type, "custom_activity"))
        return 0;
    return add_field(reading, EVENT_OBJECT_TYPE, resolved);
}

static int finish(struct reading *reading)
{
    if (check_required(reading->event, reading->err) < 0)
        return -1;
    return resolve_aliases(reading);
}

static int read_event_object(struct reading *reading, size_t object, const struct members *members)
{
    if (refuse_repeated(reading, event_members, members->repeated) < 0)
        return -1;
    event_set_slice(reading->event, EVENT_OBJECT,
                    json_token_span(&reading->tokens, object, members->end));
    for (size_t i = 0; i < EVENT_MEMBERS; i++) {
        if (set_string(reading, event_members[i].field, members->values[i]) < 0)
            return -1;
    }
    return finish(reading);
}

/* ---- the older shape ---- */

struct old_shape {
    struct text type; /* of the name "lead.created" */
    struct text action;
    bool is_lead; /* data.id is a lead's: of lead.status_change too */
    size_t id;    /* these are tokens */
    size_t timestamp;
    size_t object_id;
    size_t lead_id;
    size_t data;
};

static int split_name(struct text name, struct old_shape *old, struct error *err)
{
    static const struct {
        const char *name;
        const char *type;
    } renamed[] = {
        {"opportunity.status_change", "activity.opportunity_status_change"},
        {"lead.status_change", "activity.lead_status_change"},
        {"custom_activity.created", "activity.custom_activity"},
    };
    size_t dot = name.size;

    old->is_lead = text_equal_string(name, "lead.status_change");
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
        return refuse(err, "the event's name has no object type before a dot");
    old->type = (struct text){name.data, dot - 1};
    old->action = (struct text){name.data + dot, name.size - dot};
    old->is_lead = text_equal_string(old->type, "lead");
    if (!is_type_name(old->type) || !is_type_name(old->action))
        return refuse(err, "the event's name is not an object type and an action");
    return 0;
}

static int read_old_data(const struct reading *reading, struct old_shape *old)
{
    struct members members;

    if (old->data == ABSENT || json_token(&reading->tokens, old->data) != '{')
        return 0;
    find_members(reading, old->data, data_members, DATA_COUNT, &members);
    old->object_id = members.values[DATA_ID];
    old->lead_id = members.values[DATA_LEAD_ID];
    if (!is_string(reading, old->lead_id) && old->is_lead)
        old->lead_id = old->object_id;
    return refuse_repeated(reading, data_members, members.repeated);
}

/* Appends a member with the bytes of a value as they were written. */
static void append_member(struct buf *out, const struct reading *reading, const char *key,
                          size_t value)
{
    buf_printf(out, ", \"%s\": ", key);
    if (value == ABSENT)
        buf_append_string(out, "null");
    else
        buf_append_text(out, json_token_value(&reading->tokens, value));
}

/* What is not a string is no id and no date. */
static void append_string_member(struct buf *out, const struct reading *reading, const char *key,
                                 size_t value)
{
    append_member(out, reading, key, is_string(reading, value) ? value : ABSENT);
}

/* Makes an event object of the older shape's members, in Close's order. */
static void build_object(struct buf *out, const struct reading *reading,
                         const struct old_shape *old)
{
    buf_append_string(out, "{\"id\": ");
    buf_append_text(out, json_token_value(&reading->tokens, old->id));
    append_string_member(out, reading, "date_created", old->timestamp);
    append_string_member(out, reading, "date_updated", old->timestamp);
    buf_append_string(out, ", \"object_type\": ");
    buf_append_json_string(out, old->type);
    append_string_member(out, reading, "object_id", old->object_id);
    append_string_member(out, reading, "lead_id", old->lead_id);
    buf_append_string(out, ", \"action\": ");
    buf_append_json_string(out, old->action);
    append_member(out, reading, "data", old->data);
    buf_append_char(out, '}');
}

static int add_made_object(struct reading *reading, const struct old_shape *old)
{
    struct buf object = {0};
    int rc;

    build_object(&object, reading, old);
    rc = object.failed ? out_of_memory(reading->err)
                       : add_field(reading, EVENT_OBJECT, buf_text(&object));
    buf_release(&object);
    return rc;
}

/* Everything that points into the block or the scratch comes before what moves them. */
static int set_old_fields(struct reading *reading, const struct old_shape *old)
{
    char names[2 * MAX_TYPE];
    struct text type = {names, old->type.size};
    struct text action = {names + MAX_TYPE, old->action.size};

    memcpy(names, old->type.data, type.size);
    memcpy(names + MAX_TYPE, old->action.data, action.size);
    if (add_made_object(reading, old) < 0 || add_field(reading, EVENT_OBJECT_TYPE, type) < 0 ||
        add_field(reading, EVENT_ACTION, action) < 0 ||
        set_string(reading, EVENT_ID, old->id) < 0 ||
        set_string(reading, EVENT_DATE_CREATED, old->timestamp) < 0 ||
        set_string(reading, EVENT_DATE_UPDATED, old->timestamp) < 0 ||
        set_string(reading, EVENT_OBJECT_ID, old->object_id) < 0 ||
        set_string(reading, EVENT_LEAD_ID, old->lead_id) < 0)
        return -1;
    return finish(reading);
}

static int normalise_old_shape(struct reading *reading, const size_t top[MAX_MEMBERS])
{
    struct old_shape old = {
        .id = top[TOP_ID], .timestamp = top[TOP_TIMESTAMP], .data = top[TOP_DATA]};
    struct text name = json_string_inside(json_token_value(&reading->tokens, top[TOP_EVENT]));

    if (!is_string(reading, old.id))
        return refuse(reading->err, "the event has no id that is a string");
    if (json_has_escape(name) && unescape(reading, name, &name) < 0)
        return -1;
    if (split_name(name, &old, reading->err) < 0 || read_old_data(reading, &old) < 0)
        return -1;
    return set_old_fields(reading, &old);
}

/* ---- bodies ---- */

static int read_body(struct reading *reading)
{
    static const unsigned of_both_shapes = 1u << TOP_EVENT | 1u << TOP_SUBSCRIPTION;
    struct members top;
    struct members event;
    size_t at;
    bool is_old;
    int rc;

    find_top_members(reading, &top, &event);
    at = top.values[TOP_EVENT];
    is_old = is_string(reading, at);
    if (refuse_repeated(reading, top_members,
                        is_old ? top.repeated : top.repeated & of_both_shapes) < 0)
        return -1;
    if (at == ABSENT)
        return refuse(reading->err, "the body has no event");
    if (!is_old && json_token(&reading->tokens, at) != '{')
        return refuse(reading->err, "the event is neither an object nor a name");
    rc = is_old ? normalise_old_shape(reading, top.values) : read_event_object(reading, at, &event);
    return rc < 0 ? -1 : set_string(reading, EVENT_SUBSCRIPTION_ID, top.values[TOP_SUBSCRIPTION]);
}

static int read_log_entry(struct reading *reading)
{
    struct members members;

    find_members(reading, 0, event_members, EVENT_MEMBERS, &members);
    return read_event_object(reading, 0, &members);
}

static struct event *parse(struct event_parser *parser, const struct event_origin *origin,
                           struct text body, int (*read)(struct reading *), struct error *err)
{
    struct reading reading = {.parser = parser, .err = err};

    reading.event = event_new(origin, body, JSON_PADDING);
    if (!reading.event) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    if (check_json(&reading) == 0 && read(&reading) == 0)
        return reading.event;
    event_unref(reading.event);
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
    struct event_origin opaque = {.account = origin->account,
                                  .received_ms = origin->received_ms,
                                  .flags = origin->flags | EVENT_IS_OPAQUE};

    return event_new(&opaque, body, 0);
}
