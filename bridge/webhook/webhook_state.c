#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/runtime/metrics.h"
#include "bridge/webhook/refusals.h"
#include "bridge/webhook/webhook_internal.h"
#include "schemas/catalog.h"
#include "schemas/event_parser.h"

enum { LABELS_SIZE = 512, ADOPTION_MS = 5000 };

const char *webhook_result_name(enum webhook_result result)
{
    static const char *const names[] = {
        [RESULT_ACCEPTED] = "accepted",
        [RESULT_DUPLICATE] = "duplicate",
        [RESULT_IGNORED] = "ignored",
        [RESULT_DEAD_LETTERED] = "dead_lettered",
        [RESULT_UNAVAILABLE] = "unavailable",
        [RESULT_MISSING_SIGNATURE] = "missing_signature",
        [RESULT_MALFORMED_SIGNATURE] = "malformed_signature",
        [RESULT_BAD_SIGNATURE] = "bad_signature",
        [RESULT_STALE] = "stale",
        [RESULT_NO_KEYS] = "no_keys",
        [RESULT_MALFORMED] = "malformed",
        [RESULT_TOO_LARGE] = "too_large",
        [RESULT_HEADERS_TOO_LARGE] = "headers_too_large",
        [RESULT_UNSUPPORTED_ENCODING] = "unsupported_encoding",
        [RESULT_METHOD_NOT_ALLOWED] = "method_not_allowed",
        [RESULT_NOT_FOUND] = "not_found",
    };

    return names[result];
}

/* The reasons why a signature is none are for the refusals; the metric counts them together. */
static const char *metric_name(enum webhook_result result)
{
    if (result == RESULT_MISSING_SIGNATURE || result == RESULT_MALFORMED_SIGNATURE)
        result = RESULT_BAD_SIGNATURE;
    return webhook_result_name(result);
}

static struct webhook_counters *new_counters(struct webhook *webhook, const char *account)
{
    struct webhook_counters *counters = alloc_zeroed(1, sizeof(*counters));
    struct metrics *metrics = webhook->options.metrics;
    char labels[LABELS_SIZE];

    counters->account = alloc_string(account);
    counters->received = alloc_zeroed(catalog_size + 1, sizeof(*counters->received));
    for (unsigned i = 0; i < RESULT_COUNT; i++) {
        labels[0] = '\0';
        metrics_label(labels, sizeof(labels), "account", account);
        metrics_label(labels, sizeof(labels), "result", metric_name((enum webhook_result)i));
        counters->results[i] =
            metrics_get(metrics, METRIC_COUNTER, "webhooks_total",
                        "Requests to the webhook listener, by what became of them.", labels);
    }
    if (!*account)
        return counters;
    labels[0] = '\0';
    metrics_label(labels, sizeof(labels), "account", account);
    counters->last_event =
        metrics_get(metrics, METRIC_GAUGE, "last_event_timestamp_seconds",
                    "When the last authentic event arrived, in seconds since 1970.", labels);
    return counters;
}

/* lock: webhook->lock */
static struct webhook_counters *counters_of(struct webhook *webhook, const char *account)
{
    struct webhook_counters *counters = webhook->counters;

    while (counters && strcmp(counters->account, account) != 0)
        counters = counters->next;
    if (!counters) {
        counters = new_counters(webhook, account);
        counters->next = webhook->counters;
        webhook->counters = counters;
    }
    return counters;
}

struct metric *webhook_received_counter(struct webhook *webhook, struct webhook_counters *counters,
                                        struct text object_type, struct text action)
{
    const struct catalog_pair *pair = catalog_find(object_type, action);
    _Atomic(struct metric *) *slot =
        &counters->received[pair ? (size_t)(pair - catalog_pairs) : catalog_size];
    struct metric *metric = atomic_load_explicit(slot, memory_order_acquire);
    char labels[LABELS_SIZE] = "";

    if (metric)
        return metric;
    metrics_label(labels, sizeof(labels), "account", counters->account);
    metrics_label(labels, sizeof(labels), "object_type", pair ? pair->object_type : "other");
    metrics_label(labels, sizeof(labels), "action", pair ? pair->action : "other");
    metric = metrics_get(webhook->options.metrics, METRIC_COUNTER, "events_received_total",
                         "Authentic events, by account and kind.", labels);
    atomic_store_explicit(slot, metric, memory_order_release);
    return metric;
}

