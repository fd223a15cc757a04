#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_api.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscriptions_internal.h"

enum {
    LOOK_MS = 5 * 60 * 1000, /* between two looks at Close when no sync is due */
    RETRY_MS = 60 * 1000,    /* after a sync that failed, unless the next comes earlier */
    LAST_CALLS_MS = 2500,    /* at the stop, to unsubscribe */
    NEVER = -1,
};

/* ---- state ---- */

struct sync_tools subscriptions_tools(const struct subscriptions *subscriptions)
{
    return (struct sync_tools){.api = subscriptions->api,
                               .store = subscriptions->store,
                               .clock = subscriptions->options.clock,
                               .use_keys = subscriptions->options.use_keys,
                               .use_keys_context = subscriptions->options.use_keys_context};
}

static int64_t now_ms(const struct subscriptions *subscriptions)
{
    return clock_monotonic_ms(subscriptions->options.clock);
}

struct account_state *subscriptions_state(struct subscriptions *subscriptions, const char *name)
{
    struct account_state *state = subscriptions->states;

    while (state && strcmp(state->name, name) != 0)
        state = state->next;
    if (state)
        return state;
    state = alloc_zeroed(1, sizeof(*state));
    state->name = alloc_string(name);
    state->next_sync_ms = state->next_look_ms = NEVER;
    state->next = subscriptions->states;
    subscriptions->states = state;
    return state;
}

static void free_states(struct subscriptions *subscriptions)
{
    while (subscriptions->states) {
        struct account_state *state = subscriptions->states;

        subscriptions->states = state->next;
        sync_memory_release(&state->memory);
        free(state->name);
        free(state);
    }
}

/* ---- opening and closing ---- */

/* NULL without an error: no account can sync, and nothing was kept. */
static struct key_store *open_store(const struct subscriptions *subscriptions,
                                    const struct config *config, struct error *err)
{
    *err = (struct error){0};
    if (!settings_can_sync(config) && !key_store_exists(config->journal.path))
        return NULL;
    return key_store_open(config->journal.path,
                          subscriptions->is_broker_mode ? KEY_STORE_READ : KEY_STORE_OWN,
                          subscriptions->options.clock, err);
}

static int use_stored_keys(const struct subscriptions *subscriptions, const struct key_store *store,
                           struct error *err)
{
    struct sync_tools tools = subscriptions_tools(subscriptions);

    tools.store = (struct key_store *)store;
    for (size_t i = 0; store && i < key_store_count(store); i++) {
        if (sync_use_keys(&tools, key_store_at(store, i)->account, err) < 0)
            return -1;
    }
    return 0;
}

static int open_parts(struct subscriptions *subscriptions, struct error *err)
{
    const struct config *config = subscriptions->options.config;

    if (wakeup_init(&subscriptions->wakeup, err) < 0)
        return -1;
    subscriptions->settings = settings_new(config, err);
    if (!subscriptions->settings)
        return -1;
    subscriptions->api =
        close_api_new(&(struct close_api_options){.clock = subscriptions->options.clock,
                                                  .metrics = subscriptions->options.metrics},
                      err);
    if (!subscriptions->api)
        return -1;
    subscriptions->store = open_store(subscriptions, config, err);
    if (!subscriptions->store && err->kind != ERROR_NONE)
        return -1;
    return use_stored_keys(subscriptions, subscriptions->store, err);
}

struct subscriptions *subscriptions_open(const struct subscriptions_options *options,
                                         struct error *err)
{
    struct subscriptions *subscriptions = alloc_zeroed(1, sizeof(*subscriptions));

    subscriptions->options = *options;
    subscriptions->is_broker_mode = options->config->journal.acknowledge == ACKNOWLEDGE_BROKER;
    subscriptions->wakeup.fd = -1;
    pthread_mutex_init(&subscriptions->lock, NULL);
    control_inbox_init(&subscriptions->inbox, &subscriptions->wakeup);
    if (open_parts(subscriptions, err) == 0)
        return subscriptions;
    subscriptions_free(subscriptions);
    return NULL;
}

void subscriptions_free(struct subscriptions *subscriptions)
{
    if (!subscriptions)
        return;
    free_states(subscriptions);
    settings_free(subscriptions->settings);
    settings_free(subscriptions->next_settings);
    key_store_close(subscriptions->store);
    key_store_close(subscriptions->next_store);
    close_api_free(subscriptions->api);
    wakeup_release(&subscriptions->wakeup);
    buf_release(&subscriptions->readiness);
    control_inbox_release(&subscriptions->inbox);
    pthread_mutex_destroy(&subscriptions->lock);
    free(subscriptions);
}

