/*
 * A delivery: one webhook request on its way to being durable, and what is to be answered.
 *
 * Owned by whoever waits for the answer. It is lent to an intake (the journal, or in broker mode
 * the dispatcher) from accept() until done().
 */
#ifndef BRIDGE_JOURNAL_DELIVERY_H
#define BRIDGE_JOURNAL_DELIVERY_H

#include "bridge/base/mailbox.h"

struct event;

enum delivery_outcome {
    DELIVERY_ACCEPTED,
    DELIVERY_DUPLICATE,     /* seen before and durable */
    DELIVERY_DEAD_LETTERED, /* authentic, but not an event: kept */
    DELIVERY_UNAVAILABLE,   /* it cannot be made durable now: 503 */
};

struct delivery {
    struct mailbox_node node;
    struct event *event; /* the delivery's own reference; opaque events are to be dead-lettered */
    /* NULL, or one that was handed over before and outlives this one: where that was not durable,
     * the journal does not take this one either, so that the order stays. */
    const struct delivery *after;
    enum delivery_outcome outcome;
    const char *reason; /* with DELIVERY_UNAVAILABLE: a static sentence, safe for the sender */
    void (*done)(struct delivery *self); /* exactly once, on the intake's thread; must not block */
};

/* Where deliveries go. */
struct intake {
    /* Any thread, never blocks. */
    void (*accept)(struct intake *self, struct delivery *delivery);
    /* Sets the event's identity for dedupe. Any thread. */
    void (*identify)(struct intake *self, struct event *event);
};

#endif
