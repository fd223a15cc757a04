#include "bridge/dispatcher/dispatcher.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/thread.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/dead_copies.h"
#include "bridge/dispatcher/dispatcher_internal.h"
#include "bridge/dispatcher/flights.h"
#include "bridge/dispatcher/follower.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/dispatcher/outcomes.h"
#include "bridge/dispatcher/recent.h"
#include "bridge/dispatcher/replay.h"
#include "bridge/dispatcher/retries.h"
#include "bridge/journal/journal.h"

enum { TURN_MS = 100, PAUSE_NS = 250000, REST_US = 500, FAREWELL_MS = 2000 };

static void accept_delivery(struct intake *intake, struct delivery *delivery)
{
    struct dispatcher *dispatcher = container_of(intake, struct dispatcher, intake);

    mailbox_push(&dispatcher->deliveries, &delivery->node);
}

static void identify(struct intake *intake, struct event *event)
{
    const struct dispatcher *dispatcher = container_of(intake, struct dispatcher, intake);

    flights_identify(dispatcher->flights, event);
}

struct dispatcher *dispatcher_open(const struct dispatcher_options *options, struct error *err)
{
    struct dispatcher *dispatcher = alloc_zeroed(1, sizeof(*dispatcher));

    dispatcher->options = *options;
    config_ref(options->config);
    dispatcher->intake = (struct intake){accept_delivery, identify};
    if (wakeup_init(&dispatcher->wakeup, err) < 0) {
        config_free(options->config);
        free(dispatcher);
        return NULL;
    }
    mailbox_init(&dispatcher->errands, &dispatcher->wakeup);
    mailbox_init(&dispatcher->deliveries, &dispatcher->wakeup);
    mailbox_init(&dispatcher->changes, &dispatcher->wakeup);
    dispatcher->router = router_new(options->config, err);
    if (!dispatcher->router || dispatcher_open_lanes(dispatcher, err) < 0)
        goto fail;
    if ((options->journal ? dispatcher_follow_journal(dispatcher, err)
                          : dispatcher_fly(dispatcher, err)) < 0)
        goto fail;
    return dispatcher;

fail:
    dispatcher_close(dispatcher);
    return NULL;
}

void dispatcher_on_stored(void *context, struct event *const *events, size_t count)
{
    struct dispatcher *dispatcher = context;

    recent_put(dispatcher->recent, events, count);
    wakeup_signal(&dispatcher->wakeup);
}

struct intake *dispatcher_intake(struct dispatcher *dispatcher)
{
    return &dispatcher->intake;
}

void dispatcher_retry(struct dispatcher *dispatcher, struct retry_request *request)
{
    retries_ask(dispatcher->retries, request);
}

struct replay *dispatcher_replay(const struct dispatcher *dispatcher)
{
    return dispatcher->replay;
}

const char *dispatcher_trouble(const struct dispatcher *dispatcher)
{
    return dispatcher->flights ? flights_trouble(dispatcher->flights) : NULL;
}

int64_t dispatcher_busy_ms(const struct dispatcher *dispatcher)
{
    return pulse_busy_ms(&dispatcher->pulse, dispatcher->options.clock);
}

bool dispatcher_is_configured(const struct dispatcher *dispatcher, int publisher)
{
    return lane_is_configured(dispatcher->lanes[publisher]);
}

bool dispatcher_is_removed(const struct dispatcher *dispatcher, int publisher)
{
    return atomic_load(&dispatcher->has_place[publisher]) &&
           !lane_is_configured(dispatcher->lanes[publisher]);
}

bool dispatcher_settled(const struct dispatcher *dispatcher, int publisher, uint64_t *out_seq)
{
    const struct follower *follower = atomic_load(&dispatcher->followers[publisher]);

    if (!follower || !lane_is_configured(dispatcher->lanes[publisher]))
        return false;
    *out_seq = follower_settled(follower);
    return true;
}

struct outcomes *dispatcher_outcomes(const struct dispatcher *dispatcher, int publisher)
{
    return dispatcher->outcomes[publisher];
}

bool dispatcher_is_down(const struct dispatcher *dispatcher, int publisher, bool unknown)
{
    return lane_is_down(dispatcher->lanes[publisher], unknown);
}

static void take_deliveries(struct dispatcher *dispatcher)
{
    struct mailbox_node *node = mailbox_take(&dispatcher->deliveries);

    while (node) {
        struct delivery *delivery = container_of(node, struct delivery, node);

        node = node->next; /* first: the delivery is gone once it is answered */
        flights_accept(dispatcher->flights, delivery);
    }
}

/* Waits for something to do and says which publishers have something to report. */
static void wait_for_work(struct dispatcher *dispatcher, int timeout_ms,
                          bool out_readable[PUBLISHER_COUNT])
{
    struct pollfd fds[1 + PUBLISHER_COUNT] = {{.fd = dispatcher->wakeup.fd, .events = POLLIN}};

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        fds[1 + p].fd = lane_fd(dispatcher->lanes[p]);
        fds[1 + p].events = POLLIN;
    }
    if (poll(fds, 1 + PUBLISHER_COUNT, timeout_ms) < 0)
        return; /* interrupted: the next turn sees the same */
    if (fds[0].revents)
        wakeup_clear(&dispatcher->wakeup);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        out_readable[p] = fds[1 + p].revents != 0;
}

