/*
 * "Where is my event?": finds events in the journal, from the newest back, and says of each what
 * became of it at every publisher. Letters are looked through as well: they outlive their events.
 *
 * It looks for a bounded time and says when it did not see everything.
 *
 * Threads: any one with a reader of its own; it reads the disk.
 */
#ifndef BRIDGE_CONTROL_EVENT_SEARCH_H
#define BRIDGE_CONTROL_EVENT_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/topic_map.h"
#include "bridge/journal/journal.h"

struct buf;
struct clock;
struct config;
struct error;
struct outcomes;

struct event_search {
    struct journal *journal;
    struct journal_reader *reader;
    const struct config *config; /* in force: where the events are to go */
    const struct clock *clock;
    struct event_query query;
    uint64_t before; /* only events with smaller numbers; UINT64_MAX: all */
    size_t limit;
    /* Of every publisher: everything up to there is settled, and where the latest records went.
     * NULL without a dispatcher. */
    bool is_configured[PUBLISHER_COUNT];
    uint64_t settled[PUBLISHER_COUNT];
    struct outcomes *outcomes[PUBLISHER_COUNT];
    bool (*is_cancelled)(void *context); /* may be NULL */
    void *context;
};

/*
 * Appends {"events":[...],"next":N,"complete":true}: docs/control.openapi.yaml. `next` is what
 * `before` is for the next page, null at the end.
 */
int event_search_run(const struct event_search *search, struct buf *json, struct error *err);

#endif
