/*
 * Parked topics of one publisher: destinations that do not take records now (unknown, not
 * authorised, over quota). Their records wait in the journal, in order, outside the publisher's
 * window, while other topics flow. The first one is tried again with back-off; when it is taken,
 * the rest follows in order; after `retry_for` they are dead letters.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_PARKED_H
#define BRIDGE_DISPATCHER_PARKED_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/lane.h"

struct error;
struct parked; /* opaque: defined in parked.c */
struct saver;

struct parked_options {
    struct lane *lane;
    struct router *router;
    enum publisher_index publisher;
    struct journal_reader *reader;
    struct saver *saver;
    const struct clock *clock;
    struct metrics *metrics;
    int64_t retry_for_ms;
};

/* Finds the topics that have parked records in the journal. Borrows everything. Returns owned
 * (parked_close). */
struct parked *parked_open(const struct parked_options *options, struct error *err);
void parked_close(struct parked *parked);

void parked_set_retry_for(struct parked *parked, int64_t retry_for_ms);

/* Parks a record: because its topic refused it, or because its topic is parked already. `saved` as
 * in saver_save(). */
void parked_add(struct parked *parked, struct outgoing *outgoing, const char *reason,
                void (*saved)(struct outgoing *outgoing));

/* Sends again what is due. */
void parked_run(struct parked *parked);

#endif
