#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/log.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_api.h"
#include "bridge/close/pair_list.h"
#include "bridge/runtime/metrics.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscriptions_internal.h"
#include "schemas/date.h"

/* After three days without one delivery that succeeds, Close pauses and clears the queue (CLOSE.md
 * section 4). */
#define PATIENCE_MS (INT64_C(72) * 3600 * 1000)

static const struct account_state *find_state(const struct subscriptions *subscriptions,
                                              const char *account)
{
    const struct account_state *state = subscriptions->states;

    while (state && strcmp(state->name, account) != 0)
        state = state->next;
    return state;
}

static const struct close_subscription *own_of(const struct account_state *state)
{
    return state && state->memory.has_view ? subscription_view_own(&state->memory.view) : NULL;
}

/* ---- one word ---- */

const char *subscription_state_name(const struct subscriptions *subscriptions, const char *account)
{
    const struct account_settings *settings = settings_find(subscriptions->settings, account);
    const struct stored_account *stored = key_store_find(subscriptions->store, account);
    const struct account_state *state = find_state(subscriptions, account);
    const struct close_subscription *own = own_of(state);

    if (!settings)
        return "orphaned";
    if (stored && stored->is_unsubscribed)
        return "unsubscribed";
    if (!account_can_sync(settings))
        return "off";
    if (!state || !state->memory.has_view)
        return "unknown";
    if (!own)
        return "missing";
    if (!own->is_active)
        return "paused";
    if (subscription_view_drift(&state->memory.view) > 0)
        return "drifted";
    return own->failing_since_ms ? "failing" : "active";
}

void subscriptions_show_readiness(struct subscriptions *subscriptions)
{
    const struct settings *settings = subscriptions->settings;
    struct buf json = {0};

    for (size_t i = 0; i < settings->count; i++) {
        const char *name = settings->accounts[i].name;
        const char *state = subscription_state_name(subscriptions, name);

        if (strcmp(state, "off") == 0)
            continue;
        if (json.size > 0)
            buf_append_char(&json, ',');
        buf_append_json_string(&json, text_of(name));
        buf_printf(&json, ":\"%s\"", state);
    }
    pthread_mutex_lock(&subscriptions->lock);
    buf_release(&subscriptions->readiness);
    subscriptions->readiness = json;
    pthread_mutex_unlock(&subscriptions->lock);
}

void subscriptions_append_readiness(struct subscriptions *subscriptions, struct buf *json)
{
    pthread_mutex_lock(&subscriptions->lock);
    if (subscriptions->readiness.size > 0)
        buf_printf(json, ",\"subscriptions\":{%s}", subscriptions->readiness.data);
    pthread_mutex_unlock(&subscriptions->lock);
}

/* ---- metrics and log ---- */

static void set_gauge(const struct subscriptions *subscriptions, const char *account,
                      const char *name, const char *help, int64_t value)
{
    char labels[256] = "";

    metrics_label(labels, sizeof(labels), "account", account);
    metric_set(metrics_get(subscriptions->options.metrics, METRIC_GAUGE, name, help, labels),
               value);
}

static void set_metrics(const struct subscriptions *subscriptions,
                        const struct account_state *state)
{
    const struct close_subscription *own = own_of(state);

    if (state->memory.has_view) {
        set_gauge(subscriptions, state->name, "subscription_active",
                  "Whether Close sends the account's events: 1 or 0.", own && own->is_active);
        set_gauge(subscriptions, state->name, "subscription_drift",
                  "How many pairs and settings of the subscription are not as configured.",
                  (int64_t)subscription_view_drift(&state->memory.view));
        set_gauge(subscriptions, state->name, "subscription_failing_since_timestamp_seconds",
                  "Since when no delivery has succeeded, in seconds since 1970; 0: the last one "
                  "did. Close pauses after three days.",
                  own ? own->failing_since_ms / 1000 : 0);
    }
    if (state->has_synced && state->result != SYNC_FAILED)
        set_gauge(subscriptions, state->name, "sync_last_success_timestamp_seconds",
                  "When the subscription was last made to match, in seconds since 1970.",
                  state->synced_ms / 1000);
}

