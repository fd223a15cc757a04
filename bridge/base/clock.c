#include "bridge/base/clock.h"

#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t system_monotonic_us(const struct clock *self)
{
    (void)self;
    return read_us(CLOCK_MONOTONIC);
}

static int64_t system_wall_ms(const struct clock *self)
{
    (void)self;
    return read_us(CLOCK_REALTIME) / 1000;
}

const struct clock clock_system = {system_monotonic_us, system_wall_ms};
