#include "schemas/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { MAX_DEPTH = 32, MAX_SIZE = 64 * 1024, MAX_NUMBER = 64 };

enum operator_type {
    OP_EQUALS,
    OP_NOT_EQUALS,
    OP_IS_NULL,
    OP_NON_NULL,
    OP_CONTAINS,
    OP_AND,
    OP_OR,
    OP_NOT,
    OP_FIELD_ACCESSOR,
    OP_ANY_ARRAY_VALUE,
    OP_COUNT
};

enum needs { NEEDS_NOTHING, NEEDS_VALUE, NEEDS_FILTER, NEEDS_FILTERS, NEEDS_FIELD_AND_FILTER };

static const struct {
    const char *name;
    enum needs needs;
} operators[OP_COUNT] = {
    [OP_EQUALS] = {"equals", NEEDS_VALUE},
    [OP_NOT_EQUALS] = {"not_equals", NEEDS_VALUE},
    [OP_IS_NULL] = {"is_null", NEEDS_NOTHING},
    [OP_NON_NULL] = {"non_null", NEEDS_NOTHING},
    [OP_CONTAINS] = {"contains", NEEDS_VALUE},
    [OP_AND] = {"and", NEEDS_FILTERS},
    [OP_OR] = {"or", NEEDS_FILTERS},
    [OP_NOT] = {"not", NEEDS_FILTER},
    [OP_FIELD_ACCESSOR] = {"field_accessor", NEEDS_FIELD_AND_FILTER},
    [OP_ANY_ARRAY_VALUE] = {"any_array_value", NEEDS_FILTER},
};

struct node {
    enum operator_type type;
    struct text value; /* JSON, inside the filter's text */
    char *field;       /* decoded */
    struct node **children;
    size_t child_count;
};

struct filter {
    char *json;
    size_t size;
    struct node *root;
};

static const struct text json_null = {"null", 4};

static void free_node(struct node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->child_count; i++)
        free_node(node->children[i]);
    free(node->children);
    free(node->field);
    free(node);
}

/* ---- compiling ---- */

struct members {
    struct text type;
    struct text value;
    struct text filter;
    struct text filters;
    struct text field;
};

static int read_members(struct text json, struct members *members, struct error *err)
{
    struct {
        const char *key;
        struct text *place;
    } known[] = {
        {"type", &members->type},       {"value", &members->value}, {"filter", &members->filter},
        {"filters", &members->filters}, {"field", &members->field},
    };
    struct json_cursor cursor;
    struct text key;
    struct text value;

    if (!json_object_begin(&cursor, json))
        return error_set(err, ERROR_CONFIG, "a filter is a mapping with a type");
    while (json_object_next(&cursor, &key, &value)) {
        size_t i = 0;

        while (i < sizeof(known) / sizeof(known[0]) && !json_key_is(key, known[i].key))
            i++;
        if (i == sizeof(known) / sizeof(known[0]))
            return error_set(err, ERROR_CONFIG,
                             "a filter has no member \"%.*s\"; it has type, value, filter, filters "
                             "and field",
                             (int)(key.size > 40 ? 40 : key.size), key.data);
        *known[i].place = value;
    }
    return 0;
}

static int find_operator(struct text type, enum operator_type *out_type, struct error *err)
{
    if (!json_is_string(type))
        return error_set(err, ERROR_CONFIG, "a filter needs a type that is a string");
    type = json_string_inside(type);
    for (int i = 0; i < OP_COUNT; i++) {
        if (text_equal_string(type, operators[i].name)) {
            *out_type = (enum operator_type)i;
            return 0;
        }
    }
    return error_set(err, ERROR_CONFIG,
                     "unknown filter type \"%.*s\"; there are equals, not_equals, is_null, "
                     "non_null, contains, and, or, not, field_accessor, any_array_value",
                     (int)(type.size > 40 ? 40 : type.size), type.data);
}

static struct node *compile(struct text json, int depth, struct error *err);