static void log_state(const struct account_state *state, const char *name)
{
    static const struct {
        const char *state;
        const char *action;
    } actions[] = {
        {"missing", "Close sends nothing: run close-bridge sync"},
        {"paused", "Close sends nothing: put right what made it fail, then run close-bridge sync"},
        {"drifted", "what Close sends is not what the topic map wants: run close-bridge sync"},
        {"failing", "deliveries fail; after three days Close pauses: see GET "
                    "/control/subscriptions, and what stands between Close and here"},
    };
    const struct close_subscription *own = own_of(state);

    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(actions[i].state, name) != 0)
            continue;
        log_warn("subscription.state", log_str("account", state->name), log_str("state", name),
                 log_str("pause_reason", own && own->pause_reason ? own->pause_reason : ""),
                 log_str("latest_error", own && own->latest_error ? own->latest_error : ""),
                 log_str("action", actions[i].action));
        return;
    }
    log_info("subscription.state", log_str("account", state->name), log_str("state", name));
}

void subscription_show_state(struct subscriptions *subscriptions, struct account_state *state)
{
    const char *name = subscription_state_name(subscriptions, state->name);

    set_metrics(subscriptions, state);
    if (strcmp(name, state->shown) == 0 || strcmp(name, "unknown") == 0 || strcmp(name, "off") == 0)
        return;
    snprintf(state->shown, sizeof(state->shown), "%s", name);
    log_state(state, name);
}

/* ---- GET /control/subscriptions ---- */

static void append_string(struct buf *json, const char *name, const char *value)
{
    buf_printf(json, ",\"%s\":", name);
    if (value)
        buf_append_json_string(json, text_of(value));
    else
        buf_append_string(json, "null");
}

static void append_date(struct buf *json, const char *name, int64_t ms)
{
    const struct instant instant = {.seconds = ms / 1000};
    char date[DATE_MAX];

    buf_printf(json, ",\"%s\":", name);
    if (!ms) {
        buf_append_string(json, "null");
        return;
    }
    buf_append_char(json, '"');
    buf_append(json, date, date_format(&instant, date));
    buf_append_char(json, '"');
}

static void append_stored(struct buf *json, const struct stored_account *stored)
{
    if (!stored) {
        buf_append_string(json, ",\"stored\":null");
        return;
    }
    buf_printf(json, ",\"stored\":{\"unsubscribed\":%s,\"keys\":%zu",
               stored->is_unsubscribed ? "true" : "false", stored->key_count);
    append_string(json, "subscription_id", stored->subscription_id);
    append_string(json, "webhook_url", stored->webhook_url);
    buf_append_char(json, '}');
}

static void append_own(struct buf *json, const struct close_subscription *own)
{
    if (!own) {
        buf_append_string(json, ",\"close\":null");
        return;
    }
    buf_printf(json, ",\"close\":{\"status\":\"%s\",\"verify_ssl\":%s,\"pairs\":%zu",
               own->is_active ? "active" : "paused", own->verify_ssl ? "true" : "false",
               own->pairs.count);
    append_string(json, "id", own->id);
    append_string(json, "url", own->url);
    append_string(json, "pause_reason", own->pause_reason);
    append_string(json, "latest_error", own->latest_error);
    buf_printf(json, ",\"counters\":%s,\"failures\":%" PRId64, own->counters ? own->counters : "{}",
               own->failures);
    append_date(json, "failing_since", own->failing_since_ms);
    append_date(json, "pauses_at", own->failing_since_ms ? own->failing_since_ms + PATIENCE_MS : 0);
    append_date(json, "created", own->created_ms);
    append_date(json, "updated", own->updated_ms);
    buf_append_char(json, '}');
}

static void append_filter_drift(struct buf *json, const struct subscription_view *view,
                                const struct close_subscription *own)
{
    const char *comma = "";

    buf_append_string(json, ",\"filters\":[");
    for (size_t i = 0; i < view->wanted.count; i++) {
        const struct subscribed_pair *wanted = &view->wanted.pairs[i];
        const struct subscribed_pair *pair = pair_list_find(&own->pairs, wanted);

        if (!pair || pair_has_filter_of(pair, wanted))
            continue;
        buf_printf(json, "%s[", comma);
        buf_append_json_string(json, text_of(wanted->object_type));
        buf_append_char(json, ',');
        buf_append_json_string(json, text_of(wanted->action));
        buf_append_char(json, ']');
        comma = ",";
    }
    buf_append_char(json, ']');
}

