/*
 * What the files of the dispatcher share. Private to dispatcher*.c.
 *
 *   dispatcher.c         its life, its thread, and what others ask it
 *   dispatcher_parts.c   lanes, followers and the others, as a configuration has them at the start
 *   dispatcher_change.c  another configuration, while the thread runs
 */
#ifndef BRIDGE_DISPATCHER_DISPATCHER_INTERNAL_H
#define BRIDGE_DISPATCHER_DISPATCHER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/pulse.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/carrier.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/journal/delivery.h"

struct dispatcher {
    struct dispatcher_options options; /* with a reference to the configuration in force */
    struct wakeup wakeup;
    struct mailbox errands;    /* notes that came back from the journal */
    struct mailbox deliveries; /* broker mode */
    struct mailbox changes;    /* struct change */
    struct intake intake;
    struct router *router;
    struct recent *recent;
    struct journal_reader *reader;
    /* One for each publisher that there could be. Neither goes while the dispatcher lives: one
     * whose publisher is taken out of the configuration waits for it to come back. */
    struct lane *lanes[PUBLISHER_COUNT];
    struct outcomes *outcomes[PUBLISHER_COUNT];            /* with a journal */
    _Atomic(struct follower *) followers[PUBLISHER_COUNT]; /* NULL: never configured */
    uint64_t cursors[PUBLISHER_COUNT];                     /* where followers begin */
    int64_t next_open_ms;                   /* monotonic: when to try again to open a follower */
    atomic_bool has_place[PUBLISHER_COUNT]; /* in the journal: it pins events */
    struct dead_copies *dead_copies;
    struct retries *retries;
    struct replay *replay;
    struct flights *flights;
    pthread_t thread;
    struct pulse pulse; /* of the thread */
    bool is_running;
    atomic_bool is_stopping;
    _Atomic int64_t stop_deadline_ms; /* monotonic */
    bool is_at_rest;                  /* at the end of the thread */
};

/* By enum publisher_index. */
extern const struct publisher_ops *const dispatcher_ops[PUBLISHER_COUNT];

/* ---- dispatcher_parts.c ---- */

const struct config_publisher *dispatcher_settings(const struct config *config, int publisher);

/* Without options when the publisher is not configured. */
struct carrier_options dispatcher_carrier_options(const struct config *config, int publisher);

int dispatcher_open_lanes(struct dispatcher *dispatcher, struct error *err);

/* From `cursors` on. */
int dispatcher_open_follower(struct dispatcher *dispatcher, int publisher, struct error *err);

/* What was accepted and matches nothing any more becomes a dead letter of the first publisher,
 * once.
 */
void dispatcher_choose_who_buries(struct dispatcher *dispatcher);

void dispatcher_open_dead_copies(struct dispatcher *dispatcher, uint64_t cursor);

/* With a journal, before it starts. */
int dispatcher_follow_journal(struct dispatcher *dispatcher, struct error *err);

/* Broker mode. */
int dispatcher_fly(struct dispatcher *dispatcher, struct error *err);

/* ---- dispatcher_change.c ---- */

/* Applies what dispatcher_reconfigure() has brought. */
void dispatcher_apply_changes(struct dispatcher *dispatcher);

/* Opens what has a cursor and no follower: also later, when the journal could not be read at first.
 */
void dispatcher_open_followers(struct dispatcher *dispatcher);

#endif
