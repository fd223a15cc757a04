/*
 * When the journal's writer commits: at once when it was at rest, else once those it has just
 * answered have had the time to send again.
 *
 * Half of what a commit costs is the same however much it holds, and a sender that keeps several
 * connections open sends again as soon as it is answered. Without a pause behind a batch half of
 * them would always be too late for the next one: two batches of half the size would take turns. So
 * the writer waits until as many have arrived as it answered, but not long: the longer the more
 * there were. What arrives meanwhile wakes nobody, but the last one that is waited for.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_PACE_H
#define BRIDGE_JOURNAL_JOURNAL_PACE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct clock;
struct wakeup;

struct pace {
    struct wakeup *wakeup;
    _Atomic uint64_t arrived; /* deliveries, ever */
    _Atomic uint64_t wake_at; /* the arrival that wakes the writer; 0: none */
    uint64_t taken;           /* deliveries that the writer took, ever */
    uint64_t expected;        /* arrivals when all that were answered have sent again */
    int64_t pause_us;         /* how long they are waited for; 0: not at all */
};

/* Borrows `wakeup`, which others may signal, too. */
void pace_init(struct pace *pace, struct wakeup *wakeup);

/* Any thread, once its delivery can be taken. */
void pace_arrive(struct pace *pace);

/* ---- the writer ---- */

/* It took so many. */
void pace_take(struct pace *pace, size_t count);

/* It is about to answer so many. */
void pace_answer(struct pace *pace, size_t count);

/* Waits for those that were answered last; at once when there is nobody to wait for. */
void pace_pause(struct pace *pace, const struct clock *clock);

/* Waits until something arrives or the wakeup is signalled, at most `timeout_ms` (-1: for ever). */
void pace_sleep(struct pace *pace, int timeout_ms);

#endif