static void append_drift(struct buf *json, const struct subscription_view *view,
                         const struct close_subscription *own)
{
    static const struct close_subscription nothing;
    const struct close_subscription *have = own ? own : &nothing;

    buf_printf(json, ",\"drift\":{\"count\":%zu,\"missing\":", subscription_view_drift(view));
    pair_list_append_difference(&view->wanted, &have->pairs, json);
    buf_append_string(json, ",\"surplus\":");
    pair_list_append_difference(&have->pairs, &view->wanted, json);
    append_filter_drift(json, view, have);
    buf_printf(json, ",\"url\":%s,\"verify_ssl\":%s}",
               own && view->webhook_url && strcmp(own->url, view->webhook_url) != 0 ? "true"
                                                                                    : "false",
               own && own->verify_ssl != view->verify_ssl ? "true" : "false");
}

/* Ids of others on the same URL, which is rarely meant. */
static void append_others(struct buf *json, const struct subscription_view *view,
                          const struct close_subscription *own)
{
    const char *comma = "";

    buf_append_string(json, ",\"others\":[");
    for (size_t i = 0; i < view->listed.count; i++) {
        const struct close_subscription *other = &view->listed.items[i];

        if (other == own || !subscription_view_concerns(view, other))
            continue;
        buf_append_string(json, comma);
        buf_append_json_string(json, text_of(other->id));
        comma = ",";
    }
    buf_append_char(json, ']');
}

static void append_seen(struct buf *json, const struct account_state *state)
{
    static const struct subscribed_pairs none;
    const struct subscription_view *view = &state->memory.view;
    const struct close_subscription *own = own_of(state);

    append_own(json, own);
    append_date(json, "seen", state->memory.seen_ms);
    buf_printf(json, ",\"in_organization\":%zu", view->listed.count);
    append_drift(json, view, own);
    append_others(json, view, own);
    buf_append_string(json, ",\"refused\":");
    pair_list_append_difference(&state->memory.refused, &none, json);
}

static void append_last_sync(struct buf *json, const struct account_state *state)
{
    if (!state || !state->has_synced) {
        buf_append_string(json, ",\"last_sync\":null");
        return;
    }
    buf_printf(json, ",\"last_sync\":{\"result\":\"%s\"", sync_result_name(state->result));
    append_date(json, "time", state->synced_ms);
    append_string(json, "error", state->result == SYNC_FAILED ? state->error.message : NULL);
    buf_append_char(json, '}');
}

static void append_schedule(struct buf *json, const struct account_settings *settings)
{
    if (!settings || !account_can_sync(settings))
        append_string(json, "sync", "off");
    else if (settings->sync == SYNC_INTERVAL)
        buf_printf(json, ",\"sync\":\"%" PRId64 "s\"", settings->sync_interval_ms / 1000);
    else
        append_string(json, "sync", settings->sync == SYNC_MANUAL ? "manual" : "startup");
}

static void append_warnings(struct buf *json, const struct account_settings *settings)
{
    const char *warning = NULL;

    if (settings && account_can_sync(settings)) {
        if (strncmp(settings->webhook_url, "http://", 7) == 0)
            warning = "Close sends customers' data over http: use https";
        else if (!settings->verify_ssl)
            warning = "Close does not verify who answers at webhook_url: set verify_ssl";
    }
    buf_append_string(json, ",\"warnings\":[");
    if (warning)
        buf_append_json_string(json, text_of(warning));
    buf_append_char(json, ']');
}

void subscription_append_status(const struct subscriptions *subscriptions, const char *account,
                                const struct error *look_error, struct buf *json)
{
    const struct account_settings *settings = settings_find(subscriptions->settings, account);
    const struct account_state *state = find_state(subscriptions, account);

    buf_append_string(json, "{\"account\":");
    buf_append_json_string(json, text_of(account));
    append_string(json, "state", subscription_state_name(subscriptions, account));
    append_schedule(json, settings);
    append_string(json, "webhook_url", settings ? settings->webhook_url : NULL);
    append_stored(json, key_store_find(subscriptions->store, account));
    if (settings && state && state->memory.has_view)
        append_seen(json, state);
    append_last_sync(json, state);
    append_warnings(json, settings);
    append_string(json, "error",
                  look_error && look_error->kind != ERROR_NONE ? look_error->message : NULL);
    buf_append_char(json, '}');
}