static void free_state(struct webhook_state *state)
{
    if (!state)
        return;
    for (size_t i = 0; i < state->account_count; i++)
        signature_verifier_free(state->accounts[i].verifier);
    router_free(state->router);
    config_free(state->config);
    free(state);
}

static const struct webhook_keys *keys_of(const struct webhook *webhook, const char *account)
{
    const struct webhook_keys *keys = webhook->keys;

    while (keys && strcmp(keys->account, account) != 0)
        keys = keys->next;
    return keys;
}

/* The configured keys and those of subscriptions. lock: webhook->lock */
static struct signature_verifier *
new_verifier(struct webhook *webhook, const struct config_account *account, struct error *err)
{
    const struct webhook_keys *more = keys_of(webhook, account->name);
    size_t own_count = account->signature_key_count;
    size_t count = own_count + (more ? more->count : 0);
    unsigned char(*keys)[SIGNATURE_KEY_SIZE] = alloc_zeroed(count + 1, sizeof(*keys));
    struct signature_verifier *verifier;

    if (own_count)
        memcpy(keys, account->signature_keys, own_count * sizeof(*keys));
    if (more && more->count)
        memcpy(keys + own_count, more->keys, more->count * sizeof(*keys));
    verifier = signature_verifier_new((const unsigned char(*)[SIGNATURE_KEY_SIZE])keys, count,
                                      account->replay_window_ms, err);
    OPENSSL_cleanse(keys, count * sizeof(*keys));
    free(keys);
    return verifier;
}

/* lock: webhook->lock */
static struct webhook_state *new_state(struct webhook *webhook, struct error *err)
{
    const struct config *config = webhook->config;
    struct webhook_state *state =
        alloc_zeroed(1, sizeof(*state) + config->account_count * sizeof(state->accounts[0]));

    state->config = config_ref(config);
    state->router = router_new(config, err);
    if (!state->router)
        goto fail;
    for (size_t i = 0; i < config->account_count; i++) {
        struct webhook_account *account = &state->accounts[i];

        account->counters = counters_of(webhook, config->accounts[i].name);
        account->name = text_of(account->counters->account);
        account->verifier = new_verifier(webhook, &config->accounts[i], err);
        if (!account->verifier)
            goto fail;
        state->account_count++;
    }
    return state;

fail:
    free_state(state);
    return NULL;
}

void webhook_adopt_state(struct webhook_worker *worker)
{
    struct webhook_state *state;

    if (!atomic_load_explicit(&worker->next_state, memory_order_relaxed))
        return;
    state = atomic_exchange(&worker->next_state, NULL);
    if (!state)
        return;
    free_state(worker->state);
    worker->state = state;
}

/* Prepares a state for every worker, or for none. lock: webhook->lock */
static int offer_states(struct webhook *webhook, struct error *err)
{
    unsigned count = webhook->options.threads;
    struct webhook_state **states = alloc_zeroed(count, sizeof(struct webhook_state *));
    int rc = 0;

    for (unsigned i = 0; i < count && rc == 0; i++) {
        states[i] = new_state(webhook, err);
        rc = states[i] ? 0 : -1;
    }
    for (unsigned i = 0; i < count; i++) {
        if (rc == 0)
            /* What was not taken over yet is outdated. */
            free_state(atomic_exchange(&webhook->workers[i].next_state, states[i]));
        else
            free_state(states[i]);
    }
    free(states);
    return rc;
}

static void free_keys(struct webhook_keys *keys)
{
    if (!keys)
        return;
    if (keys->keys)
        OPENSSL_cleanse(keys->keys, keys->count * sizeof(*keys->keys));
    free(keys->keys);
    free(keys->account);
    free(keys);
}

static struct webhook_keys *new_keys(const char *account,
                                     const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count)
{
    struct webhook_keys *copy = alloc_zeroed(1, sizeof(*copy));

    copy->account = alloc_string(account);
    copy->count = count;
    copy->keys = alloc_zeroed(count + 1, sizeof(*copy->keys));
    if (count)
        memcpy(copy->keys, keys, count * sizeof(*keys));
    return copy;
}

int webhook_set_keys(struct webhook *webhook, const char *account,
                     const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t key_count,
                     struct error *err)
{
    struct webhook_keys *added = new_keys(account, keys, key_count);
    struct webhook_keys **slot;
    struct webhook_keys *replaced;
    int rc;

