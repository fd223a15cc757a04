/*
 * A lane: the way to one publisher. It keeps what is to be sent in order, submits as much as the
 * publisher takes, and tells the owner of each record what became of it.
 *
 * The order of one owner's records is kept across lost connections: what comes back as
 * SETTLED_RETRY and is resent goes before everything younger. The same holds when the publisher is
 * exchanged for one with other settings: the lane stays, with all that waits in it.
 *
 * Threads: the dispatcher's, but for lane_is_down(), lane_is_configured() and the callbacks that
 * publishers make.
 */
#ifndef BRIDGE_DISPATCHER_LANE_H
#define BRIDGE_DISPATCHER_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/mailbox.h"
#include "bridge/journal/journal.h"
#include "publishers/publisher.h"

struct carrier_options;
struct clock;
struct config_target;
struct field_policy;
struct lane; /* opaque: defined in lane_internal.h */
struct metrics;
struct outcomes;
struct parked_topic;
struct saver;

/* A topic of a lane, shared by the records that go there. */
struct destination {
    struct destination *next_in_bucket;
    uint32_t references;
    struct parked_topic *parked; /* NULL: records are sent */
    char name[];
};

/* A note to the journal that comes back to the dispatcher's thread. */
struct errand {
    struct note note;
    struct mailbox *return_to;
    void (*finished)(struct errand *self);
};

/* Sends the note; `finished` is called by errands_finish() on the thread that reads `return_to`. */
void errand_send(struct errand *errand, struct journal *journal, struct mailbox *return_to);
void errands_finish(struct mailbox *mailbox);

/* A record on its way, made by lane_prepare(). */
struct outgoing {
    struct record record;
    struct lane *lane;
    struct destination *destination;
    struct outgoing *next;     /* in the queue of the lane, or of whoever has it */
    struct outgoing *all_next; /* all of the lane's, so that none is lost at the end */
    struct outgoing *all_previous;
    uint64_t order;
    bool is_submitted;  /* the publisher has it, or its outcome waits to be taken */
    bool is_unsendable; /* outcome is set already: it is settled without being submitted */
    bool must_stay;     /* a publisher that hangs may still read it: its memory is never freed */
    struct buf value;   /* when the payload had to be made */
    struct buf key;     /* when the key had to be made */
    /* Called on the dispatcher's thread with record.outcome set: the owner resends, keeps or frees
     * it. */
    void (*settled)(struct outgoing *self);
    void *owner;
    void *context; /* of the owner, when one pointer is not enough */
    uint64_t seq;
    uint32_t nth;      /* ordinal among the records of one event for one topic */
    int64_t parked_ms; /* wall clock: since when it is parked */
    struct saver *saver;
    bool is_missing; /* see saver.h */
    void (*saved)(struct outgoing *self);
    void (*parked)(struct outgoing *self); /* see parked_add() */
    struct errand errand;
};

struct lane_options {
    const struct publisher_ops *ops;
    const struct clock *clock;
    struct wakeup *wakeup; /* of the dispatcher */
    struct metrics *metrics;
    struct outcomes *outcomes; /* told where records went; NULL: nobody is */
};

/* Borrows everything in `options`. Returns owned (lane_close) a lane without a publisher: what is
 * sent waits. */
struct lane *lane_new(const struct lane_options *options);

/* Makes the publisher, without waiting for its broker. */
int lane_open(struct lane *lane, const struct carrier_options *options, struct error *err);

/*
 * Exchanges the publisher for one with other options, or (options of NULL) for none. What the one
 * before does not settle within some seconds comes back to its owner as SETTLED_RETRY; so does,
 * when there is none any more, all that waits.
 */
void lane_change(struct lane *lane, const struct carrier_options *options);

/* Any thread: a publisher is wanted. */
bool lane_is_configured(const struct lane *lane);

/* Gives the publisher `timeout_ms` to say farewell, then frees every record that is left, without a
 * call to its owner. */
void lane_close(struct lane *lane, int64_t timeout_ms);

const char *lane_name(const struct lane *lane);
int lane_fd(const struct lane *lane); /* -1: nothing to poll */

/*
 * Makes a record for `topic` as `target` describes it. A topic of NULL, or an event that cannot be
 * encoded, gives an outgoing that is settled as a fault of the record. Takes its own reference of
 * the event. Returns owned (outgoing_free).
 */
struct outgoing *lane_prepare(struct lane *lane, struct event *event,
                              const struct config_target *target, const char *topic);

/* The same for a replay: the record says so, and is never retained, because what a broker keeps for
 * newcomers is the latest event of a topic, not the latest that was sent again. */
struct outgoing *lane_prepare_replay(struct lane *lane, struct event *event,
                                     const struct config_target *target, const char *topic);

/* A copy of a dead letter for the dead-letter topic. */
struct dead_copy {
    const char *topic;
    const char *reason;     /* why it is dead, ... */
    const char *publisher;  /* ... and where it was to go */
    const char *dead_topic; /* */
    /* What is cut out of it, one policy after the other. What is not an event has no fields to cut:
     * with any policy nothing of it is shown. */
    const struct field_policy *const *policies;
    size_t policy_count;
};

/* Borrows the texts of `copy` until the record is freed, the policies only now. */
struct outgoing *lane_prepare_dead_copy(struct lane *lane, struct event *event,
                                        const struct dead_copy *copy);
void outgoing_free(struct outgoing *outgoing);

/* Queues it behind everything sent before; lane_run() submits. */
void lane_send(struct lane *lane, struct outgoing *outgoing);

/* Queues what came back as SETTLED_RETRY in its old place. */
void lane_resend(struct lane *lane, struct outgoing *outgoing);

/* True while the publisher takes nothing more or something waits to be submitted. */
bool lane_is_busy(const struct lane *lane);

/* True when nothing is queued or submitted. */
bool lane_is_idle(const struct lane *lane);

/* Any thread: true once the publisher said that its broker cannot be reached, until it can be.
 * `unknown` counts as given. */
bool lane_is_down(const struct lane *lane, bool unknown);

/* One turn: reports of the publisher, settled records to their owners, submitting. */
void lane_run(struct lane *lane, bool fd_is_readable);

/* Destinations that must not be forgotten (parked ones) hold a reference. */
struct destination *lane_destination(struct lane *lane, const char *topic);
void lane_release_destination(struct lane *lane, struct destination *destination);

#endif
