/*
 * Keeps records in the journal that could not be delivered: parks them, buries them as dead
 * letters, takes them off the parked list. What the journal cannot store now is tried again until
 * it can, and its owner waits: nothing is dropped.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_SAVER_H
#define BRIDGE_DISPATCHER_SAVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/dispatcher/lane.h"
#include "bridge/journal/journal.h"

struct metric;
struct metrics;

struct saver {
    struct journal *journal;
    struct mailbox *return_to;
    const struct clock *clock;
    struct metrics *metrics;
    const char *publisher;
    struct outgoing *waiting; /* not stored: to be tried again */
    int64_t next_try_ms;      /* monotonic */
    size_t missing;           /* records to be parked that a failing journal did not take: until it
                                 does, the parked lists have gaps */
};

/*
 * Stores what `kind` says of `outgoing`; `saved` is called once it is durable, and owns it again.
 * `reason` is a static code.
 */
void saver_save(struct saver *saver, struct outgoing *outgoing, enum note_kind kind,
                const char *reason, bool was_parked, void (*saved)(struct outgoing *outgoing));

/* The gauge of dead letters that are kept for a publisher; those of `webhook` are bodies that are
 * no events. */
struct metric *saver_dead_letters(struct metrics *metrics, const char *publisher);

/* The counter of records that became dead letters for this reason. */
struct metric *saver_dead_total(struct metrics *metrics, const char *publisher, const char *reason);

/* Tries again what could not be stored. */
void saver_run(struct saver *saver);

#endif
