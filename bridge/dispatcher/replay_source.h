/*
 * Reads the journal for a replay, a slice at a time, on a thread of its own: neither the disk nor
 * what a replay passes over holds up the dispatcher, which publishes the live events.
 *
 * Slices lie between the two threads: replay_source_ask() lends one until replay_source_take()
 * gives it back.
 *
 * Threads: the dispatcher's; opened and closed before it starts and after it ended.
 */
#ifndef BRIDGE_DISPATCHER_REPLAY_SOURCE_H
#define BRIDGE_DISPATCHER_REPLAY_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/error.h"
#include "bridge/base/mailbox.h"

struct event;
struct journal;
struct replay_source; /* opaque: defined in replay_source.c */

enum { REPLAY_SLICE = 256 };

/* Which events are replayed, by what can be said of them without the topic map. */
struct replay_filter {
    int64_t since_ms; /* received from then on ... */
    int64_t until_ms; /* ... and before then */
    char account[128];
    char object_type[129]; /* or a prefix such as activity.*; "" is any, as with the account */
};

struct replay_slice {
    struct mailbox_node node;           /* private */
    const struct replay_filter *filter; /* borrowed while it is lent */
    uint64_t next;                      /* the first event not looked at; moves on */
    uint64_t last;                      /* the last one to look at */
    struct event *events[REPLAY_SLICE]; /* owned by whoever has the slice */
    size_t count;
    uint64_t read;     /* events that this slice looked at */
    uint64_t missing;  /* of its numbers, those whose events are not there: deleted, or damaged */
    int64_t newest_ms; /* when the newest event that any slice looked at was received; 0: none */
    bool has_failed;   /* the journal cannot be read now: nothing has moved */
    struct error err;
};

/* Starts the thread. Borrows both; `wakeup` is signalled when a slice is back. Returns owned
 * (replay_source_close), NULL on failure. */
struct replay_source *replay_source_open(struct journal *journal, struct wakeup *wakeup,
                                         struct error *err);

/* Ends the thread; what is lent stays as it is. The journal must still be open. NULL is a no-op. */
void replay_source_stop(struct replay_source *source);

/* After replay_source_stop(). NULL is a no-op. */
void replay_source_close(struct replay_source *source);

/* Lends an empty slice. */
void replay_source_ask(struct replay_source *source, struct replay_slice *slice);

/* The slices that are back, linked by their nodes; NULL without any. */
struct mailbox_node *replay_source_take(struct replay_source *source);

/* Drops the events that are left in a slice. */
void replay_slice_clear(struct replay_slice *slice);

#endif