static int add_child(struct node *node, struct text json, int depth, struct error *err)
{
    struct node **children =
        realloc(node->children, (node->child_count + 1) * sizeof(struct node *));

    if (!children)
        return error_set(err, ERROR_FATAL, "out of memory");
    node->children = children;
    children[node->child_count] = compile(json, depth + 1, err);
    if (!children[node->child_count])
        return -1;
    node->child_count++;
    return 0;
}

static int add_children(struct node *node, struct text filters, int depth, struct error *err)
{
    struct json_cursor cursor;
    struct text filter;

    if (!filters.data || !json_array_begin(&cursor, filters))
        return error_set(err, ERROR_CONFIG, "%s needs filters, a list", operators[node->type].name);
    while (json_array_next(&cursor, &filter)) {
        if (add_child(node, filter, depth, err) < 0)
            return -1;
    }
    if (node->child_count == 0)
        return error_set(err, ERROR_CONFIG, "%s needs at least one filter in filters",
                         operators[node->type].name);
    return 0;
}

static int set_field(struct node *node, struct text field, struct error *err)
{
    struct buf plain = {0};

    if (!field.data || !json_is_string(field) || field.size == 2)
        return error_set(err, ERROR_CONFIG, "field_accessor needs a field, the name of a member");
    if (json_unescape(json_string_inside(field), &plain))
        node->field = text_dup(buf_text(&plain));
    buf_release(&plain);
    return node->field ? 0 : error_set(err, ERROR_FATAL, "out of memory");
}

static int fill_node(struct node *node, const struct members *members, int depth, struct error *err)
{
    const char *name = operators[node->type].name;

    switch (operators[node->type].needs) {
    case NEEDS_NOTHING:
        return 0;
    case NEEDS_VALUE:
        node->value = members->value;
        return members->value.data ? 0 : error_set(err, ERROR_CONFIG, "%s needs a value", name);
    case NEEDS_FILTERS:
        return add_children(node, members->filters, depth, err);
    case NEEDS_FIELD_AND_FILTER:
        if (set_field(node, members->field, err) < 0)
            return -1;
        break;
    case NEEDS_FILTER:
        break;
    }
    if (!members->filter.data)
        return error_set(err, ERROR_CONFIG, "%s needs a filter", name);
    return add_child(node, members->filter, depth, err);
}

static struct node *compile(struct text json, int depth, struct error *err)
{
    struct members members = {0};
    struct node *node;

