#include "bridge/webhook.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config.h"
#include "bridge/delivery.h"
#include "bridge/http_server.h"
#include "bridge/metrics.h"
#include "bridge/signature.h"
#include "bridge/topic_map.h"
#include "schemas/catalog.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

enum {
    MAX_CONNECTIONS = 4096,
    REQUEST_TIMEOUT_MS = 30000,
    ANSWER_TIMEOUT_MS = 12000,             /* Close waits 15 s */
    MAX_PENDING_BYTES = 256 * 1024 * 1024, /* of events that wait for being durable */
    MAX_TRACESTATE = 512,
    LOG_PAUSE_MS = 10000,
};

enum result {
    RESULT_ACCEPTED,
    RESULT_DUPLICATE,
    RESULT_IGNORED,
    RESULT_DEAD_LETTERED,
    RESULT_BAD_SIGNATURE,
    RESULT_STALE,
    RESULT_UNAVAILABLE,
    RESULT_COUNT
};

static const char *const result_names[RESULT_COUNT] = {
    "accepted", "duplicate", "ignored", "dead_lettered", "bad_signature", "stale", "unavailable"};

struct account {
    const struct config_account *config;
    struct metric *results[RESULT_COUNT];
    struct metric *last_event_s;
    _Atomic(struct metric *)
        *received; /* by place in the catalog, the last: other; made when needed */
};

/* What a loop has to itself. */
struct loop {
    struct event_parser *parser;
    struct router *router;
    struct signature_verifier **verifiers; /* by account */
};

struct webhook {
    struct webhook_options options;
    struct http_server *server;
    struct account *accounts;
    struct loop *loops;
    struct histogram *duration;
    atomic_bool is_draining;
    atomic_size_t pending_count;
    atomic_size_t pending_bytes;
    _Atomic int64_t next_log_ms;
};

/* A delivery that waits for being durable. */
struct pending {
    struct delivery delivery;
    struct http_deferred deferred;
    struct webhook *webhook;
    struct account *account;
    int64_t started_us;
};

/* ---- numbers ---- */

static struct metric *result_series(struct metrics *metrics, const char *account,
                                    const char *result)
{
    char labels[256] = "";

    metrics_label(labels, sizeof(labels), "account", account);
    metrics_label(labels, sizeof(labels), "result", result);
    return metrics_get(metrics, METRIC_COUNTER, "webhooks_total",
                       "Webhook requests by what became of them.", labels);
}

static void count_refused(void *context, int status)
{
    const struct webhook *webhook = context;
    const char *result = status == 413   ? "too_large"
                         : status == 431 ? "headers_too_large"
                                         : "malformed";

    metric_add(result_series(webhook->options.metrics, "", result), 1);
}

static void count_received(struct webhook *webhook, struct account *account,
                           const struct event *event)
{
    const struct catalog_pair *pair =
        catalog_find(event_text(event, EVENT_OBJECT_TYPE), event_text(event, EVENT_ACTION));
    size_t place = pair ? (size_t)(pair - catalog_pairs) : catalog_size;
    struct metric *series = atomic_load_explicit(&account->received[place], memory_order_acquire);
    char labels[400] = "";

    if (!series) {
        metrics_label(labels, sizeof(labels), "account", account->config->name);
        metrics_label(labels, sizeof(labels), "object_type", pair ? pair->object_type : "other");
        metrics_label(labels, sizeof(labels), "action", pair ? pair->action : "other");
        series = metrics_get(webhook->options.metrics, METRIC_COUNTER, "events_received_total",
                             "Authentic events received.", labels);
        atomic_store_explicit(&account->received[place], series, memory_order_release);
    }
    metric_add(series, 1);
    metric_set(account->last_event_s, clock_wall_ms(webhook->options.clock) / 1000);
}

static void finish(struct webhook *webhook, struct account *account, enum result result,
                   int64_t started_us)
{
    metric_add(account->results[result], 1);
    histogram_observe_us(webhook->duration,
                         clock_monotonic_us(webhook->options.clock) - started_us);
}

/* ---- answers ---- */

static void respond_status(struct http_request *request, const char *json)
{
    http_respond(request, 200, "application/json", text_of(json));
}

static void respond_unavailable(struct webhook *webhook, struct http_request *request,
                                const char *reason)
{
    http_add_header(request, "retry-after", "10");
    if (atomic_load(&webhook->is_draining))
        http_close_after(request);
    http_respond_error(request, 503, "unavailable",
                       reason ? reason : "the event cannot be made durable now");
}

