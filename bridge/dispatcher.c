#include "bridge/dispatcher.h"

#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/carrier.h"
#include "bridge/config.h"
#include "bridge/config_diff.h"
#include "bridge/dead_copies.h"
#include "bridge/flights.h"
#include "bridge/follower.h"
#include "bridge/journal.h"
#include "bridge/lane.h"
#include "bridge/metrics.h"
#include "bridge/outcomes.h"
#include "bridge/recent.h"
#include "bridge/replay.h"
#include "bridge/retries.h"
#include "bridge/saver.h"
#include "bridge/topic_map.h"
#include "publishers/kafka_publisher.h"
#include "publishers/mqtt_publisher.h"
#include "schemas/event.h"

enum { TURN_MS = 100, FAREWELL_MS = 2000, OPEN_AGAIN_MS = 1000 };

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

static struct carrier_options carrier_options_of(const struct config *config, int publisher)
{
    if (!settings_of(config, publisher)->is_configured)
        return (struct carrier_options){NULL, NULL};
    return (struct carrier_options){config, publisher_options_of(config, publisher)};
}

static int open_lanes(struct dispatcher *dispatcher, struct error *err)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct carrier_options options = carrier_options_of(dispatcher->options.config, p);

        if (dispatcher->options.journal)
            dispatcher->outcomes[p] = outcomes_new();
        dispatcher->lanes[p] =
            lane_new(&(struct lane_options){.ops = publisher_ops[p],
                                            .clock = dispatcher->options.clock,
                                            .wakeup = &dispatcher->wakeup,
                                            .metrics = dispatcher->options.metrics,
                                            .outcomes = dispatcher->outcomes[p]});
        if (options.options && lane_open(dispatcher->lanes[p], &options, err) < 0)
            return -1;
    }
    return 0;
}

static int open_follower(struct dispatcher *dispatcher, int p, struct error *err)
{
    struct follower_options options = {
        .lane = dispatcher->lanes[p],
        .router = dispatcher->router,
        .publisher = (enum publisher_index)p,
        .settings = *settings_of(dispatcher->options.config, p),
        .journal = dispatcher->options.journal,
        .reader = dispatcher->reader,
        .recent = dispatcher->recent,
        .errands = &dispatcher->errands,
        .clock = dispatcher->options.clock,
        .metrics = dispatcher->options.metrics,
        .cursor = dispatcher->cursors[p],
    };
    struct follower *follower = follower_open(&options, err);

    atomic_store(&dispatcher->followers[p], follower);
    return follower ? 0 : -1;
}

/* What was accepted and matches nothing any more becomes a dead letter of the first publisher,
 * once.
 */
static void choose_who_buries(struct dispatcher *dispatcher)
{
    bool is_chosen = false;

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct follower *follower = atomic_load(&dispatcher->followers[p]);
        bool can = follower && lane_is_configured(dispatcher->lanes[p]);

        if (follower)
            follower_set_buries_unrouted(follower, can && !is_chosen);
        is_chosen = is_chosen || can;
    }
}

static void open_dead_copies(struct dispatcher *dispatcher, uint64_t cursor)
{
    struct dead_copies_options options = {
        .lane = dispatcher->lanes[PUBLISHER_KAFKA],
        .router = dispatcher->router,
        .journal = dispatcher->options.journal,
        .reader = dispatcher->reader,
        .errands = &dispatcher->errands,
        .clock = dispatcher->options.clock,
        .cursor = cursor,
    };

    dispatcher->dead_copies = dead_copies_open(&options);
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
    const struct follower *follower = atomic_load(&dispatcher->followers[publisher]);

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
        const struct follower *follower = atomic_load(&dispatcher->followers[p]);

        if (follower)
            follower_measure(follower);
    }
}

static void count_dead(void *context, const char *publisher)
{
    const struct dispatcher *dispatcher = context;

    metric_add(saver_dead_letters(dispatcher->options.metrics, publisher), 1);
}

static void visit_place(void *context, const char *publisher, uint64_t seq)
{
    struct dispatcher *dispatcher = context;

    (void)seq;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (strcmp(publisher, publisher_ops[p]->name) == 0)
            atomic_store(&dispatcher->has_place[p], true);
    }
}

/* Before the journal starts. */
static int follow_publishers(struct dispatcher *dispatcher, struct error *err)
{
    struct journal *journal = dispatcher->options.journal;
    const char *dead_topic = dispatcher->options.config->dead_letter_topic;
    uint64_t dead_cursor;

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!lane_is_configured(dispatcher->lanes[p]))
            continue;
        if (journal_open_cursor(journal, publisher_ops[p]->name, &dispatcher->cursors[p], err) <
                0 ||
            open_follower(dispatcher, p, err) < 0)
            return -1;
    }
    choose_who_buries(dispatcher);
    journal_visit_cursors(journal, visit_place, dispatcher);
    if (!dead_topic)
        return 0;
    if (journal_open_cursor(journal, DEAD_COPIES_CURSOR, &dead_cursor, err) < 0)
        return -1;
    open_dead_copies(dispatcher, dead_cursor);
    dead_copies_set_topic(dispatcher->dead_copies, dead_topic);
    return 0;
}

