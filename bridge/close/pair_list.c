#include "bridge/close/pair_list.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "schemas/json_compare.h"

static bool is_same_kind(const struct subscribed_pair *a, const struct subscribed_pair *b)
{
    return strcmp(a->object_type, b->object_type) == 0 && strcmp(a->action, b->action) == 0;
}

static size_t index_of(const struct subscribed_pairs *list, const struct subscribed_pair *pair)
{
    size_t i = 0;

    while (i < list->count && !is_same_kind(&list->pairs[i], pair))
        i++;
    return i;
}

const struct subscribed_pair *pair_list_find(const struct subscribed_pairs *list,
                                             const struct subscribed_pair *pair)
{
    size_t i = index_of(list, pair);

    return i < list->count ? &list->pairs[i] : NULL;
}

bool pair_has_filter_of(const struct subscribed_pair *a, const struct subscribed_pair *b)
{
    if (!a->extra_filter || !b->extra_filter)
        return !a->extra_filter && !b->extra_filter;
    return strcmp(a->extra_filter, b->extra_filter) == 0 ||
           json_equal(text_of(a->extra_filter), text_of(b->extra_filter));
}

bool pair_list_equal(const struct subscribed_pairs *a, const struct subscribed_pairs *b,
                     bool with_filters)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct subscribed_pair *other = pair_list_find(b, &a->pairs[i]);

        if (!other || (with_filters && !pair_has_filter_of(&a->pairs[i], other)))
            return false;
    }
    for (size_t i = 0; i < b->count; i++) {
        if (!pair_list_find(a, &b->pairs[i]))
            return false;
    }
    return true;
}

static void free_pair(struct subscribed_pair *pair)
{
    free(pair->object_type);
    free(pair->action);
    free(pair->extra_filter);
}

static struct subscribed_pair copy_pair(const struct subscribed_pair *pair)
{
    return (struct subscribed_pair){
        .object_type = alloc_string(pair->object_type),
        .action = alloc_string(pair->action),
        .extra_filter = pair->extra_filter ? alloc_string(pair->extra_filter) : NULL,
    };
}

static void append(struct subscribed_pairs *list, const struct subscribed_pair *pair)
{
    struct subscribed_pair *pairs = alloc_zeroed(list->count + 1, sizeof(*pairs));

    if (list->count)
        memcpy(pairs, list->pairs, list->count * sizeof(*pairs));
    pairs[list->count] = copy_pair(pair);
    free(list->pairs);
    list->pairs = pairs;
    list->count++;
}

void pair_list_put(struct subscribed_pairs *list, const struct subscribed_pair *pair)
{
    size_t i = index_of(list, pair);

    if (i == list->count) {
        append(list, pair);
    } else {
        struct subscribed_pair copy = copy_pair(pair);

        free_pair(&list->pairs[i]);
        list->pairs[i] = copy;
    }
}

void pair_list_remove(struct subscribed_pairs *list, const struct subscribed_pair *pair)
{
    size_t i = index_of(list, pair);

    if (i == list->count)
        return;
    free_pair(&list->pairs[i]);
    list->count--;
    memmove(&list->pairs[i], &list->pairs[i + 1], (list->count - i) * sizeof(*list->pairs));
}

void pair_list_copy(struct subscribed_pairs *list, const struct subscribed_pairs *source)
{
    struct subscribed_pairs copy = {alloc_zeroed(source->count + 1, sizeof(*copy.pairs)),
                                    source->count};

    for (size_t i = 0; i < source->count; i++)
        copy.pairs[i] = copy_pair(&source->pairs[i]);
    subscribed_pairs_release(list);
    *list = copy;
}

void pair_list_append_difference(const struct subscribed_pairs *a, const struct subscribed_pairs *b,
                                 struct buf *json)
{
    const char *comma = "";

    buf_append_char(json, '[');
    for (size_t i = 0; i < a->count; i++) {
        if (pair_list_find(b, &a->pairs[i]))
            continue;
        buf_printf(json, "%s[", comma);
        buf_append_json_string(json, text_of(a->pairs[i].object_type));
        buf_append_char(json, ',');
        buf_append_json_string(json, text_of(a->pairs[i].action));
        buf_append_char(json, ']');
        comma = ",";
    }
    buf_append_char(json, ']');
}

void pair_list_append_events(const struct subscribed_pairs *list, struct buf *json)
{
    buf_append_char(json, '[');
    for (size_t i = 0; i < list->count; i++) {
        const struct subscribed_pair *pair = &list->pairs[i];

        buf_append_string(json, i ? ",{\"object_type\":" : "{\"object_type\":");
        buf_append_json_string(json, text_of(pair->object_type));
        buf_append_string(json, ",\"action\":");
        buf_append_json_string(json, text_of(pair->action));
        if (pair->extra_filter)
            buf_printf(json, ",\"extra_filter\":%s", pair->extra_filter);
        buf_append_char(json, '}');
    }
    buf_append_char(json, ']');
}
