/*
 * What the sync has to know of the accounts: a copy, so that a sync that takes minutes does not
 * hold on to a configuration that was replaced.
 *
 * Immutable once made, but for the client's own member of `access`. Secrets are wiped.
 */
#ifndef BRIDGE_CLOSE_ACCOUNT_SETTINGS_H
#define BRIDGE_CLOSE_ACCOUNT_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/close/close_api.h"
#include "bridge/config/config.h"
#include "bridge/config/subscribed_pairs.h"

struct error;

struct account_settings {
    char *name;
    char *api_url;
    char *api_key;     /* NULL: none */
    char *oauth_token; /* NULL: none */
    char *webhook_url; /* NULL: none */
    enum sync_when sync;
    int64_t sync_interval_ms;
    bool verify_ssl;
    bool unsubscribes_on_stop;
    bool has_configured_keys;
    struct subscribed_pairs wanted;
    struct close_access access; /* borrows from the above */
};

struct settings {
    struct account_settings *accounts;
    size_t count;
};

/* Returns owned (settings_free), NULL on failure. */
struct settings *settings_new(const struct config *config, struct error *err);
void settings_free(struct settings *settings);

/* NULL: the configuration has no such account. */
struct account_settings *settings_find(const struct settings *settings, const char *name);

/* Whether there is what a sync needs: credentials and a webhook_url. */
bool account_can_sync(const struct account_settings *account);

/* Whether some account can. */
bool settings_can_sync(const struct config *config);

#endif
