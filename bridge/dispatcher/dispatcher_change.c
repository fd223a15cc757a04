#include <semaphore.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config/config.h"
#include "bridge/config/config_diff.h"
#include "bridge/dispatcher/dead_copies.h"
#include "bridge/dispatcher/dispatcher_internal.h"
#include "bridge/dispatcher/flights.h"
#include "bridge/dispatcher/follower.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/journal/journal.h"

enum { OPEN_AGAIN_MS = 1000 };

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
        if (dispatcher_settings(change->config, p)->is_configured &&
            !atomic_load(&dispatcher->followers[p]) &&
            journal_add_cursor(journal, dispatcher_ops[p]->name, &change->cursors[p], err) < 0)
            return -1;
    }
    if (journal && change->config->dead_letter_topic && !dispatcher->dead_copies)
        return journal_add_cursor(journal, DEAD_COPIES_CURSOR, &change->dead_cursor, err);
    return 0;
}

void dispatcher_open_followers(struct dispatcher *dispatcher)
{
    int64_t now_ms = clock_monotonic_ms(dispatcher->options.clock);
    struct error err = {0};

    if (!dispatcher->options.journal || now_ms < dispatcher->next_open_ms)
        return;
    dispatcher->next_open_ms = now_ms + OPEN_AGAIN_MS;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!lane_is_configured(dispatcher->lanes[p]) || atomic_load(&dispatcher->followers[p]))
            continue;
        if (dispatcher_open_follower(dispatcher, p, &err) < 0)
            log_error("publisher.not_followed", log_str("publisher", dispatcher_ops[p]->name),
                      log_str("error", err.message), log_str("action", "tried again"));
    }
    dispatcher_choose_who_buries(dispatcher);
}

static void change_publisher(struct dispatcher *dispatcher, int p, const struct config *before,
                             const struct change *change)
{
    const struct config_publisher *settings = dispatcher_settings(change->config, p);
    struct follower *follower = atomic_load(&dispatcher->followers[p]);
    struct carrier_options options = dispatcher_carrier_options(change->config, p);

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
        dispatcher_open_dead_copies(dispatcher, change->dead_cursor);
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
    dispatcher_open_followers(dispatcher);
    change_dead_copies(dispatcher, change);
    if (dispatcher->flights)
        flights_set_config(dispatcher->flights, change->config);
    change->config = before;
}

void dispatcher_apply_changes(struct dispatcher *dispatcher)
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
