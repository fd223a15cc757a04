#include "bridge/dispatcher.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/config.h"
#include "bridge/dead_copies.h"
#include "bridge/flights.h"
#include "bridge/follower.h"
#include "bridge/journal.h"
#include "bridge/lane.h"
#include "bridge/metrics.h"
#include "bridge/recent.h"
#include "bridge/replay.h"
#include "bridge/retries.h"
#include "bridge/saver.h"
#include "bridge/topic_map.h"
#include "publishers/kafka_publisher.h"
#include "publishers/mqtt_publisher.h"
#include "schemas/event.h"

enum { TURN_MS = 100, FAREWELL_MS = 2000 };

struct dispatcher {
    struct dispatcher_options options;
    struct wakeup wakeup;
    struct mailbox errands;    /* notes that came back from the journal */
    struct mailbox deliveries; /* broker mode */
    struct intake intake;
    struct router *router;
    struct recent *recent;
    struct journal_reader *reader;
    struct lane *lanes[PUBLISHER_COUNT];
    struct follower *followers[PUBLISHER_COUNT];
    struct dead_copies *dead_copies;
    struct retries *retries;
    struct replay *replay;
    struct flights *flights;
    pthread_t thread;
    bool is_running;
    atomic_bool is_stopping;
    _Atomic int64_t stop_deadline_ms; /* monotonic */
    bool is_at_rest;                  /* at the end of the thread */
};

static const struct publisher_ops *const publisher_ops[PUBLISHER_COUNT] = {&kafka_publisher_ops,
                                                                           &mqtt_publisher_ops};

static const struct config_publisher *settings_of(const struct config *config, int publisher)
{
    return publisher == PUBLISHER_KAFKA ? &config->kafka : &config->mqtt;
}

static const void *publisher_options_of(const struct config *config, int publisher)
{
    return publisher == PUBLISHER_KAFKA ? (const void *)&config->kafka_options
                                        : (const void *)&config->mqtt_options;
}

static int open_lanes(struct dispatcher *dispatcher, struct error *err)
{
    const struct config *config = dispatcher->options.config;

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!settings_of(config, p)->is_configured)
            continue;
        dispatcher->lanes[p] =
            lane_open(&(struct lane_options){.ops = publisher_ops[p],
                                             .publisher_options = publisher_options_of(config, p),
                                             .clock = dispatcher->options.clock,
                                             .wakeup = &dispatcher->wakeup,
                                             .metrics = dispatcher->options.metrics},
                      err);
        if (!dispatcher->lanes[p])
            return -1;
    }
    return 0;
}

static int open_follower(struct dispatcher *dispatcher, int p, bool buries_unrouted,
                         struct error *err)
{
    struct follower_options options = {
        .lane = dispatcher->lanes[p],
        .router = dispatcher->router,
        .publisher = (enum publisher_index)p,
        .settings = settings_of(dispatcher->options.config, p),
        .journal = dispatcher->options.journal,
        .reader = dispatcher->reader,
        .recent = dispatcher->recent,
        .errands = &dispatcher->errands,
        .clock = dispatcher->options.clock,
        .metrics = dispatcher->options.metrics,
        .buries_unrouted = buries_unrouted,
    };

    if (journal_open_cursor(dispatcher->options.journal, publisher_ops[p]->name, &options.cursor,
                            err) < 0)
        return -1;
    dispatcher->followers[p] = follower_open(&options, err);
    return dispatcher->followers[p] ? 0 : -1;
}

static int open_dead_copies(struct dispatcher *dispatcher, struct error *err)
{
    struct dead_copies_options options = {
        .lane = dispatcher->lanes[PUBLISHER_KAFKA],
        .router = dispatcher->router,
        .topic = dispatcher->options.config->dead_letter_topic,
        .journal = dispatcher->options.journal,
        .reader = dispatcher->reader,
        .errands = &dispatcher->errands,
        .clock = dispatcher->options.clock,
    };

    if (!options.topic || !options.lane)
        return 0;
    if (journal_open_cursor(dispatcher->options.journal, DEAD_COPIES_CURSOR, &options.cursor, err) <
        0)
        return -1;
    dispatcher->dead_copies = dead_copies_open(&options);
    return 0;
}

static void open_retries(struct dispatcher *dispatcher)
{
    struct retries_options options = {
        .router = dispatcher->router,
        .journal = dispatcher->options.journal,
        .reader = dispatcher->reader,
        .errands = &dispatcher->errands,
        .clock = dispatcher->options.clock,
        .metrics = dispatcher->options.metrics,
    };

    for (int p = 0; p < PUBLISHER_COUNT; p++)
        options.lanes[p] = dispatcher->lanes[p];
    dispatcher->retries = retries_open(&options);
}

static uint64_t settled_up_to(void *context, enum publisher_index publisher)
{
    const struct dispatcher *dispatcher = context;
    const struct follower *follower = dispatcher->followers[publisher];

    return follower ? follower_settled(follower) : 0;
}

static void open_replay(struct dispatcher *dispatcher)
{
    struct replay_options options = {
        .settled_up_to = settled_up_to,
        .context = dispatcher,
        .router = dispatcher->router,
        .journal = dispatcher->options.journal,
        .wakeup = &dispatcher->wakeup,
        .clock = dispatcher->options.clock,
        .metrics = dispatcher->options.metrics,
    };

    for (int p = 0; p < PUBLISHER_COUNT; p++)
        options.lanes[p] = dispatcher->lanes[p];
    dispatcher->replay = replay_open(&options);
}

