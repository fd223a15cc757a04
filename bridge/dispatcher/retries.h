/*
 * Dead letters that are sent again because an operator asked for it: through the topic map now in
 * force to the publisher that gave them up, in their order, a few at a time, behind the live
 * events.
 *
 * The record of the letter's topic is sent; when the map no longer has that topic, every record
 * that it makes of the event at that publisher; and of a letter that matched nothing, every record
 * at every publisher. The letter leaves the store when all of them are delivered. Otherwise it
 * stays, in its place, with the new reason and date; nothing is parked. What a crash interrupts
 * stays a dead letter.
 *
 * Bodies that are no events cannot be sent: no topic is theirs.
 *
 * Threads: the dispatcher's, but for retries_ask().
 */
#ifndef BRIDGE_DISPATCHER_RETRIES_H
#define BRIDGE_DISPATCHER_RETRIES_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/config/topic_map.h"
#include "bridge/journal/journal.h"

struct clock;
struct lane;
struct metrics;
struct retries; /* opaque: defined in retries.c */

struct retry_counts {
    uint64_t delivered;
    uint64_t buried;     /* failed again */
    uint64_t not_events; /* have no topic */
    uint64_t removed;    /* their publisher is not configured */
    uint64_t absent;     /* no letter has the number */
    uint64_t under_way;  /* are being sent again already */
    const char *reason;  /* why the latest was buried: a static code */
    bool is_refused;     /* too many are asked for at once, or the bridge stops */
    bool is_done;        /* false: it goes on in the background */
};

/* Belongs to the retries from retries_ask() until answered(). */
struct retry_request {
    struct mailbox_node node; /* private */
    uint64_t id;              /* 0: every letter that has these ... */
    char publisher[64];       /* ... where "" is any */
    char topic[1025];
    char reason[64];
    int64_t answer_within_ms;
    struct retry_counts counts;                   /* the answer */
    void (*answered)(struct retry_request *self); /* exactly once, on any thread; must not block */
};

struct retries_options {
    struct lane *lanes[PUBLISHER_COUNT];
    struct router *router;
    struct journal *journal;
    struct journal_reader *reader;
    struct mailbox *errands; /* of the dispatcher, as is its wake-up */
    const struct clock *clock;
    struct metrics *metrics;
};

/* Borrows everything. Returns owned (retries_close). */
struct retries *retries_open(const struct retries_options *options);

/* After the dispatcher's thread and the journal have ended. */
void retries_close(struct retries *retries);

/* Any thread. */
void retries_ask(struct retries *retries, struct retry_request *request);

void retries_run(struct retries *retries);

/* Sends nothing more, answers who waits and refuses who comes. */
void retries_stop(struct retries *retries);

#endif
