/*
 * Time, injected so that tests own it.
 *
 * Monotonic time measures deadlines and ages; wall time is only ever recorded or compared with
 * other people's clocks. Any thread may read a clock.
 */
#ifndef BRIDGE_BASE_CLOCK_H
#define BRIDGE_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*monotonic_us)(const struct clock *self);
    int64_t (*wall_ms)(const struct clock *self); /* since 1970, UTC */
};

/* The machine's own. */
extern const struct clock clock_system;

static inline int64_t clock_monotonic_us(const struct clock *clock)
{
    return clock->monotonic_us(clock);
}

static inline int64_t clock_monotonic_ms(const struct clock *clock)
{
    return clock->monotonic_us(clock) / 1000;
}

static inline int64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock);
}

#endif
