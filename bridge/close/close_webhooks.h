/*
 * The calls of Close's webhook API, typed: GET, POST, PUT and DELETE of /webhook/.
 *
 * Threads: those of the close_api that is used.
 */
#ifndef BRIDGE_CLOSE_CLOSE_WEBHOOKS_H
#define BRIDGE_CLOSE_CLOSE_WEBHOOKS_H

#include <stdbool.h>

#include "bridge/close/close_subscription.h"

struct close_access;
struct close_api;
struct error;

/* What a POST or PUT sends; members that are NULL or false are left out. */
struct close_change {
    const char *url;
    const struct subscribed_pairs *pairs;
    bool sets_verify_ssl;
    bool verify_ssl;
    bool activates;
};

/* All subscriptions that the key may see, whatever the number of pages. `out_list` is owned
 * (close_subscriptions_release). */
int close_webhooks_list(struct close_api *api, struct close_access *access,
                        struct close_subscriptions *out_list, struct error *err);

/*
 * -1: `out_status` is that of Close's answer, 0 when none came or it was not understood. Else
 * `out_subscription` is owned (close_subscription_release).
 */
int close_webhooks_get(struct close_api *api, struct close_access *access, const char *id,
                       struct close_subscription *out_subscription, int *out_status,
                       struct error *err);
int close_webhooks_create(struct close_api *api, struct close_access *access,
                          const struct close_change *change,
                          struct close_subscription *out_subscription, int *out_status,
                          struct error *err);
int close_webhooks_update(struct close_api *api, struct close_access *access, const char *id,
                          const struct close_change *change,
                          struct close_subscription *out_subscription, int *out_status,
                          struct error *err);

/* 0 also when there was none of that id. */
int close_webhooks_delete(struct close_api *api, struct close_access *access, const char *id,
                          struct error *err);

#endif
