#include <stdlib.h>
#include <string.h>

#include "bridge/account_settings.h"
#include "bridge/base/error.h"
#include "bridge/close_api.h"
#include "bridge/control.h"
#include "bridge/control_query.h"
#include "bridge/key_store.h"
#include "bridge/subscriptions_internal.h"

/* Whoever asks how things stand wants to know soon. */
enum { SHOW_CALL_MS = 10000 };

/* ---- on the control listener's thread ---- */

static void on_resumed(struct http_deferred *deferred)
{
    struct subscriptions_request *request = (struct subscriptions_request *)deferred;

    if (deferred->request)
        http_respond(
            deferred->request,
            &(struct http_response){.status = request->status, .body = buf_text(&request->answer)});
    buf_release(&request->answer);
}

static void fail(struct subscriptions_request *request, int status, const char *code,
                 const char *message)
{
    request->status = status;
    buf_clear(&request->answer);
    buf_printf(&request->answer, "{\"error\":\"%s\",\"message\":", code);
    buf_append_json_string(&request->answer, text_of(message));
    buf_append_char(&request->answer, '}');
}

/* Without the parameter `*out` is "", every account. An empty name is no account's. */
static bool read_account(struct http_request *http, char *out, size_t capacity)
{
    struct text account;

    out[0] = '\0';
    if (!http_request_query(http, "account", &account))
        return true;
    if (account.size == 0 || account.size >= capacity || memchr(account.data, '\0', account.size)) {
        http_respond_error(http, 404, "no_such_account", "There is no account of this name.");
        return false;
    }
    memcpy(out, account.data, account.size);
    out[account.size] = '\0';
    return true;
}

/* Reads nothing of a request that it answers itself. */
static bool read_parameters(struct http_request *http, enum request_kind kind, char *out_account,
                            size_t capacity, bool *out_is_dry_run)
{
    static const char *const of_sync[] = {"account", "dry_run", NULL};
    static const char *const of_others[] = {"account", NULL};

    *out_is_dry_run = false;
    return control_query_only(http, kind == REQUEST_SYNC ? of_sync : of_others) &&
           control_query_bool(http, "dry_run", out_is_dry_run) &&
           read_account(http, out_account, capacity);
}

static void enqueue(struct subscriptions *subscriptions, struct http_request *http,
                    enum request_kind kind)
{
    struct subscriptions_request *request;
    char account[sizeof(request->account)];
    bool is_dry_run;

    if (!read_parameters(http, kind, account, sizeof(account), &is_dry_run))
        return;
    request = (struct subscriptions_request *)http_defer(http, sizeof(*request), on_resumed);
    request->kind = kind;
    request->is_dry_run = is_dry_run;
    memcpy(request->account, account, sizeof(account));
    pthread_mutex_lock(&subscriptions->lock);
    if (subscriptions->is_closed) {
        fail(request, 503, "stopping", "The bridge stops.");
        http_resume(&request->deferred);
    } else {
        mailbox_push(&subscriptions->requests, &request->node);
    }
    pthread_mutex_unlock(&subscriptions->lock);
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

static void append_comma(struct buf *json)
{
    if (json->size > 0 && json->data[json->size - 1] != '[')
        buf_append_char(json, ',');
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
    append_comma(&request->answer);
    sync_report_append(&report, &request->answer);
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
    sync_report_append(&report, &request->answer);
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
    append_comma(&request->answer);
    subscription_append_status(subscriptions, name, &err, &request->answer);
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

    if (subscriptions->options.look_at_topics &&
        subscriptions->options.look_at_topics(subscriptions->options.topics_context, &topics)) {
        buf_append_string(json, ",\"topics\":");
        buf_append_text(json, buf_text(&topics));
    }
    buf_release(&topics);
}

static void run_request(struct subscriptions *subscriptions, struct subscriptions_request *request)
{
    bool is_orphan =
        request->account[0] && !settings_find(subscriptions->settings, request->account);

    buf_append_string(&request->answer, "{\"accounts\":[");
    if (request->kind == REQUEST_SHOW)
        show_all(subscriptions, request);
    else if (is_orphan)
        forget_orphan(subscriptions, request);
    else
        sync_all(subscriptions, request);
    buf_append_char(&request->answer, ']');
    if (request->kind == REQUEST_SHOW)
        append_clock(subscriptions, &request->answer);
    if (request->is_dry_run)
        buf_append_string(&request->answer, ",\"dry_run\":true");
    else if (request->kind == REQUEST_SYNC)
        append_topics(subscriptions, &request->answer);
    buf_append_char(&request->answer, '}');
    request->status = 200;
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

void subscriptions_serve(struct subscriptions *subscriptions, struct subscriptions_request *request)
{
    if (atomic_load(&subscriptions->is_stopping))
        fail(request, 503, "stopping", "The bridge stops.");
    else if (!knows_account(subscriptions, request))
        fail(request, 404, "no_such_account", "There is no account of this name.");
    else if (subscriptions->is_broker_mode && request->kind != REQUEST_SHOW && !request->is_dry_run)
        fail(request, 409, "broker_mode",
             "Replicas keep no keys of their own: run close-bridge sync --keys-out FILE.");
    else
        run_request(subscriptions, request);
    if (request->answer.failed)
        fail(request, 503, "out_of_memory", "There is no memory for the answer.");
    http_resume(&request->deferred);
}
