/*
 * The publisher of a lane, which can be exchanged while records are on their way.
 *
 * The one before takes nothing more, is given some seconds to settle what it has, and is ended on a
 * thread of its own, because that can block. Only then is the next one made, so that two of them
 * never send the same records, nor fight over a client id.
 *
 * Threads: the dispatcher's.
 */
#ifndef BRIDGE_DISPATCHER_CARRIER_H
#define BRIDGE_DISPATCHER_CARRIER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "publishers/publisher.h"

struct clock;
struct config;
struct error;
struct wakeup;

enum carrier_phase {
    CARRIER_EMPTY, /* no publisher, none wanted */
    CARRIER_OPEN,
    CARRIER_DRAINING, /* it takes nothing more */
    CARRIER_ENDING,   /* on a thread of its own */
    CARRIER_WAITING,  /* the next one could not be made: tried again */
};

/* A publisher's options, with a reference to the configuration that owns them. */
struct carrier_options {
    const struct config *config; /* NULL with `options` */
    const void *options;         /* NULL: no publisher */
};

struct carrier {
    const struct publisher_ops *ops;
    const struct clock *clock; /* borrowed */
    struct wakeup *wakeup;     /* borrowed: signalled when the one before has ended */
    struct publisher_events events;
    enum carrier_phase phase;
    struct publisher *publisher; /* NULL: none */
    struct carrier_options current;
    struct carrier_options next; /* after CARRIER_OPEN */
    int64_t deadline_ms;         /* monotonic; of the phase */
    pthread_t ender;
    bool has_ender;
    atomic_bool has_ended; /* the ender has done its work */
    bool is_free; /* what the publisher had may be freed or sent again; once it has ended */
};

/* What a turn has brought about. */
enum carrier_news {
    CARRIER_NO_NEWS,
    CARRIER_HAS_OPENED, /* at last, after it could not be made */
    /* The publisher has ended, and makes no more calls: what it had and did not settle is its
     * owner's again. */
    CARRIER_HAS_ENDED,
    /* The same, but something hangs that may still read the records: they must stay in memory. */
    CARRIER_HANGS,
};

/* Zeroed before, with ops, clock, wakeup and events set. Makes a publisher, which must not exist.
 */
int carrier_open(struct carrier *carrier, const struct carrier_options *options, struct error *err);

/* Exchanges the publisher; options of NULL: for none. Takes a reference of the configuration. */
void carrier_change(struct carrier *carrier, const struct carrier_options *options);

/* Readable when the publisher has something to report; -1: without one that has a descriptor. */
int carrier_fd(const struct carrier *carrier);

enum submit_result carrier_submit(struct carrier *carrier, struct record *record);

/*
 * Serves the publisher and carries an exchange on. `is_idle`: it has no record, or cannot reach its
 * broker, so that waiting would bring nothing.
 */
enum carrier_news carrier_turn(struct carrier *carrier, bool fd_is_readable, bool is_idle);

/* Ends the publisher, within about `timeout_ms`. False: see CARRIER_HANGS. */
bool carrier_close(struct carrier *carrier, int64_t timeout_ms);

#endif
