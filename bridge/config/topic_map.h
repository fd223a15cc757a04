/*
 * The topic map: which publishers get an event, on which topics.
 *
 * Every entry that matches publishes; fallback entries only when no other matched. What a pair of
 * account, object type and action matches is worked out once and kept, so that the cost of an event
 * does not grow with the map.
 *
 * Threads: the map is read-only; a router belongs to one thread.
 */
#ifndef BRIDGE_CONFIG_TOPIC_MAP_H
#define BRIDGE_CONFIG_TOPIC_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct config;
struct config_entry;
struct config_target;
struct error;
struct event;
struct router; /* opaque: defined in topic_map.c */

enum publisher_index { PUBLISHER_KAFKA, PUBLISHER_MQTT, PUBLISHER_COUNT };

/* True when `pattern` is the object type, a prefix of it such as activity.*, or *. */
bool topic_map_type_matches(const char *pattern, struct text object_type);

/* True when the entry's selector takes the pair, its filter aside. Wildcards do not stand for
 * disputed or discouraged pairs. */
bool topic_map_entry_takes(const struct config_entry *entry, struct text account,
                           struct text object_type, struct text action);

/* True when the entry, which takes the pair, makes the bridge subscribe to it at Close: wildcards
 * stand for documented pairs alone, any other must be named. */
bool topic_map_entry_asks_for(const struct config_entry *entry, struct text object_type,
                              struct text action);

/* True when the entry's filter surely passes what the other's passes: it has none, or the same. */
bool topic_map_filter_covers(const struct config_entry *entry, const struct config_entry *other);

/* Borrows `config`. Returns owned (router_free). */
struct router *router_new(const struct config *config, struct error *err);
void router_free(struct router *router);

/* Each takes the other's map, so that whoever holds a router needs not be told of another one. */
void router_swap(struct router *a, struct router *b);
/* The configuration whose map it follows. */
const struct config *router_config(const struct router *router);

/* True when at least one entry takes the event, filters included. */
bool router_matches(struct router *router, const struct event *event);

struct route {
    const struct config_target *target;
    const char *topic; /* NULL when the topic's rules refuse the name this event makes: a fault of
                          the record */
};

/*
 * The destinations of an event at one publisher; valid until the next call. Sets `out_routes`,
 * returns their number.
 */
size_t router_route(struct router *router, const struct event *event,
                    enum publisher_index publisher, const struct route **out_routes);

/* How many of the routes before `i` lead to the same topic: with the topic it names the record. */
uint32_t route_ordinal(const struct route *routes, size_t i);

#endif
