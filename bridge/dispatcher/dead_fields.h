/*
 * What copies on the dead-letter topic may show: a record that could not be published is copied
 * with no more fields than its topic would have got.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_DEAD_FIELDS_H
#define BRIDGE_DISPATCHER_DEAD_FIELDS_H

#include <stddef.h>

struct event;
struct field_policy;
struct router;

/* Policies that are to be applied one after the other. */
struct dead_fields {
    const struct field_policy **policies; /* borrowed from the configuration */
    size_t count;
};

/*
 * Finds the policies of the entries that send the event to this topic under the map in force. When
 * none does (it is unrouted, the map is another one, it is not an event), nobody knows for whom it
 * was, and the policies of all entries count. Released with dead_fields_release().
 */
void dead_fields_find(struct router *router, const struct event *event, const char *publisher,
                      const char *topic, struct dead_fields *out_fields);
void dead_fields_release(struct dead_fields *fields);

#endif