static void run_followers(struct dispatcher *dispatcher)
{
    uint64_t needed = UINT64_MAX;

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct follower *follower = atomic_load(&dispatcher->followers[p]);

        if (!follower)
            continue;
        follower_run(follower);
        if (lane_is_configured(dispatcher->lanes[p]) && follower_next(follower) < needed)
            needed = follower_next(follower);
    }
    if (dispatcher->recent && needed != UINT64_MAX)
        recent_release_before(dispatcher->recent, needed);
}

static bool is_at_rest(const struct dispatcher *dispatcher)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct follower *follower = atomic_load(&dispatcher->followers[p]);

        if (follower && !follower_is_at_rest(follower))
            return false;
    }
    return !dispatcher->flights || flights_are_at_rest(dispatcher->flights);
}

/* ---- the thread ---- */

/* What is done ten times a second, however busy the thread is. */
static void tick(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        readable[p] = true; /* publishers have timers, too */
    if (dispatcher->dead_copies && !atomic_load(&dispatcher->is_stopping))
        dead_copies_run(dispatcher->dead_copies);
    dispatcher_open_followers(dispatcher);
}

/* One turn of the thread. Returns how long the next one may wait. */
static int turn(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    int timeout_ms = TURN_MS;

    dispatcher_apply_changes(dispatcher);
    errands_finish(&dispatcher->errands);
    if (dispatcher->flights)
        take_deliveries(dispatcher);
    wakeup_hold(); /* acknowledgements come many at a time, and in broker mode each is an answer */
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_run(dispatcher->lanes[p], readable[p]);
    wakeup_let_go();
    run_followers(dispatcher);
    if (dispatcher->retries)
        retries_run(dispatcher->retries);
    if (dispatcher->replay && !replay_run(dispatcher->replay))
        timeout_ms = 0;
    if (dispatcher->flights) {
        int flights_ms = flights_run(dispatcher->flights);

        timeout_ms = flights_ms < timeout_ms ? flights_ms : timeout_ms;
    }
    return timeout_ms;
}

static void stop_taking(struct dispatcher *dispatcher)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct follower *follower = atomic_load(&dispatcher->followers[p]);

        if (follower)
            follower_set_stopped(follower, true);
    }
    if (dispatcher->retries)
        retries_stop(dispatcher->retries);
    if (dispatcher->replay)
        replay_end(dispatcher->replay);
    if (dispatcher->flights)
        flights_stop(dispatcher->flights);
}

/* What comes in a quarter of a millisecond is one turn's work: without the pause nearly every event
 * and every acknowledgement would wake the thread. It lies behind the turn, so that what comes to a
 * thread at rest does not wait. Behind a turn that was long in coming it is left out: little comes
 * then, and to sleep once more would cost more than it gathers. */
static void pause_behind_turn(void)
{
    nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
}

static void *run(void *argument)
{
    struct dispatcher *dispatcher = argument;
    bool readable[PUBLISHER_COUNT] = {true, true};
    int64_t next_tick_ms = 0;
    int timeout_ms = 0;

    for (;;) {
        int64_t idle_us = clock_monotonic_us(dispatcher->options.clock);
        int64_t now_ms;

        pulse_end(&dispatcher->pulse);
        wait_for_work(dispatcher, timeout_ms, readable);
        idle_us = clock_monotonic_us(dispatcher->options.clock) - idle_us;
        pulse_begin(&dispatcher->pulse, dispatcher->options.clock);
        now_ms = clock_monotonic_ms(dispatcher->options.clock);
        if (now_ms >= next_tick_ms) {
            tick(dispatcher, readable);
            next_tick_ms = now_ms + TURN_MS;
        }
        timeout_ms = turn(dispatcher, readable);
        if (idle_us < REST_US)
            pause_behind_turn();
        if (!atomic_load(&dispatcher->is_stopping))
            continue;
        stop_taking(dispatcher);
        dispatcher->is_at_rest = is_at_rest(dispatcher);
        if (dispatcher->is_at_rest || now_ms >= atomic_load(&dispatcher->stop_deadline_ms))
            return NULL;
        timeout_ms = timeout_ms < 20 ? timeout_ms : 20;
    }
}

int dispatcher_start(struct dispatcher *dispatcher, struct error *err)
{
    if (thread_start(&dispatcher->thread, "dispatcher", run, dispatcher, err) < 0)
        return -1;
    dispatcher->is_running = true;
    return 0;
}

bool dispatcher_stop(struct dispatcher *dispatcher, int64_t timeout_ms)
{
    if (!dispatcher->is_running)
        return true;
    atomic_store(&dispatcher->stop_deadline_ms,
                 clock_monotonic_ms(dispatcher->options.clock) + timeout_ms);
    atomic_store(&dispatcher->is_stopping, true);
    wakeup_signal(&dispatcher->wakeup);
    pthread_join(dispatcher->thread, NULL);
    dispatcher->is_running = false;
    return dispatcher->is_at_rest;
}

void dispatcher_close(struct dispatcher *dispatcher)
{
    if (!dispatcher)
        return;
    dead_copies_close(dispatcher->dead_copies);
    retries_close(dispatcher->retries);
    replay_close(dispatcher->replay);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        follower_close(atomic_load(&dispatcher->followers[p]));
    flights_close(dispatcher->flights);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_close(dispatcher->lanes[p], FAREWELL_MS);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        outcomes_free(dispatcher->outcomes[p]);
    journal_reader_close(dispatcher->reader);
    recent_free(dispatcher->recent);
    router_free(dispatcher->router);
    config_free(dispatcher->options.config);
    wakeup_release(&dispatcher->wakeup);
    free(dispatcher);
}
