/*
 * What the files of a lane share. Private to lane*.c.
 *
 *   lane.c           its life, the queue, what is submitted and what came of it
 *   lane_outgoing.c  records from their making to their end, and the destinations they share
 *
 * A record belongs to whoever made it, and the lane keeps account of all of them: what is left at
 * its end it frees, with the destinations.
 *
 * Threads: the dispatcher's, but for `settled` and what is atomic.
 */
#ifndef BRIDGE_DISPATCHER_LANE_INTERNAL_H
#define BRIDGE_DISPATCHER_LANE_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/dispatcher/carrier.h"
#include "bridge/dispatcher/lane.h"

enum { LANE_BUCKETS = 1024 };

/* What the publisher said last of its broker. */
enum lane_link { LANE_UNKNOWN, LANE_UP, LANE_DOWN };

struct lane {
    struct carrier carrier;
    const char *name;
    const struct clock *clock;
    struct wakeup *wakeup;
    struct metrics *metrics;
    struct outcomes *outcomes;
    struct mailbox settled; /* records, from any thread */
    atomic_bool is_ready;   /* on_ready() was called */
    _Atomic enum lane_link link;
    atomic_bool is_configured;
    bool is_publisher_busy;
    size_t submitted; /* records that the publisher has */
    uint64_t next_order;
    struct outgoing *first; /* waiting to be submitted, in order */
    struct outgoing *last;
    struct outgoing *all;      /* whoever has them */
    struct outgoing *returned; /* to be resent: sorted in before the next submit */
    struct destination *buckets[LANE_BUCKETS];
    size_t destination_count;
    struct metric *published;
    struct metric *no_subscribers;
    struct metric *up;
    struct histogram *latency;
};

/* ---- lane_outgoing.c ---- */

/* Frees every record and every destination, without a call to an owner. */
void lane_free_records(struct lane *lane);

#endif
