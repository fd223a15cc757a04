/*
 * Whether a thread that works in turns still comes to the end of each.
 *
 * The thread itself begins and ends a turn; any thread may ask how long the one under way has
 * taken.
 */
#ifndef BRIDGE_BASE_PULSE_H
#define BRIDGE_BASE_PULSE_H

#include <stdatomic.h>
#include <stdint.h>

#include "bridge/base/clock.h"

/* Zeros: it waits. */
struct pulse {
    _Atomic int64_t since_us; /* monotonic; 0: it waits for something to do */
};

static inline void pulse_begin(struct pulse *pulse, const struct clock *clock)
{
    atomic_store_explicit(&pulse->since_us, clock_monotonic_us(clock), memory_order_relaxed);
}

static inline void pulse_end(struct pulse *pulse)
{
    atomic_store_explicit(&pulse->since_us, 0, memory_order_relaxed);
}

/* How long the turn under way has taken; 0 while the thread waits. */
static inline int64_t pulse_busy_ms(const struct pulse *pulse, const struct clock *clock)
{
    int64_t since_us = atomic_load_explicit(&pulse->since_us, memory_order_relaxed);

    return since_us ? (clock_monotonic_us(clock) - since_us) / 1000 : 0;
}

#endif