static void respond_outcome(struct webhook *webhook, struct http_request *request,
                            const struct delivery *delivery)
{
    switch (delivery->outcome) {
    case DELIVERY_ACCEPTED:
        respond_status(request, "{\"status\":\"accepted\"}");
        return;
    case DELIVERY_DUPLICATE:
        respond_status(request, "{\"status\":\"duplicate\"}");
        return;
    case DELIVERY_DEAD_LETTERED:
        respond_status(request, "{\"status\":\"dead_lettered\"}");
        return;
    case DELIVERY_UNAVAILABLE:
        respond_unavailable(webhook, request, delivery->reason);
        return;
    }
}

static enum result result_of(const struct delivery *delivery)
{
    switch (delivery->outcome) {
    case DELIVERY_ACCEPTED:
        return RESULT_ACCEPTED;
    case DELIVERY_DUPLICATE:
        return RESULT_DUPLICATE;
    case DELIVERY_DEAD_LETTERED:
        return RESULT_DEAD_LETTERED;
    case DELIVERY_UNAVAILABLE:
        break;
    }
    return RESULT_UNAVAILABLE;
}

/* On the loop. The peer may be gone: the event is durable all the same. */
static void answer(struct http_deferred *deferred, struct http_request *request)
{
    struct pending *pending = container_of(deferred, struct pending, deferred);

    if (request)
        respond_outcome(pending->webhook, request, &pending->delivery);
    finish(pending->webhook, pending->account, result_of(&pending->delivery), pending->started_us);
    atomic_fetch_sub(&pending->webhook->pending_bytes, pending->delivery.event->record->size);
    atomic_fetch_sub(&pending->webhook->pending_count, 1);
    event_unref(pending->delivery.event);
    free(pending);
}

/* On the intake's thread. */
static void done(struct delivery *delivery)
{
    http_deferred_wake(&container_of(delivery, struct pending, delivery)->deferred);
}

static void deliver(struct webhook *webhook, struct account *account, struct http_request *request,
                    struct event *event, int64_t started_us)
{
    struct pending *pending;

    if (atomic_fetch_add(&webhook->pending_bytes, event->record->size) > MAX_PENDING_BYTES) {
        atomic_fetch_sub(&webhook->pending_bytes, event->record->size);
        event_unref(event);
        respond_unavailable(webhook, request, "too many events wait for being durable");
        finish(webhook, account, RESULT_UNAVAILABLE, started_us);
        return;
    }
    pending = alloc_zeroed(1, sizeof(*pending));
    pending->delivery.event = event;
    pending->delivery.done = done;
    pending->deferred.answer = answer;
    pending->webhook = webhook;
    pending->account = account;
    pending->started_us = started_us;
    atomic_fetch_add(&webhook->pending_count, 1);
    http_defer(request, &pending->deferred);
    webhook->options.intake->accept(webhook->options.intake, &pending->delivery);
}

/* ---- a webhook ---- */

/* W3C Trace Context: version-traceid-parentid-flags, lower-case hex. */
static bool is_traceparent(struct text value)
{
    static const char shape[] = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";

    if (value.size != sizeof(shape) - 1)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        char c = value.data[i];
        bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');

        if (shape[i] == 'h' ? !is_hex : c != '-')
            return false;
    }
    return true;
}

static bool is_tracestate(struct text value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] > 0x7e)
            return false;
    }
    return value.size <= MAX_TRACESTATE;
}

static struct event_origin origin_of(const struct webhook *webhook, const struct account *account,
                                     const struct http_request *request)
{
    struct text parent = http_header(request, "traceparent", NULL);
    struct text state = http_header(request, "tracestate", NULL);
    struct event_origin origin = {
        .account = text_of(account->config->name),
        .received_ms = clock_wall_ms(webhook->options.clock),
    };

    if (text_equal_string(http_header(request, "close-bridge-test", NULL), "true"))
        origin.flags |= EVENT_IS_TEST;
    if (is_traceparent(parent)) {
        origin.traceparent = parent;
        if (is_tracestate(state))
            origin.tracestate = state;
    }
    return origin;
}

static struct event *read_event(struct webhook *webhook, const struct loop *loop,
                                const struct account *account, struct http_request *request)
{
    struct event_origin origin = origin_of(webhook, account, request);
    struct error err = {0};
    struct event *event = event_parse(loop->parser, &origin, http_body(request), &err);

    if (event || err.kind != ERROR_INPUT)
        return event;
    log_warn("webhook.not_an_event", log_str("account", account->config->name),
             log_str("error", err.message), log_str("action", "kept as a dead letter"));
    return event_opaque(&origin, http_body(request));
}

