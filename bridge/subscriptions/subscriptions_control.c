#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_api.h"
#include "bridge/control/control.h"
#include "bridge/control/control_query.h"
#include "bridge/control/control_request.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscriptions_internal.h"

/* Whoever asks how things stand wants to know soon. */
enum { SHOW_CALL_MS = 10000 };

/* ---- on the control listener's thread ---- */

/* Reads nothing of a request that it answers itself. */
static bool read_parameters(struct http_request *http, enum request_kind kind, char *out_account,
                            size_t capacity, bool *out_is_dry_run)
{
    static const char *const of_sync[] = {"account", "dry_run", NULL};
    static const char *const of_others[] = {"account", NULL};

    *out_is_dry_run = false;
    return control_query_only(http, kind == REQUEST_SYNC ? of_sync : of_others) &&
           control_query_bool(http, "dry_run", out_is_dry_run) &&
           control_query_account(http, out_account, capacity);
}

static void enqueue(struct subscriptions *subscriptions, struct http_request *http,
                    enum request_kind kind)
{
    struct subscriptions_request *request;
    char account[sizeof(request->account)];
    bool is_dry_run;

    if (!read_parameters(http, kind, account, sizeof(account), &is_dry_run))
        return;
    request = control_request_new(http, sizeof(*request));
    request->kind = kind;
    request->is_dry_run = is_dry_run;
    memcpy(request->account, account, sizeof(account));
    control_inbox_push(&subscriptions->inbox, &request->base);
}

static void post_sync(void *context, struct http_request *request)
{
    enqueue(context, request, REQUEST_SYNC);
}

static void get_subscriptions(void *context, struct http_request *request)
{
    enqueue(context, request, REQUEST_SHOW);
}

static void delete_subscriptions(void *context, struct http_request *request)
{
    enqueue(context, request, REQUEST_UNSUBSCRIBE);
}

void subscriptions_add_routes(struct subscriptions *subscriptions, struct control *control)
{
    control_add(control,
                &(struct control_route){"POST", "/control/sync", post_sync, subscriptions});
    control_add(control, &(struct control_route){"GET", "/control/subscriptions", get_subscriptions,
                                                 subscriptions});
    control_add(control, &(struct control_route){"DELETE", "/control/subscriptions",
                                                 delete_subscriptions, subscriptions});
}

/* ---- on the subscriptions' thread ---- */

static bool is_asked_for(const struct subscriptions_request *request, const char *account)
{
    return !request->account[0] || strcmp(request->account, account) == 0;
}

static void sync_one(struct subscriptions *subscriptions, struct subscriptions_request *request,
                     struct account_settings *account)
{
    struct account_state *state = subscriptions_state(subscriptions, account->name);
    struct sync_tools tools = subscriptions_tools(subscriptions);
    struct sync_report report;

    if (request->kind == REQUEST_UNSUBSCRIBE)
        sync_unsubscribe(&tools, account->name, account, &state->memory, REMOVAL_LASTS, &report);
    else
        sync_account(&tools, account, &state->memory,
                     request->is_dry_run ? SYNC_DRY_RUN : SYNC_EXPLICIT, &report);
    if (!request->is_dry_run)
        subscriptions_note(subscriptions, state, &report);
    buf_append_comma(&request->base.answer);
    sync_report_append(&report, &request->base.answer);
    sync_report_release(&report);
}

/* Without a name: every account that can be synced. */
static void sync_all(struct subscriptions *subscriptions, struct subscriptions_request *request)
{
    const struct settings *settings = subscriptions->settings;

    for (size_t i = 0; i < settings->count; i++) {
        struct account_settings *account = &settings->accounts[i];

        if (is_asked_for(request, account->name) &&
            (request->account[0] || account_can_sync(account)))
            sync_one(subscriptions, request, account);
    }
}

static void forget_orphan(struct subscriptions *subscriptions,
                          struct subscriptions_request *request)
{
    struct sync_tools tools = subscriptions_tools(subscriptions);
    struct sync_report report;

    sync_unsubscribe(&tools, request->account, NULL, NULL, REMOVAL_LASTS, &report);
    sync_report_append(&report, &request->base.answer);
    sync_report_release(&report);
}