/* ---- the schedule ---- */

static bool is_scheduled(const struct account_settings *account)
{
    return account->sync != SYNC_MANUAL && account_can_sync(account);
}

/* Every account is synced anew. */
static void schedule_all(struct subscriptions *subscriptions)
{
    const struct settings *settings = subscriptions->settings;

    for (struct account_state *state = subscriptions->states; state; state = state->next)
        state->next_sync_ms = state->next_look_ms = NEVER;
    for (size_t i = 0; i < settings->count; i++) {
        struct account_state *state =
            subscriptions_state(subscriptions, settings->accounts[i].name);

        if (is_scheduled(&settings->accounts[i]))
            state->next_sync_ms = 0;
        subscription_show_state(subscriptions, state);
    }
    subscriptions_show_readiness(subscriptions);
}

static void schedule_next(struct subscriptions *subscriptions,
                          const struct account_settings *account, struct account_state *state,
                          bool has_failed)
{
    int64_t now = now_ms(subscriptions);

    state->next_look_ms = now + LOOK_MS;
    state->next_sync_ms = account->sync == SYNC_INTERVAL ? now + account->sync_interval_ms : NEVER;
    if (has_failed && (state->next_sync_ms == NEVER || state->next_sync_ms > now + RETRY_MS))
        state->next_sync_ms = now + RETRY_MS;
}

static void log_outcome(const struct sync_report *report)
{
    if (report->result == SYNC_FAILED)
        log_error("subscription.sync_failed", log_str("account", report->account),
                  log_str("error", report->error.message));
    else if (report->result != SYNC_UNCHANGED)
        log_info("subscription.synced", log_str("account", report->account),
                 log_str("result", sync_result_name(report->result)),
                 log_str("subscription", report->subscription_id ? report->subscription_id : ""),
                 log_i64("pairs", (int64_t)report->after.count));
}

void subscriptions_note(struct subscriptions *subscriptions, struct account_state *state,
                        const struct sync_report *report)
{
    const struct subscriptions_options *options = &subscriptions->options;

    log_outcome(report);
    if (report->gap_since_ms && options->note_gap)
        options->note_gap(options->gap_context, state->name, report->gap_since_ms,
                          report->gap_until_ms);
    state->has_synced = true;
    state->result = report->result;
    state->error = report->error;
    state->synced_ms = clock_wall_ms(options->clock);
    subscription_show_state(subscriptions, state);
}

static void sync_scheduled(struct subscriptions *subscriptions, struct account_settings *account,
                           struct account_state *state)
{
    struct sync_tools tools = subscriptions_tools(subscriptions);
    struct sync_report report;

    if (subscriptions->options.look_at_topics)
        subscriptions->options.look_at_topics(subscriptions->options.topics_context, NULL);
    sync_account(&tools, account, &state->memory, SYNC_SCHEDULED, &report);
    subscriptions_note(subscriptions, state, &report);
    schedule_next(subscriptions, account, state, report.result == SYNC_FAILED);
    sync_report_release(&report);
}

static void look_scheduled(struct subscriptions *subscriptions, struct account_settings *account,
                           struct account_state *state)
{
    struct sync_tools tools = subscriptions_tools(subscriptions);
    struct error err;

    if (sync_look(&tools, account, &state->memory, &err) < 0)
        log_warn("subscription.not_seen", log_str("account", account->name),
                 log_str("error", err.message));
    subscription_show_state(subscriptions, state);
    state->next_look_ms = now_ms(subscriptions) + LOOK_MS;
}

static bool is_due(int64_t time_ms, int64_t now)
{
    return time_ms != NEVER && time_ms <= now;
}

/* One account at a time: requests come between. False when nothing was due. */
static bool run_due(struct subscriptions *subscriptions)
{
    const struct settings *settings = subscriptions->settings;

    for (size_t i = 0; i < settings->count; i++) {
        struct account_settings *account = &settings->accounts[i];
        struct account_state *state = subscriptions_state(subscriptions, account->name);

        if (is_due(state->next_sync_ms, now_ms(subscriptions)))
            sync_scheduled(subscriptions, account, state);
        else if (is_due(state->next_look_ms, now_ms(subscriptions)))
            look_scheduled(subscriptions, account, state);
        else
            continue;
        subscriptions_show_readiness(subscriptions);
        return true;
    }
    return false;
}

