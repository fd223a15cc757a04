#include "bridge/config/topic_map.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/config/config.h"
#include "publishers/topic_template.h"
#include "schemas/catalog.h"
#include "schemas/event.h"
#include "schemas/filter.h"

/* Close has some 160 pairs; more than this many different ones make the kept ones start afresh. */
enum { MAX_PAIRS = 4096, TABLE_SIZE = 2 * MAX_PAIRS, MAX_NAME = 128 };

/* What one entry does with the events of one pair. */
struct match {
    const struct config_entry *entry;
    /* NULL: made anew for each event, or refused by the rules when `is_refused` */
    char *topics[PUBLISHER_COUNT];
    bool is_refused[PUBLISHER_COUNT];
};

struct pair {
    uint64_t hash;
    char *name; /* account \n object_type \n action */
    size_t name_size;
    size_t match_count;
    struct match *matches; /* entries that are not fallbacks first */
};

struct router {
    const struct config *config;
    struct pair **table; /* TABLE_SIZE */
    size_t pair_count;
    struct route *routes;          /* entry_count */
    char (*topics)[TOPIC_MAX + 1]; /* entry_count: names made for the event at hand */
};

static const struct config_target *target_of(const struct config_entry *entry,
                                             enum publisher_index publisher)
{
    return publisher == PUBLISHER_KAFKA ? &entry->kafka : &entry->mqtt;
}

static void free_pair(struct pair *pair)
{
    if (!pair)
        return;
    for (size_t i = 0; i < pair->match_count; i++) {
        for (int p = 0; p < PUBLISHER_COUNT; p++)
            free(pair->matches[i].topics[p]);
    }
    free(pair->matches);
    free(pair->name);
    free(pair);
}

static void forget_pairs(struct router *router)
{
    for (size_t i = 0; router->table && i < TABLE_SIZE; i++) {
        free_pair(router->table[i]);
        router->table[i] = NULL;
    }
    router->pair_count = 0;
}

struct router *router_new(const struct config *config, struct error *err)
{
    struct router *router = calloc(1, sizeof(*router));

    if (!router)
        goto no_memory;
    router->config = config;
    router->table = calloc(TABLE_SIZE, sizeof(struct pair *));
    router->routes = calloc(config->entry_count + 1, sizeof(*router->routes));
    router->topics = calloc(config->entry_count + 1, sizeof(*router->topics));
    if (!router->table || !router->routes || !router->topics)
        goto no_memory;
    return router;

no_memory:
    error_set(err, ERROR_FATAL, "out of memory");
    router_free(router);
    return NULL;
}

void router_free(struct router *router)
{
    if (!router)
        return;
    forget_pairs(router);
    free(router->table);
    free(router->routes);
    free(router->topics);
    free(router);
}

void router_swap(struct router *a, struct router *b)
{
    struct router was_a = *a;

    *a = *b;
    *b = was_a;
}

const struct config *router_config(const struct router *router)
{
    return router->config;
}

static bool has_name(char *const *names, size_t count, struct text name)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal_string(name, names[i]))
            return true;
    }
    return false;
}

/* Wildcards do not stand for pairs that Close advises against or that sources disagree on: those
 * must be named. */
static bool is_left_out_of_wildcards(const struct catalog_pair *known)
{
    return known && (known->status == CATALOG_DISPUTED || known->status == CATALOG_DISCOURAGED);
}

static bool type_matches(const char *pattern, struct text object_type, bool *out_is_wildcard)
{
    size_t size = strlen(pattern);

    *out_is_wildcard = size > 0 && pattern[size - 1] == '*';
    if (!*out_is_wildcard)
        return text_equal_string(object_type, pattern);
    return object_type.size >= size - 1 && memcmp(object_type.data, pattern, size - 1) == 0;
}

bool topic_map_type_matches(const char *pattern, struct text object_type)
{
    bool is_wildcard;

    return type_matches(pattern, object_type, &is_wildcard);
}

static bool category_matches(const struct config_entry *entry, const struct catalog_pair *known)
{
    if (!known || strcmp(known->category, entry->category) != 0)
        return false;
    if (entry->group && strcmp(known->group, entry->group) != 0)
        return false;
    if (entry->label_count == 0)
        return !is_left_out_of_wildcards(known);
    return has_name(entry->labels, entry->label_count, text_of(known->label));
}

bool topic_map_entry_takes(const struct config_entry *entry, struct text account,
                           struct text object_type, struct text action)
{
    const struct catalog_pair *known = catalog_find(object_type, action);
    bool is_wildcard;

    if (entry->account && !text_equal_string(account, entry->account))
        return false;
    if (entry->category)
        return category_matches(entry, known);
    if (!type_matches(entry->object_type, object_type, &is_wildcard))
        return false;
    if (entry->action_count > 0 && !has_name(entry->actions, entry->action_count, action))
        return false;
    if (is_wildcard || entry->action_count == 0)
        return !is_left_out_of_wildcards(known);
    return true;
}

bool topic_map_entry_asks_for(const struct config_entry *entry, struct text object_type,
                              struct text action)
{
    const struct catalog_pair *known = catalog_find(object_type, action);

    if (known && known->status == CATALOG_DOCUMENTED)
        return true;
    if (entry->category)
        return entry->label_count > 0;
    return entry->action_count > 0 && !strchr(entry->object_type, '*');
}

bool topic_map_filter_covers(const struct config_entry *entry, const struct config_entry *other)
{
    return !entry->filter ||
           (other->filter && text_equal(filter_json(entry->filter), filter_json(other->filter)));
}