    if (depth > MAX_DEPTH) {
        error_set(err, ERROR_CONFIG, "filters are nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    node = calloc(1, sizeof(*node));
    if (!node) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    if (read_members(json, &members, err) < 0 ||
        find_operator(members.type, &node->type, err) < 0 ||
        fill_node(node, &members, depth, err) < 0) {
        free_node(node);
        return NULL;
    }
    return node;
}

static int check_text(struct text json, struct error *err)
{
    static const char padding[JSON_PADDING];
    struct json_reader *reader = json_reader_new();
    struct buf padded = {0};
    enum json_verdict verdict = JSON_NO_MEMORY;

    if (json.size > MAX_SIZE) {
        json_reader_free(reader);
        return error_set(err, ERROR_CONFIG, "a filter has at most %d bytes", MAX_SIZE);
    }
    buf_append_text(&padded, json);
    buf_append(&padded, padding, sizeof(padding));
    if (reader && !padded.failed)
        verdict = json_reader_check(reader, padded.data, json.size);
    buf_release(&padded);
    json_reader_free(reader);
    if (verdict == JSON_NO_MEMORY)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (verdict != JSON_VALID)
        return error_set(err, ERROR_CONFIG, "the filter is not JSON");
    return 0;
}

struct filter *filter_compile(struct text json, struct error *err)
{
    struct filter *filter;

    if (check_text(json, err) < 0)
        return NULL;
    filter = calloc(1, sizeof(*filter));
    if (filter)
        filter->json = text_dup(json);
    if (!filter || !filter->json) {
        error_set(err, ERROR_FATAL, "out of memory");
        filter_free(filter);
        return NULL;
    }
    filter->size = json.size;
    filter->root = compile(json_document((struct text){filter->json, filter->size}), 0, err);
    if (filter->root)
        return filter;
    filter_free(filter);
    return NULL;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    free_node(filter->root);
    free(filter->json);
    free(filter);
}

struct text filter_json(const struct filter *filter)
{
    return json_document((struct text){filter->json, filter->size});
}

/* ---- evaluating: on JSON that was judged when the event was accepted ---- */

static bool is_number(struct text value)
{
    return value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9');
}

static bool numbers_equal(struct text a, struct text b)
{
    char left[MAX_NUMBER + 1] = "";
    char right[MAX_NUMBER + 1] = "";
    double x;
    double y;

    if (text_equal(a, b))
        return true;
    if (a.size > MAX_NUMBER || b.size > MAX_NUMBER)
        return false;
    memcpy(left, a.data, a.size);
    memcpy(right, b.data, b.size);
    x = strtod(left, NULL);
    y = strtod(right, NULL);
    /* Integers that a double cannot tell apart are equal only by their digits. */
    return !(x < y) && !(x > y) && fabs(x) <= 9007199254740992.0;
}

/* Appends the decoded bytes of a JSON string. */
static void decode(struct text string, struct buf *out)
{
    json_unescape(json_string_inside(string), out);
}

static bool strings_equal(struct text a, struct text b)
{
    struct buf left = {0};
    struct buf right = {0};
    bool equal;

    if (!json_has_escape(a) && !json_has_escape(b))
        return text_equal(a, b);
    decode(a, &left);
    decode(b, &right);
    equal = text_equal(buf_text(&left), buf_text(&right));
    buf_release(&left);
    buf_release(&right);
    return equal;
}

static bool values_equal(struct text a, struct text b, int depth);

static bool arrays_equal(struct text a, struct text b, int depth)
{
    struct json_cursor left;
    struct json_cursor right;
    struct text x;
    struct text y;

    json_array_begin(&left, a);
    json_array_begin(&right, b);
    while (json_array_next(&left, &x)) {
        if (!json_array_next(&right, &y) || !values_equal(x, y, depth + 1))
            return false;
    }
    return !json_array_next(&right, &y);
}

static bool find_member(struct text object, const char *name, size_t size, struct text *out_value)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    char *wanted = text_dup((struct text){name, size});
    bool found = false;

    if (wanted && json_object_begin(&cursor, object)) {
        while (!found && json_object_next(&cursor, &key, &value)) {
            found = json_key_is(key, wanted);
            if (found)
                *out_value = value;
        }
    }
    free(wanted);
    return found;
}

static size_t count_members(struct text object)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    size_t count = 0;

    json_object_begin(&cursor, object);
    while (json_object_next(&cursor, &key, &value))
        count++;
    return count;
}

static bool objects_equal(struct text a, struct text b, int depth)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    struct text other;

    if (count_members(a) != count_members(b))
        return false;
    json_object_begin(&cursor, a);
    while (json_object_next(&cursor, &key, &value)) {
        struct buf plain = {0};
        bool same;

        json_unescape(key, &plain);
        same = find_member(b, buf_text(&plain).data, plain.size, &other) &&
               values_equal(value, other, depth + 1);
        buf_release(&plain);
        if (!same)
            return false;
    }
    return true;
}

/* Typed, as JSON values: 1 equals 1.0, "1" does not. */
static bool values_equal(struct text a, struct text b, int depth)
{
    if (depth > JSON_MAX_DEPTH)
        return false;
    if (is_number(a) || is_number(b))
        return is_number(a) && is_number(b) && numbers_equal(a, b);
    if (a.data[0] != b.data[0])
        return false;
    switch (a.data[0]) {
    case '"':
        return strings_equal(a, b);
    case '[':
        return arrays_equal(a, b, depth);
    case '{':
        return objects_equal(a, b, depth);
    default:
        return text_equal(a, b);
    }
}

