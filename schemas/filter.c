#include "schemas/filter.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/filter_internal.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { MAX_DEPTH = 32, MAX_SIZE = 64 * 1024 };

enum member {
    MEMBER_TYPE,
    MEMBER_FIELD,
    MEMBER_VALUE,
    MEMBER_FILTER,
    MEMBER_FILTERS,
    MEMBER_COUNT
};

static const char *const member_names[MEMBER_COUNT] = {
    [MEMBER_TYPE] = "type",     [MEMBER_FIELD] = "field",     [MEMBER_VALUE] = "value",
    [MEMBER_FILTER] = "filter", [MEMBER_FILTERS] = "filters",
};

/* All members of an operator are required. */
#define HAS(member) (1u << (member))

static const struct {
    const char *name;
    unsigned members; /* besides the type */
    const char *has;  /* the same for messages */
} operators[OP_COUNT] = {
    [OP_EQUALS] = {"equals", HAS(MEMBER_VALUE), "type and value"},
    [OP_NOT_EQUALS] = {"not_equals", HAS(MEMBER_VALUE), "type and value"},
    [OP_IS_NULL] = {"is_null", 0, "only type"},
    [OP_NON_NULL] = {"non_null", 0, "only type"},
    [OP_CONTAINS] = {"contains", HAS(MEMBER_VALUE), "type and value"},
    [OP_AND] = {"and", HAS(MEMBER_FILTERS), "type and filters"},
    [OP_OR] = {"or", HAS(MEMBER_FILTERS), "type and filters"},
    [OP_NOT] = {"not", HAS(MEMBER_FILTER), "type and filter"},
    [OP_FIELD_ACCESSOR] = {"field_accessor", HAS(MEMBER_FIELD) | HAS(MEMBER_FILTER),
                           "type, field and filter"},
    [OP_ANY_ARRAY_VALUE] = {"any_array_value", HAS(MEMBER_FILTER), "type and filter"},
};

const char *filter_operator_name(enum filter_operator type)
{
    return operators[type].name;
}

static void free_node(struct filter_node *node)
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

/* Says -1 itself: the compiler does not know that error_set() returns nothing else. */
static int name_member(struct text key, enum member *out_member, struct error *err)
{
    for (int i = 0; i < MEMBER_COUNT; i++) {
        if (json_key_is(key, member_names[i])) {
            *out_member = (enum member)i;
            return 0;
        }
    }
    error_set(err, ERROR_CONFIG,
              "a filter has no member \"%.*s\"; it has type, field, value, filter and filters",
              (int)(key.size > 40 ? 40 : key.size), key.data);
    return -1;
}

static int read_members(struct text json, struct text members[MEMBER_COUNT], struct error *err)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    if (!json_object_begin(&cursor, json))
        return error_set(err, ERROR_CONFIG, "a filter is a mapping with a type");
    while (json_object_next(&cursor, &key, &value)) {
        enum member member;

        if (name_member(key, &member, err) < 0)
            return -1;
        if (members[member].data)
            return error_set(err, ERROR_CONFIG, "a filter has \"%s\" twice", member_names[member]);
        members[member] = value;
    }
    return 0;
}

static int find_operator(struct text type, enum filter_operator *out_type, struct error *err)
{
    if (!json_is_string(type))
        return error_set(err, ERROR_CONFIG, "a filter needs a type that is a string");
    type = json_string_inside(type);
    for (int i = 0; i < OP_COUNT; i++) {
        if (text_equal_string(type, operators[i].name)) {
            *out_type = (enum filter_operator)i;
            return 0;
        }
    }
    return error_set(err, ERROR_CONFIG,
                     "unknown filter type \"%.*s\"; there are equals, not_equals, is_null, "
                     "non_null, contains, and, or, not, field_accessor, any_array_value",
                     (int)(type.size > 40 ? 40 : type.size), type.data);
}

static struct filter_node *compile(struct text json, int depth, struct error *err);

static int add_child(struct filter_node *node, struct text json, int depth, struct error *err)
{
    struct filter_node **children =
        realloc(node->children, (node->child_count + 1) * sizeof(struct filter_node *));

    if (!children)
        return error_set(err, ERROR_FATAL, "out of memory");
    node->children = children;
    children[node->child_count] = compile(json, depth + 1, err);
    if (!children[node->child_count])
        return -1;
    node->child_count++;
    return 0;
}

