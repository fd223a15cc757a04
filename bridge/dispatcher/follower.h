/*
 * A follower takes one publisher through the journal: every event in order, from memory when it
 * keeps up, from disk when it fell behind, routed, encoded and handed to the lane, until it is
 * settled and the cursor is durable.
 *
 * Between the newest event taken and the durable cursor lie at most `window` events and 64 MiB:
 * that bounds memory and what a crash can repeat.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_FOLLOWER_H
#define BRIDGE_DISPATCHER_FOLLOWER_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/lane.h"

struct error;
struct follower; /* opaque: defined in follower.c */
struct recent;

struct follower_options {
    struct lane *lane;
    struct router *router;
    enum publisher_index publisher;
    struct config_publisher settings;
    struct journal *journal;
    struct journal_reader *reader;
    struct recent *recent;
    struct mailbox *errands;
    const struct clock *clock;
    struct metrics *metrics;
    uint64_t cursor; /* where the journal says it stood */
};

/* Borrows everything. Returns owned (follower_close). */
struct follower *follower_open(const struct follower_options *options, struct error *err);
void follower_close(struct follower *follower);

/* One turn: take events as far as window and lane allow, save the cursor, serve parked topics. */
void follower_run(struct follower *follower);

/* Stopped, it takes nothing more; what is on its way may still be settled. */
void follower_set_stopped(struct follower *follower, bool is_stopped);

/* Other settings, in force with the next event. */
void follower_set(struct follower *follower, const struct config_publisher *settings);

/* Whether what matches nothing any more becomes a dead letter of this publisher. */
void follower_set_buries_unrouted(struct follower *follower, bool buries_unrouted);

/* True when nothing is on its way to a broker that can be reached, and the cursor is durable. */
bool follower_is_at_rest(const struct follower *follower);

/* The first event it still needs. */
uint64_t follower_next(const struct follower *follower);

/* Everything up to this event is settled. Any thread. */
uint64_t follower_settled(const struct follower *follower);

/* Sets the lag gauges. Any thread. */
void follower_measure(const struct follower *follower);

#endif