static void handle_authentic(struct webhook *webhook, const struct loop *loop,
                             struct account *account, struct http_request *request,
                             int64_t started_us)
{
    struct event *event = read_event(webhook, loop, account, request);

    if (!event) {
        respond_unavailable(webhook, request, "out of memory");
        finish(webhook, account, RESULT_UNAVAILABLE, started_us);
        return;
    }
    if (!event_has(event, EVENT_IS_OPAQUE)) {
        count_received(webhook, account, event);
        if (!router_matches(loop->router, event)) {
            event_unref(event);
            respond_status(request, "{\"status\":\"ignored\"}");
            finish(webhook, account, RESULT_IGNORED, started_us);
            return;
        }
    }
    webhook->options.intake->identify(webhook->options.intake, event);
    deliver(webhook, account, request, event, started_us);
}

/* The sender learns nothing of what was wrong; the operator does, at most every ten seconds. */
static void refuse_signature(struct webhook *webhook, struct account *account,
                             struct http_request *request, enum signature_result result,
                             int64_t started_us)
{
    int64_t now_ms = clock_monotonic_ms(webhook->options.clock);
    int64_t due_ms = atomic_load(&webhook->next_log_ms);

    if (now_ms >= due_ms &&
        atomic_compare_exchange_strong(&webhook->next_log_ms, &due_ms, now_ms + LOG_PAUSE_MS))
        log_warn("webhook.unauthorized", log_str("account", account->config->name),
                 log_str("reason", signature_result_name(result)));
    http_respond_error(request, 401, "unauthorized", "the signature cannot be verified");
    finish(webhook, account, result == SIGNATURE_STALE ? RESULT_STALE : RESULT_BAD_SIGNATURE,
           started_us);
}

/* The value of a header that is there exactly once. */
static struct text sole_header(const struct http_request *request, const char *name)
{
    size_t count;
    struct text value = http_header(request, name, &count);

    return count == 1 ? value : (struct text){NULL, 0};
}

static enum signature_result check_signature(const struct webhook *webhook,
                                             struct signature_verifier *verifier,
                                             const struct http_request *request)
{
    struct signature_claim claim = {.hash = sole_header(request, "close-sig-hash"),
                                    .timestamp = sole_header(request, "close-sig-timestamp")};

    return signature_verify(verifier, &claim, http_body(request),
                            clock_wall_ms(webhook->options.clock));
}

static void handle_webhook(struct webhook *webhook, const struct loop *loop, size_t number,
                           struct http_request *request)
{
    struct account *account = &webhook->accounts[number];
    int64_t started_us = clock_monotonic_us(webhook->options.clock);
    struct text encoding = http_header(request, "content-encoding", NULL);
    enum signature_result result;

    if (encoding.data && !text_equal_string(encoding, "identity")) {
        http_respond_error(request, 415, "unsupported_encoding",
                           "the body must not have a Content-Encoding");
        metric_add(
            result_series(webhook->options.metrics, account->config->name, "unsupported_encoding"),
            1);
        return;
    }
    if (atomic_load(&webhook->is_draining)) {
        respond_unavailable(webhook, request, "the bridge is shutting down");
        finish(webhook, account, RESULT_UNAVAILABLE, started_us);
        return;
    }
    result = check_signature(webhook, loop->verifiers[number], request);
    if (result == SIGNATURE_OK)
        handle_authentic(webhook, loop, account, request, started_us);
    else
        refuse_signature(webhook, account, request, result, started_us);
}

static void handle_health(struct webhook *webhook, struct http_request *request)
{
    const char *trouble = atomic_load(&webhook->is_draining)
                              ? "draining"
                              : webhook->options.trouble(webhook->options.context);

    http_respond(request, trouble ? 503 : 200, "text/plain", text_of(""));
}

static bool find_account(const struct webhook *webhook, struct text path, size_t *out_number)
{
    static const char prefix[] = "/webhooks/";
    struct text name;

    if (!text_starts_with(path, prefix))
        return false;
    name = (struct text){path.data + sizeof(prefix) - 1, path.size - (sizeof(prefix) - 1)};
    for (size_t i = 0; i < webhook->options.config->account_count; i++) {
        if (text_equal_string(name, webhook->options.config->accounts[i].name)) {
            *out_number = i;
            return true;
        }
    }
    return false;
}

static void handle(void *context, struct http_request *request, unsigned loop)
{
    struct webhook *webhook = context;
    const char *health_path = webhook->options.config->listen.health_path;
    struct text path = http_path(request);
    size_t number;

    if (health_path && text_equal_string(path, health_path)) {
        handle_health(webhook, request);
    } else if (!find_account(webhook, path, &number)) {
        metric_add(result_series(webhook->options.metrics, "", "not_found"), 1);
        http_respond_error(request, 404, "not_found", "there is no such account or path");
    } else if (!text_equal_string(http_method(request), "POST")) {
        metric_add(result_series(webhook->options.metrics, webhook->accounts[number].config->name,
                                 "method_not_allowed"),
                   1);
        http_add_header(request, "allow", "POST");
        http_respond_error(request, 405, "method_not_allowed", "webhooks are posted");
    } else {
        handle_webhook(webhook, &webhook->loops[loop], number, request);
    }
}

