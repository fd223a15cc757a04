#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_values.h"

enum { ACCOUNTS_MAX = 1000, KEYS_MAX = 64 };

static void wipe_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void config_account_release(struct config_account *account)
{
    if (account->signature_keys)
        explicit_bzero(account->signature_keys, account->signature_key_count * SIGNATURE_KEY_SIZE);
    free(account->signature_keys);
    wipe_free(account->api_key);
    wipe_free(account->oauth_token);
    free(account->name);
    free(account->api_url);
    free(account->webhook_url);
    *account = (struct config_account){0};
}

int config_parse_sync(struct config_loader *loader, const char *value, void *base,
                      struct error *err)
{
    struct config_account *account = base;
    int64_t interval;

    (void)loader;
    if (strcmp(value, "startup") == 0) {
        account->sync = SYNC_STARTUP;
    } else if (strcmp(value, "manual") == 0) {
        account->sync = SYNC_MANUAL;
    } else if (config_value_duration(text_of(value), &interval, NULL) == 0) {
        if (interval < 10000 || interval > INT64_C(7) * 86400000)
            return error_set(err, ERROR_CONFIG, "is not an interval between 10s and 7d");
        account->sync = SYNC_INTERVAL;
        account->sync_interval_ms = interval;
    } else {
        return error_set(err, ERROR_CONFIG,
                         "is not one of startup, manual or an interval such as 5m");
    }
    return 0;
}

static int keep_url(const char *value, char **out_url, struct error *err)
{
    size_t size = strlen(value);

    while (size > 0 && value[size - 1] == '/')
        size--;
    free(*out_url);
    *out_url = text_dup((struct text){value, size});
    return *out_url ? 0 : error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
}

int config_parse_close_url(struct config_loader *loader, const char *value, void *base,
                           struct error *err)
{
    struct config_account *account = base;
    bool is_https = false;
    char *host = NULL;
    bool is_safe;

    (void)loader;
    if (config_value_url(text_of(value), &is_https, &host, err) != 0)
        return -1;
    is_safe = is_https || config_value_is_loopback(host);
    free(host);
    if (!is_safe)
        return error_set(err, ERROR_CONFIG,
                         "would send the API key in the clear; write https:// (http:// is for "
                         "this machine only)");
    return keep_url(value, &account->api_url, err);
}

int config_parse_webhook_url(struct config_loader *loader, const char *value, void *base,
                             struct error *err)
{
    struct config_account *account = base;
    bool is_https = false;
    char *host = NULL;

    (void)loader;
    if (config_value_url(text_of(value), &is_https, &host, err) != 0)
        return -1;
    free(host);
    free(account->webhook_url);
    account->webhook_url = text_dup(text_of(value)); /* as written: it is compared with Close's */
    return account->webhook_url ? 0 : error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
}

/* ---- signature keys: never shown, not even in part ---- */

static void add_key(struct config_loader *loader, const struct config_node *node, struct text hex,
                    struct config_account *account)
{
    unsigned char *key = account->signature_keys[account->signature_key_count];

    if (hex.size != 2 * SIGNATURE_KEY_SIZE)
        config_report_mistake(loader->report, node, NULL,
                              "a signature key has 64 hex digits, this value has %zu bytes",
                              hex.size);
    else if (!text_from_hex(hex, key, SIGNATURE_KEY_SIZE))
        config_report_mistake(loader->report, node, NULL,
                              "a signature key has 64 hex digits, this value has other characters");
    else
        account->signature_key_count++;
}

/* One value with any number of keys, as `sync --keys-out` writes them into a file: a key a line. */
static void add_keys(struct config_loader *loader, const struct config_node *node,
                     struct config_account *account)
{
    static const char space[] = " \t\r\n";
    const char *at = node->text + strspn(node->text, space);
    size_t count = 0;

    if (!*at)
        config_report_warning(loader->report, node, NULL,
                              "holds no key yet: deliveries are answered 401 until it does");
    for (; *at && count < KEYS_MAX; count++) {
        size_t size = strcspn(at, space);

        add_key(loader, node, (struct text){at, size}, account);
        at += size;
        at += strspn(at, space);
    }
    if (*at)
        config_report_mistake(loader->report, node, NULL, "has more than %d keys", KEYS_MAX);
}

