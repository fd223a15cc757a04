/*
 * Copies of the dead letters that the journal keeps, for consumers: published to a Kafka topic in
 * order, at least once. Its place in the list is a cursor of its own in the journal.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_DEAD_COPIES_H
#define BRIDGE_DISPATCHER_DEAD_COPIES_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/dispatcher/lane.h"

struct router;
struct dead_copies; /* opaque: defined in dead_copies.c */

/* The name of the cursor: one that begins with @ counts dead letters, not events, and pins none. */
#define DEAD_COPIES_CURSOR "@dead_letters"

struct dead_copies_options {
    struct lane *lane;
    struct router *router; /* says which fields a copy may show */
    struct journal *journal;
    struct journal_reader *reader;
    struct mailbox *errands;
    const struct clock *clock;
    uint64_t cursor;
};

/* Borrows everything. Returns owned (dead_copies_close); copies nothing until it has a topic. */
struct dead_copies *dead_copies_open(const struct dead_copies_options *options);

/* Where copies go from now on: copied; NULL: nowhere, and they are made later. */
void dead_copies_set_topic(struct dead_copies *copies, const char *topic);

void dead_copies_close(struct dead_copies *copies);

void dead_copies_run(struct dead_copies *copies);

#endif
