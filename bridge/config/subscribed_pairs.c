#include "bridge/config/subscribed_pairs.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "schemas/catalog.h"
#include "schemas/filter.h"

void subscribed_pairs_release(struct subscribed_pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        free(pairs->pairs[i].object_type);
        free(pairs->pairs[i].action);
        free(pairs->pairs[i].extra_filter);
    }
    free(pairs->pairs);
    *pairs = (struct subscribed_pairs){0};
}

/* The different filters of a pair. */
struct filters {
    struct buf list; /* JSON texts, each terminated */
    struct buf one;  /* the text at hand */
    size_t count;
};

static bool has_filter(const struct filters *filters)
{
    const char *end = filters->list.data + filters->list.size;

    for (const char *at = filters->list.data; at && at < end; at += strlen(at) + 1) {
        if (strcmp(at, filters->one.data) == 0)
            return true;
    }
    return false;
}

static void add_filter(struct filters *filters, const struct filter *filter, bool is_deletion)
{
    buf_clear(&filters->one);
    filter_append_for_close(filter, is_deletion, &filters->one);
    if (filters->one.failed) {
        filters->list.failed = true;
    } else if (!has_filter(filters)) {
        buf_append(&filters->list, filters->one.data, filters->one.size + 1);
        filters->count++;
    }
}

/* Returns owned: the only filter, or the `or` of all. */
static char *join_filters(struct filters *filters)
{
    const char *at = filters->list.data;
    struct buf joined = {0};

    if (filters->count == 1)
        return strdup(at);
    buf_append_string(&joined, "{\"type\":\"or\",\"filters\":[");
    for (size_t i = 0; i < filters->count; i++, at += strlen(at) + 1) {
        if (i > 0)
            buf_append_char(&joined, ',');
        buf_append_string(&joined, at);
    }
    buf_append_string(&joined, "]}");
    if (!joined.failed)
        return joined.data;
    buf_release(&joined);
    return NULL;
}

/* `filters` NULL: none. */
static int add_pair(struct subscribed_pairs *list, const char *object_type, const char *action,
                    struct filters *filters, struct error *err)
{
    struct subscribed_pair *pairs = realloc(list->pairs, (list->count + 1) * sizeof(*list->pairs));
    struct subscribed_pair *pair;

    if (!pairs)
        return error_set(err, ERROR_FATAL, "out of memory");
    list->pairs = pairs;
    pair = &pairs[list->count++];
    *pair = (struct subscribed_pair){
        .object_type = strdup(object_type),
        .action = strdup(action),
        .extra_filter = filters && !filters->list.failed ? join_filters(filters) : NULL,
    };
    if (!pair->object_type || !pair->action || (filters && !pair->extra_filter))
        return error_set(err, ERROR_FATAL, "out of memory");
    return 0;
}

/* Adds the pair when an entry of the account asks for it. Then it comes to every entry that takes
 * it, and each must find in it what its filter wants. */
static int consider(const struct config *config, const char *account, const char *object_type,
                    const char *action, struct subscribed_pairs *list, struct error *err)
{
    bool is_deletion = strcmp(action, "deleted") == 0;
    struct filters filters = {0};
    bool is_asked_for = false;
    bool is_filtered = true;
    int rc = 0;

    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (!topic_map_entry_takes(entry, text_of(account), text_of(object_type), text_of(action)))
            continue;
        is_asked_for =
            is_asked_for || topic_map_entry_asks_for(entry, text_of(object_type), text_of(action));
        if (entry->filter)
            add_filter(&filters, entry->filter, is_deletion);
        else
            is_filtered = false;
    }
    if (is_asked_for)
        rc = add_pair(list, object_type, action, is_filtered ? &filters : NULL, err);
    buf_release(&filters.one);
    buf_release(&filters.list);
    return rc;
}

static bool has_pair(const struct subscribed_pairs *list, const char *object_type,
                     const char *action)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->pairs[i].object_type, object_type) == 0 &&
            strcmp(list->pairs[i].action, action) == 0)
            return true;
    }
    return false;
}

/* The pairs outside the catalog that the entry names. */
static int consider_named(const struct config *config, const char *account,
                          const struct config_entry *entry, struct subscribed_pairs *list,
                          struct error *err)
{
    if (!entry->object_type || strchr(entry->object_type, '*'))
        return 0;
    for (size_t i = 0; i < entry->action_count; i++) {
        if (catalog_find(text_of(entry->object_type), text_of(entry->actions[i])) ||
            has_pair(list, entry->object_type, entry->actions[i]))
            continue;
        if (consider(config, account, entry->object_type, entry->actions[i], list, err) < 0)
            return -1;
    }
    return 0;
}

int subscribed_pairs_list(const struct config *config, const char *account,
                          struct subscribed_pairs *out_pairs, struct error *err)
{
    struct subscribed_pairs list = {0};
    int rc = 0;

    for (size_t i = 0; i < catalog_size && rc == 0; i++)
        rc = consider(config, account, catalog_pairs[i].object_type, catalog_pairs[i].action, &list,
                      err);
    for (size_t i = 0; i < config->entry_count && rc == 0; i++)
        rc = consider_named(config, account, &config->entries[i], &list, err);
    if (rc < 0)
        subscribed_pairs_release(&list);
    else
        *out_pairs = list;
    return rc;
}