static int add_children(struct filter_node *node, struct text filters, int depth, struct error *err)
{
    struct json_cursor cursor;
    struct text filter;

    if (!json_array_begin(&cursor, filters))
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

static int set_field(struct filter_node *node, struct text field, struct error *err)
{
    struct buf plain = {0};

    if (!json_is_string(field) || field.size == 2)
        return error_set(err, ERROR_CONFIG, "field_accessor needs a field, the name of a member");
    if (json_unescape(json_string_inside(field), &plain) && !plain.failed)
        node->field = text_dup(buf_text(&plain));
    if (node->field && strlen(node->field) != plain.size) {
        buf_release(&plain);
        return error_set(err, ERROR_CONFIG, "the field of a field_accessor has no NUL");
    }
    buf_release(&plain);
    return node->field ? 0 : error_set(err, ERROR_FATAL, "out of memory");
}

static int set_value(struct filter_node *node, struct text value, struct error *err)
{
    struct json_cursor cursor;
    struct text token;
    int depth = 0;

    json_tokens_begin(&cursor, value);
    while (json_tokens_next(&cursor, &token)) {
        depth += *token.data == '[' || *token.data == '{';
        depth -= *token.data == ']' || *token.data == '}';
        if (depth > MAX_DEPTH)
            return error_set(err, ERROR_CONFIG, "the value of %s is nested deeper than %d",
                             operators[node->type].name, MAX_DEPTH);
    }
    node->value = value;
    return 0;
}

/* Members that the operator does not have are mistakes too: they would have no effect. */
static int check_members(enum filter_operator type, const struct text members[MEMBER_COUNT],
                         struct error *err)
{
    const char *name = operators[type].name;

    for (int i = MEMBER_FIELD; i < MEMBER_COUNT; i++) {
        if (members[i].data && !(operators[type].members & HAS(i)))
            return error_set(err, ERROR_CONFIG, "%s has no member \"%s\"; it has %s", name,
                             member_names[i], operators[type].has);
    }
    for (int i = MEMBER_FIELD; i < MEMBER_COUNT; i++) {
        if (!members[i].data && operators[type].members & HAS(i))
            return error_set(err, ERROR_CONFIG, "%s needs %s%s", name,
                             i == MEMBER_FILTERS ? "" : "a ", member_names[i]);
    }
    return 0;
}

static int fill_node(struct filter_node *node, const struct text members[MEMBER_COUNT], int depth,
                     struct error *err)
{
    if (check_members(node->type, members, err) < 0)
        return -1;
    if (members[MEMBER_FIELD].data && set_field(node, members[MEMBER_FIELD], err) < 0)
        return -1;
    if (members[MEMBER_VALUE].data && set_value(node, members[MEMBER_VALUE], err) < 0)
        return -1;
    if (members[MEMBER_FILTERS].data)
        return add_children(node, members[MEMBER_FILTERS], depth, err);
    return members[MEMBER_FILTER].data ? add_child(node, members[MEMBER_FILTER], depth, err) : 0;
}

static struct filter_node *compile(struct text json, int depth, struct error *err)
{
    struct text members[MEMBER_COUNT] = {{NULL, 0}};
    struct filter_node *node;

    if (depth > MAX_DEPTH) {
        error_set(err, ERROR_CONFIG, "filters are nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    node = calloc(1, sizeof(*node));
    if (!node) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    if (read_members(json, members, err) < 0 ||
        find_operator(members[MEMBER_TYPE], &node->type, err) < 0 ||
        fill_node(node, members, depth, err) < 0) {
        free_node(node);
        return NULL;
    }
    return node;
}

/* The verdict on the text without its numbers when one of them is too large for the parser, which
 * JSON does not mind. */
static enum json_verdict judge(struct json_reader *reader, struct text json, struct buf *padded)
{
    static const char padding[JSON_PADDING];
    enum json_verdict verdict;

    buf_append_text(padded, json);
    buf_append(padded, padding, sizeof(padding));
    if (padded->failed)
        return JSON_NO_MEMORY;
    verdict = json_reader_check(reader, padded->data, json.size);
    if (verdict != JSON_NUMBER_TOO_LARGE)
        return verdict;
    buf_clear(padded);
    if (!json_blank_numbers(json, padded))
        return JSON_INVALID;
    buf_append(padded, padding, sizeof(padding));
    return padded->failed ? JSON_NO_MEMORY : json_reader_check(reader, padded->data, json.size);
}

static int check_text(struct text json, struct error *err)
{
    struct json_reader *reader;
    struct buf padded = {0};
    enum json_verdict verdict;

    if (json.size > MAX_SIZE)
        return error_set(err, ERROR_CONFIG, "a filter has at most %d bytes", MAX_SIZE);
    reader = json_reader_new();
    verdict = reader ? judge(reader, json, &padded) : JSON_NO_MEMORY;
    buf_release(&padded);
    json_reader_free(reader);
    switch (verdict) {
    case JSON_VALID:
        return 0;
    case JSON_NO_MEMORY:
        return error_set(err, ERROR_FATAL, "out of memory");
    case JSON_TOO_DEEP:
        return error_set(err, ERROR_CONFIG, "filters are nested deeper than %d", MAX_DEPTH);
    case JSON_INVALID:
    case JSON_NUMBER_TOO_LARGE:
        break;
    }
    return error_set(err, ERROR_CONFIG, "the filter is not JSON");
}

static int fill_filter(struct filter *filter, struct text json, struct error *err)
{
    filter->source = text_dup(json);
    if (!filter->source)
        return error_set(err, ERROR_FATAL, "out of memory");
    filter->root = compile(json_document((struct text){filter->source, json.size}), 0, err);
    if (!filter->root)
        return -1;
    filter_write(filter->root, &filter->normal);
    return filter->normal.failed ? error_set(err, ERROR_FATAL, "out of memory") : 0;
}

struct filter *filter_compile(struct text json, struct error *err)
{
    struct filter *filter;

    if (check_text(json, err) < 0)
        return NULL;
    filter = calloc(1, sizeof(*filter));
    if (!filter) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    if (fill_filter(filter, json, err) == 0)
        return filter;
    filter_free(filter);
    return NULL;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    free_node(filter->root);
    buf_release(&filter->normal);
    free(filter->source);
    free(filter);
}

struct text filter_json(const struct filter *filter)
{
    return buf_text(&filter->normal);
}