static void show_one(struct subscriptions *subscriptions, struct subscriptions_request *request,
                     const char *name, struct account_settings *account)
{
    struct sync_tools tools = subscriptions_tools(subscriptions);
    struct error err = {0};

    if (account && account_can_sync(account)) {
        struct account_state *state = subscriptions_state(subscriptions, name);

        close_api_limit_calls(subscriptions->api, SHOW_CALL_MS);
        sync_look(&tools, account, &state->memory, &err);
        close_api_limit_calls(subscriptions->api, 0);
        subscription_show_state(subscriptions, state);
    }
    buf_append_comma(&request->base.answer);
    subscription_append_status(subscriptions, name, &err, &request->base.answer);
}

static void show_all(struct subscriptions *subscriptions, struct subscriptions_request *request)
{
    const struct settings *settings = subscriptions->settings;

    for (size_t i = 0; i < settings->count; i++) {
        if (is_asked_for(request, settings->accounts[i].name))
            show_one(subscriptions, request, settings->accounts[i].name, &settings->accounts[i]);
    }
    for (size_t i = 0; i < key_store_count(subscriptions->store); i++) {
        const char *name = key_store_at(subscriptions->store, i)->account;

        if (!settings_find(settings, name) && is_asked_for(request, name))
            show_one(subscriptions, request, name, NULL);
    }
}

static void append_clock(const struct subscriptions *subscriptions, struct buf *json)
{
    int64_t skew_ms;

    if (close_api_clock_skew_ms(subscriptions->api, &skew_ms))
        buf_printf(json, ",\"clock_skew_seconds\":%.1f", (double)skew_ms / 1000);
}

/* A sync is for the way of the events as a whole: to the topics, too. */
static void append_topics(const struct subscriptions *subscriptions, struct buf *json)
{
    struct buf topics = {0};

    if (!subscriptions->options.look_at_topics)
        return;
    buf_append_string(json, ",\"topics\":");
    if (subscriptions->options.look_at_topics(subscriptions->options.topics_context, &topics))
        buf_append_text(json, buf_text(&topics));
    else
        buf_append_string(json, "null");
    buf_release(&topics);
}

static void run_request(struct subscriptions *subscriptions, struct subscriptions_request *request)
{
    bool is_orphan =
        request->account[0] && !settings_find(subscriptions->settings, request->account);

    buf_append_string(&request->base.answer, "{\"accounts\":[");
    if (request->kind == REQUEST_SHOW)
        show_all(subscriptions, request);
    else if (is_orphan)
        forget_orphan(subscriptions, request);
    else
        sync_all(subscriptions, request);
    buf_append_char(&request->base.answer, ']');
    if (request->kind == REQUEST_SHOW)
        append_clock(subscriptions, &request->base.answer);
    if (request->is_dry_run)
        buf_append_string(&request->base.answer, ",\"dry_run\":true");
    else if (request->kind == REQUEST_SYNC)
        append_topics(subscriptions, &request->base.answer);
    buf_append_char(&request->base.answer, '}');
    request->base.status = 200;
    subscriptions_show_readiness(subscriptions);
}

/* Whether there is anything of that name to show or to delete, or to sync. */
static bool knows_account(const struct subscriptions *subscriptions,
                          const struct subscriptions_request *request)
{
    return !request->account[0] || settings_find(subscriptions->settings, request->account) ||
           (request->kind != REQUEST_SYNC &&
            key_store_find(subscriptions->store, request->account));
}

static void serve(void *context, struct control_request *base)
{
    struct subscriptions *subscriptions = context;
    struct subscriptions_request *request = (struct subscriptions_request *)base;

    if (atomic_load(&subscriptions->is_stopping))
        control_request_fail(base, 503, "stopping", "The bridge stops.");
    else if (!knows_account(subscriptions, request))
        control_request_fail(base, 404, "no_such_account", "There is no account of this name.");
    else if (subscriptions->is_broker_mode && request->kind != REQUEST_SHOW && !request->is_dry_run)
        control_request_fail(
            base, 409, "broker_mode",
            "Replicas keep no keys of their own: run close-bridge sync --keys-out FILE.");
    else
        run_request(subscriptions, request);
    control_request_finish(base);
}

void subscriptions_serve(struct subscriptions *subscriptions)
{
    control_inbox_serve(&subscriptions->inbox, serve, subscriptions);
}