static int time_to_next(const struct subscriptions *subscriptions)
{
    int64_t now = now_ms(subscriptions);
    int64_t next = now + LOOK_MS;

    for (const struct account_state *state = subscriptions->states; state; state = state->next) {
        if (state->next_sync_ms != NEVER && state->next_sync_ms < next)
            next = state->next_sync_ms;
        if (state->next_look_ms != NEVER && state->next_look_ms < next)
            next = state->next_look_ms;
    }
    return next > now ? (int)(next - now) : 0;
}

/* ---- the thread ---- */

static void adopt_settings(struct subscriptions *subscriptions)
{
    struct settings *settings;

    pthread_mutex_lock(&subscriptions->lock);
    settings = subscriptions->next_settings;
    subscriptions->next_settings = NULL;
    if (subscriptions->next_store) {
        subscriptions->store = subscriptions->next_store;
        subscriptions->next_store = NULL;
    }
    pthread_mutex_unlock(&subscriptions->lock);
    if (!settings)
        return;
    settings_free(subscriptions->settings);
    subscriptions->settings = settings;
    schedule_all(subscriptions);
}

static void unsubscribe_at_stop(struct subscriptions *subscriptions)
{
    const struct settings *settings = subscriptions->settings;
    struct sync_tools tools = subscriptions_tools(subscriptions);

    close_api_finish_by(subscriptions->api, now_ms(subscriptions) + LAST_CALLS_MS);
    for (size_t i = 0; i < settings->count; i++) {
        struct account_settings *account = &settings->accounts[i];
        struct sync_report report;

        if (!account->unsubscribes_on_stop || !account_can_sync(account) ||
            subscriptions->is_broker_mode)
            continue;
        sync_unsubscribe(&tools, account->name, account,
                         &subscriptions_state(subscriptions, account->name)->memory,
                         REMOVAL_ON_STOP, &report);
        log_outcome(&report);
        sync_report_release(&report);
    }
}

/* From now on requests are refused where they come in. */
static void close_requests(struct subscriptions *subscriptions)
{
    control_inbox_close(&subscriptions->inbox);
    subscriptions_serve(subscriptions);
}

static void *run(void *argument)
{
    struct subscriptions *subscriptions = argument;

    schedule_all(subscriptions);
    while (!atomic_load(&subscriptions->is_stopping)) {
        wakeup_clear(&subscriptions->wakeup);
        adopt_settings(subscriptions);
        subscriptions_serve(subscriptions);
        if (!run_due(subscriptions) && !atomic_load(&subscriptions->is_stopping))
            wakeup_wait(&subscriptions->wakeup, time_to_next(subscriptions));
    }
    close_requests(subscriptions);
    unsubscribe_at_stop(subscriptions);
    return NULL;
}

int subscriptions_start(struct subscriptions *subscriptions, struct error *err)
{
    if (thread_start(&subscriptions->thread, "subscriptions", run, subscriptions, err) < 0)
        return -1;
    subscriptions->has_thread = true;
    return 0;
}

void subscriptions_stop(struct subscriptions *subscriptions)
{
    if (!subscriptions)
        return;
    atomic_store(&subscriptions->is_stopping, true);
    close_api_interrupt(subscriptions->api);
    wakeup_signal(&subscriptions->wakeup);
    if (subscriptions->has_thread)
        pthread_join(subscriptions->thread, NULL);
    else
        close_requests(subscriptions);
    subscriptions->has_thread = false;
}

int subscriptions_reconfigure(struct subscriptions *subscriptions, const struct config *config,
                              struct error *err)
{
    struct settings *settings = settings_new(config, err);
    struct key_store *store = NULL;
    bool needs_store;

    if (!settings)
        return -1;
    pthread_mutex_lock(&subscriptions->lock);
    needs_store = !subscriptions->store && !subscriptions->next_store;
    pthread_mutex_unlock(&subscriptions->lock);
    if (needs_store)
        store = open_store(subscriptions, config, err);
    if (needs_store && !store && err->kind != ERROR_NONE) {
        settings_free(settings);
        return -1;
    }
    if (store && use_stored_keys(subscriptions, store, err) < 0) {
        key_store_close(store);
        settings_free(settings);
        return -1;
    }
    pthread_mutex_lock(&subscriptions->lock);
    settings_free(subscriptions->next_settings);
    subscriptions->next_settings = settings;
    if (store)
        subscriptions->next_store = store;
    pthread_mutex_unlock(&subscriptions->lock);
    wakeup_signal(&subscriptions->wakeup);
    return 0;
}
