#include "bridge/journal/journal_pace.h"

#include "bridge/base/clock.h"
#include "bridge/base/mailbox.h"

enum {
    PAUSE_PER_EVENT_US = 100, /* beyond the first: one alone waits for nobody */
    PAUSE_MAX_US = 2000,
    TRIES = 3, /* others than arrivals may end a wait */
    NOBODY = 0,
};

void pace_init(struct pace *pace, struct wakeup *wakeup)
{
    *pace = (struct pace){.wakeup = wakeup};
}

void pace_arrive(struct pace *pace)
{
    uint64_t number = atomic_fetch_add(&pace->arrived, 1) + 1;

    if (number == atomic_load(&pace->wake_at))
        wakeup_signal(pace->wakeup);
}

void pace_take(struct pace *pace, size_t count)
{
    pace->taken += count;
}

void pace_answer(struct pace *pace, size_t count)
{
    int64_t pause_us = count > 1 ? (int64_t)(count - 1) * PAUSE_PER_EVENT_US : 0;

    pace->pause_us = pause_us < PAUSE_MAX_US ? pause_us : PAUSE_MAX_US;
    pace->expected = atomic_load(&pace->arrived) + count;
    atomic_store(&pace->wake_at, pause_us > 0 ? pace->expected : NOBODY);
}

void pace_pause(struct pace *pace, const struct clock *clock)
{
    int64_t until_us = clock_monotonic_us(clock) + pace->pause_us;

    for (int i = 0; i < TRIES && pace->pause_us > 0; i++) {
        int64_t left_us = until_us - clock_monotonic_us(clock);

        if (left_us <= 0 || atomic_load(&pace->arrived) >= pace->expected)
            break;
        wakeup_wait_us(pace->wakeup, left_us);
    }
    pace->pause_us = 0;
    atomic_store(&pace->wake_at, NOBODY);
}

void pace_sleep(struct pace *pace, int timeout_ms)
{
    /* In this order, and the other way round in pace_arrive(): one of the two sees the other. */
    atomic_store(&pace->wake_at, pace->taken + 1);
    if (atomic_load(&pace->arrived) <= pace->taken)
        wakeup_wait(pace->wakeup, timeout_ms);
    atomic_store(&pace->wake_at, NOBODY);
}
