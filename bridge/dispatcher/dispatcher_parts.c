#include <string.h>

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
#include "bridge/dispatcher/saver.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "publishers/kafka_publisher.h"
#include "publishers/mqtt_publisher.h"

const struct publisher_ops *const dispatcher_ops[PUBLISHER_COUNT] = {&kafka_publisher_ops,
                                                                     &mqtt_publisher_ops};

const struct config_publisher *dispatcher_settings(const struct config *config, int publisher)
{
    return publisher == PUBLISHER_KAFKA ? &config->kafka : &config->mqtt;
}

static const void *publisher_options_of(const struct config *config, int publisher)
{
    return publisher == PUBLISHER_KAFKA ? (const void *)&config->kafka_options
                                        : (const void *)&config->mqtt_options;
}

struct carrier_options dispatcher_carrier_options(const struct config *config, int publisher)
{
    if (!dispatcher_settings(config, publisher)->is_configured)
        return (struct carrier_options){NULL, NULL};
    return (struct carrier_options){config, publisher_options_of(config, publisher)};
}

int dispatcher_open_lanes(struct dispatcher *dispatcher, struct error *err)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct carrier_options options = dispatcher_carrier_options(dispatcher->options.config, p);

        if (dispatcher->options.journal)
            dispatcher->outcomes[p] = outcomes_new();
        dispatcher->lanes[p] =
            lane_new(&(struct lane_options){.ops = dispatcher_ops[p],
                                            .clock = dispatcher->options.clock,
                                            .wakeup = &dispatcher->wakeup,
                                            .metrics = dispatcher->options.metrics,
                                            .outcomes = dispatcher->outcomes[p]});
        if (options.options && lane_open(dispatcher->lanes[p], &options, err) < 0)
            return -1;
    }
    return 0;
}

int dispatcher_open_follower(struct dispatcher *dispatcher, int p, struct error *err)
{
    struct follower_options options = {
        .lane = dispatcher->lanes[p],
        .router = dispatcher->router,
        .publisher = (enum publisher_index)p,
        .settings = *dispatcher_settings(dispatcher->options.config, p),
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

void dispatcher_choose_who_buries(struct dispatcher *dispatcher)
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

void dispatcher_open_dead_copies(struct dispatcher *dispatcher, uint64_t cursor)
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
        if (strcmp(publisher, dispatcher_ops[p]->name) == 0)
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
        if (journal_open_cursor(journal, dispatcher_ops[p]->name, &dispatcher->cursors[p], err) <
                0 ||
            dispatcher_open_follower(dispatcher, p, err) < 0)
            return -1;
    }
    dispatcher_choose_who_buries(dispatcher);
    journal_visit_cursors(journal, visit_place, dispatcher);
    if (!dead_topic)
        return 0;
    if (journal_open_cursor(journal, DEAD_COPIES_CURSOR, &dead_cursor, err) < 0)
        return -1;
    dispatcher_open_dead_copies(dispatcher, dead_cursor);
    dead_copies_set_topic(dispatcher->dead_copies, dead_topic);
    return 0;
}

int dispatcher_follow_journal(struct dispatcher *dispatcher, struct error *err)
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

int dispatcher_fly(struct dispatcher *dispatcher, struct error *err)
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