/* Renders the names that are the same for every event of the pair. */
static bool fix_topics(struct match *match, const struct event *event)
{
    char name[TOPIC_MAX + 1];

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct config_target *target = target_of(match->entry, (enum publisher_index)p);

        if (!target->is_configured || !topic_template_is_fixed_per_pair(target->topic))
            continue;
        if (topic_template_render(target->topic, event, name, NULL) < 0) {
            match->is_refused[p] = true;
            continue;
        }
        match->topics[p] = strdup(name);
        if (!match->topics[p])
            return false;
    }
    return true;
}

static bool add_matches(struct pair *pair, const struct config *config, const struct event *event,
                        bool fallback)
{
    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (entry->fallback != fallback ||
            !topic_map_entry_takes(entry, event_text(event, EVENT_ACCOUNT),
                                   event_text(event, EVENT_OBJECT_TYPE),
                                   event_text(event, EVENT_ACTION)))
            continue;
        pair->matches[pair->match_count] = (struct match){.entry = entry};
        if (!fix_topics(&pair->matches[pair->match_count++], event))
            return false;
    }
    return true;
}

static struct pair *new_pair(const struct router *router, const struct event *event,
                             struct text name, uint64_t hash)
{
    struct pair *pair = calloc(1, sizeof(*pair));

    if (!pair)
        return NULL;
    pair->hash = hash;
    pair->name = text_dup(name);
    pair->name_size = name.size;
    pair->matches = calloc(router->config->entry_count + 1, sizeof(*pair->matches));
    if (!pair->name || !pair->matches || !add_matches(pair, router->config, event, false) ||
        !add_matches(pair, router->config, event, true)) {
        free_pair(pair);
        return NULL;
    }
    return pair;
}

static void append_name(char *name, size_t *size, struct text part)
{
    memcpy(name + *size, part.data, part.size);
    *size += part.size;
    name[(*size)++] = '\n';
}

static uint64_t fnv1a(const char *data, size_t size)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)data[i]) * 1099511628211u;
    return hash;
}

/* NULL without memory, or for an event without a pair. */
static const struct pair *find_pair(struct router *router, const struct event *event)
{
    struct text account = event_text(event, EVENT_ACCOUNT);
    struct text object_type = event_text(event, EVENT_OBJECT_TYPE);
    struct text action = event_text(event, EVENT_ACTION);
    char name[3 * MAX_NAME + 3];
    size_t size = 0;
    uint64_t hash;
    size_t at;

    if (account.size > MAX_NAME || object_type.size > MAX_NAME || action.size > MAX_NAME ||
        object_type.size == 0)
        return NULL;
    append_name(name, &size, account);
    append_name(name, &size, object_type);
    append_name(name, &size, action);
    hash = fnv1a(name, size);
    for (at = hash % TABLE_SIZE; router->table[at]; at = (at + 1) % TABLE_SIZE) {
        const struct pair *pair = router->table[at];

        if (pair->hash == hash && pair->name_size == size && memcmp(pair->name, name, size) == 0)
            return pair;
    }
    if (router->pair_count == MAX_PAIRS) {
        forget_pairs(router);
        at = hash % TABLE_SIZE;
    }
    router->table[at] = new_pair(router, event, (struct text){name, size}, hash);
    if (router->table[at])
        router->pair_count++;
    return router->table[at];
}

static bool passes(const struct match *match, const struct event *event)
{
    return !match->entry->filter || filter_matches(match->entry->filter, event);
}

/* The matches that take this event: [begin, end) of the pair's, which still have to pass their
 * filter. */
static void choose(const struct pair *pair, const struct event *event, size_t *out_begin,
                   size_t *out_end)
{
    bool any = false;
    size_t i;

    *out_begin = 0;
    for (i = 0; i < pair->match_count && !pair->matches[i].entry->fallback; i++)
        any = any || passes(&pair->matches[i], event);
    *out_end = i;
    if (!any) {
        *out_begin = i;
        *out_end = pair->match_count;
    }
}

bool router_matches(struct router *router, const struct event *event)
{
    const struct pair *pair = find_pair(router, event);
    size_t begin;
    size_t end;

    if (!pair)
        return false;
    choose(pair, event, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        if (passes(&pair->matches[i], event))
            return true;
    }
    return false;
}

/* Returns the topic of the event at this match, or NULL when its rules refuse it. */
static const char *topic_of(const struct match *match, enum publisher_index publisher,
                            const struct event *event, char *scratch)
{
    if (match->topics[publisher])
        return match->topics[publisher];
    if (match->is_refused[publisher])
        return NULL;
    if (topic_template_render(target_of(match->entry, publisher)->topic, event, scratch, NULL) < 0)
        return NULL;
    return scratch;
}

size_t router_route(struct router *router, const struct event *event,
                    enum publisher_index publisher, const struct route **out_routes)
{
    const struct pair *pair = find_pair(router, event);
    size_t count = 0;
    size_t begin;
    size_t end;

    *out_routes = router->routes;
    if (!pair)
        return 0;
    choose(pair, event, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const struct match *match = &pair->matches[i];
        const struct config_target *target = target_of(match->entry, publisher);

        if (!target->is_configured || !passes(match, event))
            continue;
        router->routes[count] =
            (struct route){target, topic_of(match, publisher, event, router->topics[count])};
        count++;
    }
    return count;
}

uint32_t route_ordinal(const struct route *routes, size_t i)
{
    uint32_t nth = 0;

    for (size_t j = 0; j < i; j++) {
        if (routes[j].topic && routes[i].topic && strcmp(routes[j].topic, routes[i].topic) == 0)
            nth++;
    }
    return nth;
}