/* At a scrape, on its thread. */
static void measure(void *context)
{
    const struct dispatcher *dispatcher = context;

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (dispatcher->followers[p])
            follower_measure(dispatcher->followers[p]);
    }
}

static void count_dead(void *context, const char *publisher)
{
    const struct dispatcher *dispatcher = context;

    metric_add(saver_dead_letters(dispatcher->options.metrics, publisher), 1);
}

static int follow_journal(struct dispatcher *dispatcher, struct error *err)
{
    struct journal_numbers numbers;
    bool buries_unrouted = true;

    journal_numbers(dispatcher->options.journal, &numbers);
    dispatcher->recent = recent_new(numbers.tail);
    dispatcher->reader = journal_reader_open(dispatcher->options.journal, err);
    if (!dispatcher->reader)
        return -1;
    metrics_on_scrape(dispatcher->options.metrics, measure, dispatcher);
    if (journal_visit_dead(dispatcher->reader, count_dead, dispatcher, err) < 0)
        return -1;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!dispatcher->lanes[p])
            continue;
        if (open_follower(dispatcher, p, buries_unrouted, err) < 0)
            return -1;
        buries_unrouted = false;
    }
    open_retries(dispatcher);
    open_replay(dispatcher);
    return open_dead_copies(dispatcher, err);
}

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

static int fly(struct dispatcher *dispatcher, struct error *err)
{
    struct flights_options options = {.config = dispatcher->options.config,
                                      .router = dispatcher->router,
                                      .clock = dispatcher->options.clock,
                                      .metrics = dispatcher->options.metrics};

    for (int p = 0; p < PUBLISHER_COUNT; p++)
        options.lanes[p] = dispatcher->lanes[p];
    dispatcher->flights = flights_open(&options, err);
    return dispatcher->flights ? 0 : -1;
}

struct dispatcher *dispatcher_open(const struct dispatcher_options *options, struct error *err)
{
    struct dispatcher *dispatcher = alloc_zeroed(1, sizeof(*dispatcher));

    dispatcher->options = *options;
    dispatcher->intake = (struct intake){accept_delivery, identify};
    if (wakeup_init(&dispatcher->wakeup, err) < 0) {
        free(dispatcher);
        return NULL;
    }
    mailbox_init(&dispatcher->errands, &dispatcher->wakeup);
    mailbox_init(&dispatcher->deliveries, &dispatcher->wakeup);
    dispatcher->router = router_new(options->config, err);
    if (!dispatcher->router || open_lanes(dispatcher, err) < 0)
        goto fail;
    if ((options->journal ? follow_journal(dispatcher, err) : fly(dispatcher, err)) < 0)
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

bool dispatcher_is_configured(const struct dispatcher *dispatcher, int publisher)
{
    return dispatcher->lanes[publisher] != NULL;
}

bool dispatcher_is_down(const struct dispatcher *dispatcher, int publisher)
{
    return dispatcher->lanes[publisher] && lane_is_down(dispatcher->lanes[publisher], true);
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
        fds[1 + p].fd = dispatcher->lanes[p] ? lane_fd(dispatcher->lanes[p]) : -1;
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
        struct follower *follower = dispatcher->followers[p];

        if (!follower)
            continue;
        follower_run(follower);
        if (follower_next(follower) < needed)
            needed = follower_next(follower);
    }
    if (dispatcher->recent && needed != UINT64_MAX)
        recent_release_before(dispatcher->recent, needed);
}

static bool is_at_rest(const struct dispatcher *dispatcher)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (dispatcher->followers[p] && !follower_is_at_rest(dispatcher->followers[p]))
            return false;
    }
    return !dispatcher->flights || flights_are_at_rest(dispatcher->flights);
}

/* What is done ten times a second, however busy the thread is. */
static void tick(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        readable[p] = true; /* publishers have timers, too */
    if (dispatcher->dead_copies && !atomic_load(&dispatcher->is_stopping))
        dead_copies_run(dispatcher->dead_copies);
}

/* One turn of the thread. Returns how long the next one may wait. */
static int turn(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    int timeout_ms = TURN_MS;

    errands_finish(&dispatcher->errands);
    if (dispatcher->flights)
        take_deliveries(dispatcher);
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (dispatcher->lanes[p])
            lane_run(dispatcher->lanes[p], readable[p]);
    }
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
        if (dispatcher->followers[p])
            follower_stop(dispatcher->followers[p]);
    }
    if (dispatcher->retries)
        retries_stop(dispatcher->retries);
    if (dispatcher->replay)
        replay_end(dispatcher->replay);
    if (dispatcher->flights)
        flights_stop(dispatcher->flights);
}

static void *run(void *argument)
{
    struct dispatcher *dispatcher = argument;
    bool readable[PUBLISHER_COUNT] = {true, true};
    int64_t next_tick_ms = 0;
    int timeout_ms = 0;

    for (;;) {
        int64_t now_ms;

        wait_for_work(dispatcher, timeout_ms, readable);
        now_ms = clock_monotonic_ms(dispatcher->options.clock);
        if (now_ms >= next_tick_ms) {
            tick(dispatcher, readable);
            next_tick_ms = now_ms + TURN_MS;
        }
        timeout_ms = turn(dispatcher, readable);
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
        follower_close(dispatcher->followers[p]);
    flights_close(dispatcher->flights);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_close(dispatcher->lanes[p], FAREWELL_MS);
    journal_reader_close(dispatcher->reader);
    recent_free(dispatcher->recent);
    router_free(dispatcher->router);
    wakeup_release(&dispatcher->wakeup);
    free(dispatcher);
}