/* ---- life ---- */

static int open_loop(struct webhook *webhook, struct loop *loop, struct error *err)
{
    const struct config *config = webhook->options.config;

    loop->verifiers = alloc_zeroed(config->account_count, sizeof(struct signature_verifier *));
    loop->parser = event_parser_new(err);
    loop->router = loop->parser ? router_new(config, err) : NULL;
    if (!loop->router)
        return -1;
    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *account = &config->accounts[i];

        loop->verifiers[i] = signature_verifier_new(
            (const unsigned char(*)[SIGNATURE_KEY_SIZE])account->signature_keys,
            account->signature_key_count, account->replay_window_ms, err);
        if (!loop->verifiers[i])
            return -1;
    }
    return 0;
}

static void make_account(struct webhook *webhook, size_t number)
{
    struct account *account = &webhook->accounts[number];
    struct metrics *metrics = webhook->options.metrics;
    char labels[160] = "";

    account->config = &webhook->options.config->accounts[number];
    account->received = alloc_zeroed(catalog_size + 1, sizeof(*account->received));
    for (int i = 0; i < RESULT_COUNT; i++)
        account->results[i] = result_series(metrics, account->config->name, result_names[i]);
    metrics_label(labels, sizeof(labels), "account", account->config->name);
    account->last_event_s = metrics_get(metrics, METRIC_GAUGE, "last_event_timestamp_seconds",
                                        "When the last authentic event came.", labels);
}

static void close_parts(struct webhook *webhook)
{
    const struct config *config = webhook->options.config;

    for (size_t l = 0; l < config->listen.threads; l++) {
        struct loop *loop = &webhook->loops[l];

        for (size_t i = 0; loop->verifiers && i < config->account_count; i++)
            signature_verifier_free(loop->verifiers[i]);
        free(loop->verifiers);
        router_free(loop->router);
        event_parser_free(loop->parser);
    }
    for (size_t i = 0; i < config->account_count; i++)
        free(webhook->accounts[i].received);
    free(webhook->accounts);
    free(webhook->loops);
    free(webhook);
}

struct webhook *webhook_start(const struct webhook_options *options, struct error *err)
{
    const struct config *config = options->config;
    struct webhook *webhook = alloc_zeroed(1, sizeof(*webhook));

    webhook->options = *options;
    webhook->accounts = alloc_zeroed(config->account_count, sizeof(*webhook->accounts));
    webhook->loops = alloc_zeroed(config->listen.threads, sizeof(*webhook->loops));
    webhook->duration = metrics_histogram(options->metrics, "webhook_duration_seconds",
                                          "From the whole request to its answer.", "");
    for (size_t i = 0; i < config->account_count; i++)
        make_account(webhook, i);
    for (size_t i = 0; i < config->listen.threads; i++) {
        if (open_loop(webhook, &webhook->loops[i], err) < 0)
            goto fail;
    }
    webhook->server = http_server_start(
        &(struct http_server_options){.name = "webhook",
                                      .host = config->listen.host,
                                      .port = config->listen.port,
                                      .certificate = config->listen.tls.certificate,
                                      .key = config->listen.tls.key,
                                      .max_body = config->listen.max_body,
                                      .threads = config->listen.threads,
                                      .max_connections = MAX_CONNECTIONS,
                                      .request_timeout_ms = REQUEST_TIMEOUT_MS,
                                      .answer_timeout_ms = ANSWER_TIMEOUT_MS,
                                      .clock = options->clock,
                                      .handle = handle,
                                      .refused = count_refused,
                                      .context = webhook},
        err);
    if (webhook->server)
        return webhook;
fail:
    close_parts(webhook);
    return NULL;
}

const char *webhook_address(const struct webhook *webhook)
{
    return http_server_address(webhook->server);
}

void webhook_drain(struct webhook *webhook)
{
    if (!webhook)
        return;
    atomic_store(&webhook->is_draining, true);
    http_server_stop_accepting(webhook->server);
}

void webhook_stop(struct webhook *webhook, int64_t timeout_ms)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t deadline_ms;

    if (!webhook)
        return;
    deadline_ms = clock_monotonic_ms(webhook->options.clock) + timeout_ms;
    while (atomic_load(&webhook->pending_count) > 0 &&
           clock_monotonic_ms(webhook->options.clock) < deadline_ms)
        nanosleep(&pause, NULL);
    http_server_stop(webhook->server, timeout_ms);
    /* What the intake still holds would come back to it: then it is left to the end of the process.
     */
    if (atomic_load(&webhook->pending_count) == 0)
        close_parts(webhook);
}
