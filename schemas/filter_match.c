/* Evaluates filters, on JSON that was judged when the event was accepted. */
#include <string.h>

#include "schemas/event.h"
#include "schemas/filter.h"
#include "schemas/filter_internal.h"
#include "schemas/json_compare.h"
#include "schemas/json_scan.h"

static const struct text json_null = {"null", 4};

/* A flat key such as custom.cf_x first, as Close writes custom fields, then one level of the path
 * after the other. */
static bool access_field(struct text value, const char *field, struct text *out_found)
{
    struct text inner;

    if (json_find_member(value, text_of(field), out_found))
        return true;
    for (const char *dot = strchr(field, '.'); dot; dot = strchr(dot + 1, '.')) {
        if (json_find_member(value, (struct text){field, (size_t)(dot - field)}, &inner))
            return access_field(inner, dot + 1, out_found);
    }
    return false;
}

/* What a filter looks at: the event, and the part of it that most fields are meant of. */
struct subject {
    struct text event;
    struct text data; /* previous_data of a deletion */
};

/* What is missing is null. At the root a field is a member of the event (data, user_id ...), as
 * Close reads it, or else of its data. */
static struct text access_from(const struct subject *subject, struct text value, const char *field)
{
    bool is_root = value.data == subject->event.data;
    struct text found;

    if (access_field(value, field, &found) ||
        (is_root && access_field(subject->data, field, &found)))
        return found;
    return json_null;
}

static bool passes(const struct subject *subject, const struct filter_node *node,
                   struct text value);

static bool any_passes(const struct subject *subject, const struct filter_node *node,
                       struct text array)
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

static bool count_passes(const struct subject *subject, const struct filter_node *node,
                         struct text value, bool wanted)
{
    for (size_t i = 0; i < node->child_count; i++) {
        if (passes(subject, node->children[i], value) == wanted)
            return true;
    }
    return false;
}

static bool passes(const struct subject *subject, const struct filter_node *node, struct text value)
{
    switch (node->type) {
    case OP_EQUALS:
        return json_equal(value, node->value);
    case OP_NOT_EQUALS:
        return !json_equal(value, node->value);
    case OP_IS_NULL:
        return json_is_null(value);
    case OP_NON_NULL:
        return !json_is_null(value);
    case OP_CONTAINS:
        return json_contains(value, node->value);
    case OP_AND:
        return !count_passes(subject, node, value, false);
    case OP_OR:
        return count_passes(subject, node, value, true);
    case OP_NOT:
        return !passes(subject, node->children[0], value);
    case OP_FIELD_ACCESSOR:
        return passes(subject, node->children[0], access_from(subject, value, node->field));
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
    struct subject subject = {.event = event_text(event, EVENT_OBJECT), .data = json_null};

    if (event_has(event, EVENT_IS_OPAQUE) || subject.event.size == 0)
        return false;
    json_find_member(subject.event, text_of(is_deletion ? "previous_data" : "data"), &subject.data);
    return passes(&subject, filter->root, subject.event);
}