void config_load_signature_keys(struct config_loader *loader, const struct config_node *node,
                                void *base)
{
    struct config_account *account = base;

    if (node->kind == NODE_MAP) {
        config_report_mistake(loader->report, node, NULL, "expected a list, found a mapping");
        return;
    }
    if (node->count > KEYS_MAX) {
        config_report_mistake(loader->report, node, NULL, "has more than %d keys", KEYS_MAX);
        return;
    }
    account->signature_keys = calloc(KEYS_MAX, SIGNATURE_KEY_SIZE);
    if (!account->signature_keys) {
        config_report_line(loader->report, 1, "out of memory");
        return;
    }
    if (node->kind == NODE_SCALAR)
        add_keys(loader, node, account);
    for (size_t i = 0; i < node->count; i++) {
        if (config_expect_value(loader, node->items[i]))
            add_key(loader, node->items[i], text_of(node->items[i]->text), account);
    }
}

/* ---- accounts ---- */

static bool is_account_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    return name[0] && strspn(name, allowed) == strlen(name);
}

static void check_name(struct config_loader *loader, const struct config_node *node,
                       const struct config_account *account)
{
    const struct config *config = loader->config;

    if (!account->name)
        return;
    if (!is_account_name(account->name)) {
        config_report_mistake(loader->report, node, "name",
                              "only letters, digits, _ and - are allowed, for it is part of a URL");
        return;
    }
    for (const struct config_account *other = config->accounts; other < account; other++) {
        if (other->name && strcmp(other->name, account->name) == 0)
            config_report_mistake(loader->report, node, "name",
                                  "is taken by the account in line %d", other->line);
    }
}

/* Nothing to verify with, now or later. Keys that are there but wrong were reported. */
static bool has_no_keys(const struct config_node *node)
{
    const struct config_node *keys = config_node_get(node, "signature_keys");

    return (!keys || (keys->kind == NODE_LIST && keys->count == 0)) &&
           !config_node_get(node, "api_key") && !config_node_get(node, "oauth_token");
}

/* Whoever can read or change what Close sends. */
static void warn_of_exposure(struct config_loader *loader, const struct config_node *node,
                             const struct config_account *account)
{
    if (!account->webhook_url || (!account->api_key && !account->oauth_token))
        return;
    if (strncmp(account->webhook_url, "http://", 7) == 0)
        config_report_warning(loader->report, node, "webhook_url",
                              "Close sends customers' data over http, which anybody on the way can "
                              "read; use https");
    else if (!account->verify_ssl)
        config_report_warning(loader->report, node, "verify_ssl",
                              "Close does not verify who answers at webhook_url: anybody on the "
                              "way can read what it sends");
}

static void check_account(struct config_loader *loader, const struct config_node *node,
                          const struct config_account *account)
{
    check_name(loader, node, account);
    if (account->api_key && account->oauth_token)
        config_report_mistake(loader->report, node, "oauth_token",
                              "only one of api_key and oauth_token can be used");
    warn_of_exposure(loader, node, account);
    if (has_no_keys(node))
        config_report_mistake(loader->report, node, "signature_keys",
                              "no delivery can be verified: set signature_keys, or api_key or "
                              "oauth_token to make a subscription");
}

void config_load_accounts(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config *config = base;

    if (node->kind != NODE_LIST || node->count == 0) {
        config_report_mistake(loader->report, node, NULL,
                              "expected a list of at least one account, found %s",
                              node->kind == NODE_LIST ? "none" : config_node_kind_name(node));
        return;
    }
    if (node->count > ACCOUNTS_MAX) {
        config_report_mistake(loader->report, node, NULL, "has more than %d accounts",
                              ACCOUNTS_MAX);
        return;
    }
    config->accounts = calloc(node->count, sizeof(*config->accounts));
    for (size_t i = 0; config->accounts && i < node->count; i++) {
        struct config_account *account = &config->accounts[i];

        account->line = node->items[i]->line;
        config->account_count = i + 1;
        config_directives_default(loader, "accounts[]", account);
        config_directives_apply(loader, node->items[i], "accounts[]", account);
        if (node->items[i]->kind == NODE_MAP)
            check_account(loader, node->items[i], account);
    }
    if (!config->accounts)
        config_report_line(loader->report, 1, "out of memory");
}
