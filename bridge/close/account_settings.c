#include "bridge/close/account_settings.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/error.h"

static char *copy_string(const char *string)
{
    return string ? alloc_string(string) : NULL;
}

static void wipe_free(char *secret)
{
    if (secret)
        OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

static int copy_account(struct account_settings *account, const struct config *config,
                        const struct config_account *source, struct error *err)
{
    *account = (struct account_settings){
        .name = alloc_string(source->name),
        .api_url = alloc_string(source->api_url),
        .api_key = copy_string(source->api_key),
        .oauth_token = copy_string(source->oauth_token),
        .webhook_url = copy_string(source->webhook_url),
        .sync = source->sync,
        .sync_interval_ms = source->sync_interval_ms,
        .verify_ssl = source->verify_ssl,
        .unsubscribes_on_stop = source->on_stop == ON_STOP_UNSUBSCRIBE,
        .has_configured_keys = source->signature_key_count > 0,
    };
    account->access = (struct close_access){
        .url = account->api_url, .api_key = account->api_key, .oauth_token = account->oauth_token};
    return subscribed_pairs_list(config, source->name, &account->wanted, err);
}

static void release_account(struct account_settings *account)
{
    free(account->name);
    free(account->api_url);
    wipe_free(account->api_key);
    wipe_free(account->oauth_token);
    free(account->webhook_url);
    subscribed_pairs_release(&account->wanted);
}

struct settings *settings_new(const struct config *config, struct error *err)
{
    struct settings *settings = alloc_zeroed(1, sizeof(*settings));

    settings->accounts = alloc_zeroed(config->account_count + 1, sizeof(*settings->accounts));
    for (size_t i = 0; i < config->account_count; i++) {
        settings->count = i + 1;
        if (copy_account(&settings->accounts[i], config, &config->accounts[i], err) < 0) {
            settings_free(settings);
            return NULL;
        }
    }
    return settings;
}

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < settings->count; i++)
        release_account(&settings->accounts[i]);
    free(settings->accounts);
    free(settings);
}

struct account_settings *settings_find(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp(settings->accounts[i].name, name) == 0)
            return &settings->accounts[i];
    }
    return NULL;
}

bool account_can_sync(const struct account_settings *account)
{
    return (account->api_key || account->oauth_token) && account->webhook_url;
}

bool settings_can_sync(const struct config *config)
{
    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *account = &config->accounts[i];

        if ((account->api_key || account->oauth_token) && account->webhook_url)
            return true;
    }
    return false;
}