static int follow_journal(struct dispatcher *dispatcher, struct error *err)
{
    struct journal_numbers numbers;

    journal_numbers(dispatcher->options.journal, &numbers);
    dispatcher->recent = recent_new(numbers.tail);
    dispatcher->reader = journal_reader_open(dispatcher->options.journal, err);
    if (!dispatcher->reader)
        return -1;
    metrics_on_scrape(dispatcher->options.metrics, measure, dispatcher);
    if (journal_visit_dead(dispatcher->reader, count_dead, dispatcher, err) < 0)
        return -1;
    open_retries(dispatcher);
    open_replay(dispatcher);
    return follow_publishers(dispatcher, err);
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

bool dispatcher_is_down(const struct dispatcher *dispatcher, int publisher)
{
    return lane_is_down(dispatcher->lanes[publisher], true);
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

/* ---- another configuration ---- */

struct change {
    struct mailbox_node node;
    const struct config *config; /* afterwards: the one before */
    struct router *router;       /* afterwards: of the one before */
    uint64_t cursors[PUBLISHER_COUNT];
    uint64_t dead_cursor;
    sem_t is_done;
};

/* A publisher that was never configured before gets its place now: durable, at the journal's end.
 */
static int find_places(struct dispatcher *dispatcher, struct change *change, struct error *err)
{
    struct journal *journal = dispatcher->options.journal;

    for (int p = 0; journal && p < PUBLISHER_COUNT; p++) {
        if (settings_of(change->config, p)->is_configured &&
            !atomic_load(&dispatcher->followers[p]) &&
            journal_add_cursor(journal, publisher_ops[p]->name, &change->cursors[p], err) < 0)
            return -1;
    }
    if (journal && change->config->dead_letter_topic && !dispatcher->dead_copies)
        return journal_add_cursor(journal, DEAD_COPIES_CURSOR, &change->dead_cursor, err);
    return 0;
}

/* Opens what has a cursor and no follower: also later, when the journal could not be read at first.
 */
static void open_followers(struct dispatcher *dispatcher)
{
    int64_t now_ms = clock_monotonic_ms(dispatcher->options.clock);
    struct error err = {0};

    if (!dispatcher->options.journal || now_ms < dispatcher->next_open_ms)
        return;
    dispatcher->next_open_ms = now_ms + OPEN_AGAIN_MS;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!lane_is_configured(dispatcher->lanes[p]) || atomic_load(&dispatcher->followers[p]))
            continue;
        if (open_follower(dispatcher, p, &err) < 0)
            log_error("publisher.not_followed", log_str("publisher", publisher_ops[p]->name),
                      log_str("error", err.message), log_str("action", "tried again"));
    }
    choose_who_buries(dispatcher);
}

static void change_publisher(struct dispatcher *dispatcher, int p, const struct config *before,
                             const struct change *change)
{
    const struct config_publisher *settings = settings_of(change->config, p);
    struct follower *follower = atomic_load(&dispatcher->followers[p]);
    struct carrier_options options = carrier_options_of(change->config, p);

    if (!config_same_publisher(before, change->config, (enum publisher_index)p))
        lane_change(dispatcher->lanes[p], &options);
    if (settings->is_configured && !follower)
        dispatcher->cursors[p] = change->cursors[p];
    if (settings->is_configured)
        atomic_store(&dispatcher->has_place[p], dispatcher->options.journal != NULL);
    if (follower && settings->is_configured)
        follower_set(follower, settings);
    if (follower)
        follower_set_stopped(follower, !settings->is_configured);
}

static void change_dead_copies(struct dispatcher *dispatcher, const struct change *change)
{
    const char *topic = change->config->dead_letter_topic;

    if (!dispatcher->options.journal)
        return;
    if (!dispatcher->dead_copies && topic)
        open_dead_copies(dispatcher, change->dead_cursor);
    if (dispatcher->dead_copies)
        dead_copies_set_topic(dispatcher->dead_copies, topic);
}

static void apply(struct dispatcher *dispatcher, struct change *change)
{
    const struct config *before = dispatcher->options.config;

    dispatcher->options.config = config_ref(change->config);
    router_swap(dispatcher->router, change->router);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        change_publisher(dispatcher, p, before, change);
    dispatcher->next_open_ms = 0;
    open_followers(dispatcher);
    change_dead_copies(dispatcher, change);
    if (dispatcher->flights)
        flights_set_config(dispatcher->flights, change->config);
    change->config = before;
}

static void apply_changes(struct dispatcher *dispatcher)
{
    struct mailbox_node *node = mailbox_take(&dispatcher->changes);

    while (node) {
        struct change *change = container_of(node, struct change, node);

        node = node->next; /* first: it is gone once it is done */
        apply(dispatcher, change);
        sem_post(&change->is_done);
    }
}

int dispatcher_reconfigure(struct dispatcher *dispatcher, const struct config *config,
                           struct error *err)
{
    struct change change = {.config = config, .router = router_new(config, err)};

    if (!change.router)
        return -1;
    if (find_places(dispatcher, &change, err) < 0) {
        router_free(change.router);
        return -1;
    }
    sem_init(&change.is_done, 0, 0);
    mailbox_push(&dispatcher->changes, &change.node);
    while (sem_wait(&change.is_done) != 0)
        ; /* interrupted */
    sem_destroy(&change.is_done);
    router_free(change.router);
    config_free(change.config);
    return 0;
}

/* ---- the thread ---- */

/* What is done ten times a second, however busy the thread is. */
static void tick(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        readable[p] = true; /* publishers have timers, too */
    if (dispatcher->dead_copies && !atomic_load(&dispatcher->is_stopping))
        dead_copies_run(dispatcher->dead_copies);
    open_followers(dispatcher);
}

/* One turn of the thread. Returns how long the next one may wait. */
static int turn(struct dispatcher *dispatcher, bool readable[PUBLISHER_COUNT])
{
    int timeout_ms = TURN_MS;

    apply_changes(dispatcher);
    errands_finish(&dispatcher->errands);
    if (dispatcher->flights)
        take_deliveries(dispatcher);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_run(dispatcher->lanes[p], readable[p]);
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
