/*
 * Keeps the subscriptions at Close as the topic map wants them: one thread that syncs when the
 * configuration says so or somebody asks, and looks in between whether Close still sends.
 *
 * The keys of subscriptions are handed to the webhook listener before it opens and whenever they
 * change. Without an account that has webhook_url and credentials, and without a keys file, there
 * is nothing to do. In broker mode nothing is changed from here: replicas would each do it.
 *
 * Threads: subscriptions_append_readiness() from any, the routes on the control listener's thread,
 * all else from the owner.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_SUBSCRIPTIONS_H
#define BRIDGE_SUBSCRIPTIONS_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/config.h"

struct buf;
struct clock;
struct control;
struct error;
struct metrics;
struct subscriptions; /* opaque: defined in subscriptions_internal.h */

struct subscriptions_options {
    const struct config *config; /* copied */
    const struct clock *clock;   /* borrowed, like the metrics */
    struct metrics *metrics;
    /* webhook_set_keys(), with its webhook as context. Any thread. */
    int (*use_keys)(void *context, const char *account,
                    const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                    struct error *err);
    void *use_keys_context;
    /* May be NULL. Looks at the topics that events go to: soon, or with `json` now, and appends
     * what it found, a JSON value (false: nothing was found out, for Kafka does not answer). */
    bool (*look_at_topics)(void *context, struct buf *json);
    void *topics_context;
    /* May be NULL. Told of a time (since 1970) whose events Close may not have delivered. */
    void (*note_gap)(void *context, const char *account, int64_t since_ms, int64_t until_ms);
    void *gap_context;
};

/* Reads the keys file and hands its keys to the listener. Returns owned (subscriptions_free), NULL
 * on failure. */
struct subscriptions *subscriptions_open(const struct subscriptions_options *options,
                                         struct error *err);

/* Before the control listener starts: POST /control/sync, GET and DELETE /control/subscriptions. */
void subscriptions_add_routes(struct subscriptions *subscriptions, struct control *control);

/* Starts the thread, and with it the first sync: the webhook listener should be open. */
int subscriptions_start(struct subscriptions *subscriptions, struct error *err);

/* Copies another configuration; accounts that are not `sync: manual` are then synced. -1: the old
 * one stays. */
int subscriptions_reconfigure(struct subscriptions *subscriptions, const struct config *config,
                              struct error *err);

/* Appends ,"subscriptions":{"main":"active"}; nothing when there are none. Never blocks for long.
 */
void subscriptions_append_readiness(struct subscriptions *subscriptions, struct buf *json);

/* Unsubscribes accounts with `on_stop: unsubscribe`, answers what waits and joins the thread:
 * within three seconds, whatever Close does. Before the listeners are freed. */
void subscriptions_stop(struct subscriptions *subscriptions);

/* NULL is a no-op. */
void subscriptions_free(struct subscriptions *subscriptions);

#endif
