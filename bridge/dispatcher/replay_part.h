/*
 * What a replay sends to one publisher: what is read for it, what is on its way, and what came of
 * it.
 *
 * The job owns its parts, which refer to it. A part owns the events of its slice, unless the slice
 * is lent (replay_source.h), and its records until they are settled.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_REPLAY_PART_H
#define BRIDGE_DISPATCHER_REPLAY_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/replay.h"
#include "bridge/dispatcher/replay_source.h"

struct lane;
struct metric;
struct replay_job;
struct replayed; /* opaque: defined in replay_part.c */

/* What goes to one publisher. */
struct replay_part {
    struct replay_job *job;
    enum publisher_index publisher;
    struct lane *lane; /* NULL: none of it does */
    struct replay_slice slice;
    size_t at;     /* the first event of the slice that is not sent */
    bool is_asked; /* the slice is being filled */
    bool could_not_read;
    int64_t next_read_ms; /* monotonic */
    struct replayed *first;
    struct replayed *last;
    size_t on_the_way;
    size_t bytes;
    int64_t taken_ms; /* when the latest event taken was received */
    struct replay_counts counts;
    struct metric *delivered;
    struct metric *failed;
};

/* One replay, from its begin to its end. */
struct replay_job {
    const struct replay_options *options; /* borrowed */
    struct replay_source *source;         /* borrowed */
    struct replay_request request;
    struct replay_part parts[PUBLISHER_COUNT];
    struct replay_fault faults[REPLAY_FAULTS];
    size_t fault_count;
    uint64_t unlisted;
    bool faults_have_changed;
    bool is_stopped;
    bool is_over; /* done or stopped, and shown as such */
};

/* With `job` and `publisher` set: finds out what it has to read, and where that goes. */
void replay_part_begin(struct replay_part *part);

/* Sends some of what was read and has more of it read. True when it could go on at once. */
bool replay_part_run(struct replay_part *part);

/* Its slice is back. */
void replay_part_take_slice(struct replay_part *part);

/* Sends nothing more. */
void replay_part_stop(struct replay_part *part);

/* Everything was read and sent, and the outcome is known. */
bool replay_part_is_done(const struct replay_part *part);

/* Nothing is lent, and no record on its way will be settled any more. */
void replay_part_release(struct replay_part *part);

#endif