    pthread_mutex_lock(&webhook->lock);
    slot = &webhook->keys;
    while (*slot && strcmp((*slot)->account, account) != 0)
        slot = &(*slot)->next;
    replaced = *slot;
    added->next = replaced ? replaced->next : NULL;
    *slot = added;
    rc = offer_states(webhook, err);
    if (rc != 0)
        *slot = replaced;
    pthread_mutex_unlock(&webhook->lock);
    free_keys(rc == 0 ? replaced : added);
    return rc;
}

static bool is_adopted(const struct webhook *webhook)
{
    for (unsigned i = 0; i < webhook->options.threads; i++) {
        if (atomic_load(&webhook->workers[i].next_state))
            return false;
    }
    return true;
}

static int wait_for_adoption(const struct webhook *webhook, struct error *err)
{
    const struct timespec pause = {0, 5000000};
    int64_t end_ms = clock_monotonic_ms(webhook->options.clock) + ADOPTION_MS;

    while (!is_adopted(webhook)) {
        if (clock_monotonic_ms(webhook->options.clock) > end_ms)
            return error_set(err, ERROR_FATAL, "a webhook thread did not take the configuration");
        nanosleep(&pause, NULL);
    }
    return 0;
}

int webhook_reconfigure(struct webhook *webhook, const struct config *config, struct error *err)
{
    const struct config *before;
    int rc;

    pthread_mutex_lock(&webhook->lock);
    before = webhook->config;
    webhook->config = config;
    rc = offer_states(webhook, err);
    if (rc == 0)
        config_ref(config);
    else
        webhook->config = before;
    pthread_mutex_unlock(&webhook->lock);
    if (rc == 0)
        config_free(before);
    return rc == 0 ? wait_for_adoption(webhook, err) : rc;
}

static int init_worker(struct webhook *webhook, struct webhook_worker *worker, struct error *err)
{
    worker->webhook = webhook;
    worker->tail = &worker->oldest;
    worker->parser = event_parser_new(err);
    if (!worker->parser)
        return -1;
    worker->state = new_state(webhook, err);
    return worker->state ? 0 : -1;
}

struct webhook *webhook_new(const struct webhook_options *options, struct error *err)
{
    struct webhook *webhook = alloc_zeroed(1, sizeof(*webhook));
    int rc = 0;

    webhook->options = *options;
    webhook->config = config_ref(options->config);
    pthread_mutex_init(&webhook->lock, NULL);
    webhook->refusals = refusals_new(options->clock);
    webhook->duration = metrics_histogram(options->metrics, "webhook_duration_seconds",
                                          "From a complete webhook request to its answer.", "");
    if (options->config->journal.acknowledge == ACKNOWLEDGE_JOURNAL) {
        webhook->dead_letters = saver_dead_letters(options->metrics, "webhook");
        webhook->dead_total = saver_dead_total(options->metrics, "webhook", "not_an_event");
    }
    webhook->unknown = counters_of(webhook, "");
    webhook->workers = alloc_zeroed(options->threads, sizeof(*webhook->workers));
    for (unsigned i = 0; i < options->threads && rc == 0; i++)
        rc = init_worker(webhook, &webhook->workers[i], err);
    if (rc == 0)
        return webhook;
    webhook_free(webhook);
    error_context(err, "webhook listener");
    return NULL;
}

static void free_counters(struct webhook *webhook)
{
    while (webhook->counters) {
        struct webhook_counters *counters = webhook->counters;

        webhook->counters = counters->next;
        free(counters->account);
        free(counters->received);
        free(counters);
    }
}

void webhook_free(struct webhook *webhook)
{
    if (!webhook)
        return;
    for (unsigned i = 0; i < webhook->options.threads; i++) {
        event_parser_free(webhook->workers[i].parser);
        free_state(webhook->workers[i].state);
        free_state(atomic_load(&webhook->workers[i].next_state));
    }
    while (webhook->keys) {
        struct webhook_keys *keys = webhook->keys;

        webhook->keys = keys->next;
        free_keys(keys);
    }
    free_counters(webhook);
    config_free(webhook->config);
    free(webhook->workers);
    refusals_free(webhook->refusals);
    pthread_mutex_destroy(&webhook->lock);
    free(webhook);
}