static bool string_contains(struct text string, struct text part)
{
    struct buf whole = {0};
    struct buf wanted = {0};
    bool found;

    decode(string, &whole);
    decode(part, &wanted);
    found = wanted.size == 0 ||
            (whole.size > 0 && memmem(whole.data, whole.size, wanted.data, wanted.size) != NULL);
    buf_release(&whole);
    buf_release(&wanted);
    return found;
}

static bool contains(struct text value, struct text wanted)
{
    struct json_cursor cursor;
    struct text element;

    if (json_is_string(value))
        return json_is_string(wanted) && string_contains(value, wanted);
    if (!json_array_begin(&cursor, value))
        return false;
    while (json_array_next(&cursor, &element)) {
        if (values_equal(element, wanted, 0))
            return true;
    }
    return false;
}

/* A flat key such as custom.cf_x first, as Close writes custom fields, then one level of the path
 * after the other. */
static struct text access_field(struct text value, const char *field)
{
    struct text found;
    const char *dot;

    if (value.data[0] != '{')
        return json_null;
    if (find_member(value, field, strlen(field), &found))
        return found;
    for (dot = strchr(field, '.'); dot; dot = strchr(dot + 1, '.')) {
        if (find_member(value, field, (size_t)(dot - field), &found))
            return access_field(found, dot + 1);
    }
    return json_null;
}

/* What a filter looks at: the event, and the part of it that most fields are meant of. */
struct subject {
    struct text event;
    struct text data; /* previous_data of a deletion */
};

/* At the root a field is a member of the event (data, previous_data, user_id ...), or else of its
 * data. */
static struct text access_root(const struct subject *subject, const char *field)
{
    struct text found;

    if (find_member(subject->event, field, strlen(field), &found))
        return found;
    found = access_field(subject->event, field);
    return json_is_null(found) ? access_field(subject->data, field) : found;
}

static bool passes(const struct subject *subject, const struct node *node, struct text value);

static bool any_passes(const struct subject *subject, const struct node *node, struct text array)
{
    struct json_cursor cursor;
    struct text element;

    if (!json_array_begin(&cursor, array))
        return false;
    while (json_array_next(&cursor, &element)) {
        if (passes(subject, node, element))
            return true;
    }
    return false;
}

static bool count_passes(const struct subject *subject, const struct node *node, struct text value,
                         bool wanted)
{
    for (size_t i = 0; i < node->child_count; i++) {
        if (passes(subject, node->children[i], value) == wanted)
            return true;
    }
    return false;
}

static bool passes(const struct subject *subject, const struct node *node, struct text value)
{
    switch (node->type) {
    case OP_EQUALS:
        return values_equal(value, node->value, 0);
    case OP_NOT_EQUALS:
        return !values_equal(value, node->value, 0);
    case OP_IS_NULL:
        return json_is_null(value);
    case OP_NON_NULL:
        return !json_is_null(value);
    case OP_CONTAINS:
        return contains(value, node->value);
    case OP_AND:
        return !count_passes(subject, node, value, false);
    case OP_OR:
        return count_passes(subject, node, value, true);
    case OP_NOT:
        return !passes(subject, node->children[0], value);
    case OP_FIELD_ACCESSOR:
        return passes(subject, node->children[0],
                      value.data == subject->event.data ? access_root(subject, node->field)
                                                        : access_field(value, node->field));
    case OP_ANY_ARRAY_VALUE:
        return any_passes(subject, node->children[0], value);
    case OP_COUNT:
        break;
    }
    return false;
}

bool filter_matches(const struct filter *filter, const struct event *event)
{
    bool is_deletion = text_equal_string(event_text(event, EVENT_ACTION), "deleted");
    const char *root = is_deletion ? "previous_data" : "data";
    struct subject subject = {.event = event_text(event, EVENT_OBJECT)};

    if (!find_member(subject.event, root, strlen(root), &subject.data))
        return false;
    return passes(&subject, filter->root, subject.event);
}
