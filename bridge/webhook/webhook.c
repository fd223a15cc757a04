#include "bridge/webhook/webhook.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config/topic_map.h"
#include "bridge/runtime/metrics.h"
#include "bridge/webhook/refusals.h"
#include "bridge/webhook/trace_context.h"
#include "bridge/webhook/webhook_internal.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

#define PATH_PREFIX "/webhooks/"
#define RETRY_AFTER_SECONDS "10"

/* Close waits 15 s for an answer. */
enum { ANSWER_WITHIN_MS = 12000 };

/* What is said with each status: the same bytes every time, so they are not copied. */
#define STATIC_BODY(literal)                                                                       \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static const struct text success_bodies[] = {
    [RESULT_ACCEPTED] = STATIC_BODY("{\"status\":\"accepted\"}"),
    [RESULT_DUPLICATE] = STATIC_BODY("{\"status\":\"duplicate\"}"),
    [RESULT_IGNORED] = STATIC_BODY("{\"status\":\"ignored\"}"),
    [RESULT_DEAD_LETTERED] = STATIC_BODY("{\"status\":\"dead_lettered\"}"),
};

static const struct text unauthorized_body = STATIC_BODY(
    "{\"error\":\"unauthorized\",\"message\":\"The signature of the request does not verify.\"}");
static const struct text health_bodies[] = {
    STATIC_BODY("{\"error\":\"unavailable\",\"message\":\"Events cannot be accepted now.\"}"),
    STATIC_BODY("{\"status\":\"ok\"}"),
};

static void count(struct webhook *webhook, struct webhook_counters *counters,
                  enum webhook_result result, int64_t started_us)
{
    int64_t now_us = clock_monotonic_us(webhook->options.clock);

    metric_add(counters->results[result], 1);
    histogram_observe_us(webhook->duration, now_us - started_us);
}

static void note_refusal(struct webhook *webhook, const struct webhook_counters *counters,
                         const struct http_request *request, const char *reason)
{
    char address[46];

    http_request_peer(request, address, sizeof(address));
    refusals_note(webhook->refusals, counters->account, reason, address);
}

static void respond_success(struct http_request *request, enum webhook_result result)
{
    http_respond(request, &(struct http_response){.status = 200,
                                                  .body = success_bodies[result],
                                                  .body_is_static = true});
}

static void respond_unavailable(struct http_request *request, const char *reason, bool close)
{
    char body[300];
    int size = snprintf(body, sizeof(body), "{\"error\":\"unavailable\",\"message\":\"%s\"}",
                        reason ? reason : "The event cannot be made durable now.");

    http_respond(request,
                 &(struct http_response){.status = 503,
                                         .body = {body, (size_t)size},
                                         .close = close,
                                         .headers = {{"retry-after", RETRY_AFTER_SECONDS}}});
}

static void respond_wrong_method(struct http_request *request, const char *allowed)
{
    static const struct text body = STATIC_BODY(
        "{\"error\":\"method_not_allowed\",\"message\":\"The path has no such method.\"}");

    http_respond(request, &(struct http_response){.status = 405,
                                                  .body = body,
                                                  .body_is_static = true,
                                                  .headers = {{"allow", allowed}}});
}

/* The configured account that the path names; NULL when it names none. */
static struct webhook_account *account_at(struct webhook_state *state, struct text path)
{
    const size_t prefix = sizeof(PATH_PREFIX) - 1;
    struct text name;

    if (!text_starts_with(path, PATH_PREFIX))
        return NULL;
    name = (struct text){path.data + prefix, path.size - prefix};
    for (size_t i = 0; i < state->account_count; i++) {
        if (text_equal(name, state->accounts[i].name))
            return &state->accounts[i];
    }
    return NULL;
}

static void unlink_pending(struct webhook_pending *pending)
{
    if (!pending->slot)
        return;
    *pending->slot = pending->next;
    if (pending->next)
        pending->next->slot = pending->slot;
    else
        pending->worker->tail = pending->slot;
    pending->slot = NULL;
}

static void link_pending(struct webhook_pending *pending)
{
    struct webhook_worker *worker = pending->worker;

    pending->slot = worker->tail;
    *worker->tail = pending;
    worker->tail = &pending->next;
}

static enum webhook_result result_of(enum delivery_outcome outcome)
{
    switch (outcome) {
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

/* Answers and counts, unless the deadline has done so already. */
static void settle(struct webhook_pending *pending, enum webhook_result result, const char *reason)
{
    struct http_request *request = pending->deferred.request;

    if (!pending->slot)
        return;
    unlink_pending(pending);
    count(pending->worker->webhook, pending->counters, result, pending->started_us);
    if (!request)
        return;
    if (result == RESULT_UNAVAILABLE)
        respond_unavailable(request, reason, false);
    else
        respond_success(request, result);
}

/* On the intake's thread. */
static void on_done(struct delivery *delivery)
{
    http_resume(&container_of(delivery, struct webhook_pending, delivery)->deferred);
}

/* With acknowledge: broker nothing is kept, and the publisher of the copies counts them. */
static void count_dead(struct webhook *webhook)
{
    if (!webhook->dead_letters)
        return;
    metric_add(webhook->dead_letters, 1);
    metric_add(webhook->dead_total, 1);
}

static void on_resumed(struct http_deferred *deferred)
{
    struct webhook_pending *pending = container_of(deferred, struct webhook_pending, deferred);

    if (pending->delivery.outcome == DELIVERY_DEAD_LETTERED)
        count_dead(pending->worker->webhook); /* before the answer: who has it may look */
    settle(pending, result_of(pending->delivery.outcome), pending->delivery.reason);
    event_unref(pending->delivery.event);
}

/* Takes `event`. */
static void deliver(struct webhook_worker *worker, struct webhook_account *account,
                    struct http_request *request, struct event *event)
{
    struct intake *intake = worker->webhook->options.intake;
    struct webhook_pending *pending =
        (struct webhook_pending *)(void *)http_defer(request, sizeof(*pending), on_resumed);

    pending->worker = worker;
    pending->counters = account->counters;
    pending->started_us = http_request_started_us(request);
    pending->delivery.event = event;
    pending->delivery.done = on_done;
    link_pending(pending);
    if (!event_has(event, EVENT_IS_OPAQUE))
        intake->identify(intake, event);
    /* From here on the delivery may be done at any moment. */
    intake->accept(intake, &pending->delivery);
}

static void read_origin(struct event_origin *origin, const struct webhook_account *account,
                        const struct http_request *request, int64_t now_ms)
{
    struct text parent = http_request_header(request, "traceparent", NULL);
    struct text state = http_request_header(request, "tracestate", NULL);
    struct text test = http_request_header(request, "close-bridge-test", NULL);

    *origin = (struct event_origin){.account = account->name, .received_ms = now_ms};
    if (text_equal_string(test, "true"))
        origin->flags = EVENT_IS_TEST;
    if (!parent.data || !trace_context_is_parent(parent))
        return;
    origin->traceparent = parent;
    if (state.data && trace_context_is_state(state))
        origin->tracestate = state;
}

static void note_event(struct webhook *webhook, struct webhook_account *account,
                       const struct event *event, int64_t now_ms)
{
    metric_add(webhook_received_counter(webhook, account->counters,
                                        event_text(event, EVENT_OBJECT_TYPE),
                                        event_text(event, EVENT_ACTION)),
               1);
    metric_set(account->counters->last_event, now_ms / 1000);
}

/* The body is authentic. */
static void take(struct webhook_worker *worker, struct webhook_account *account,
                 struct http_request *request, int64_t now_ms)
{
    struct webhook *webhook = worker->webhook;
    struct text body = http_request_body(request);
    struct error err = {0};
    struct event_origin origin;
    struct event *event;

    read_origin(&origin, account, request, now_ms);
    event = event_parse(worker->parser, &origin, body, &err);
    if (event) {
        note_event(webhook, account, event, now_ms);
        if (!router_matches(worker->state->router, event)) {
            event_unref(event);
            count(webhook, account->counters, RESULT_IGNORED, http_request_started_us(request));
            respond_success(request, RESULT_IGNORED);
            return;
        }
    } else if (err.kind == ERROR_INPUT) {
        log_warn("webhook.not_an_event", log_text("account", account->name),
                 log_str("reason", err.message));
        event = event_opaque(&origin, body);
    }
    if (event) {
        deliver(worker, account, request, event);
        return;
    }
    count(webhook, account->counters, RESULT_UNAVAILABLE, http_request_started_us(request));
    respond_unavailable(request, "There is no memory for the event.", false);
}

static enum webhook_result result_of_signature(enum signature_result result)
{
    switch (result) {
    case SIGNATURE_MISSING:
        return RESULT_MISSING_SIGNATURE;
    case SIGNATURE_MALFORMED:
        return RESULT_MALFORMED_SIGNATURE;
    case SIGNATURE_STALE:
        return RESULT_STALE;
    case SIGNATURE_NO_KEYS:
        return RESULT_NO_KEYS;
    case SIGNATURE_UNCHECKED:
        return RESULT_UNAVAILABLE;
    case SIGNATURE_OK:
    case SIGNATURE_BAD:
        break;
    }
    return RESULT_BAD_SIGNATURE;
}

static void refuse(struct webhook *webhook, struct webhook_counters *counters,
                   const struct http_request *request, enum webhook_result result)
{
    note_refusal(webhook, counters, request, webhook_result_name(result));
    count(webhook, counters, result, http_request_started_us(request));
}

static void authenticate(struct webhook_worker *worker, struct webhook_account *account,
                         struct http_request *request)
{
    int64_t now_ms = clock_wall_ms(worker->webhook->options.clock);
    struct signature_claim claim = {http_request_header(request, "close-sig-hash", NULL),
                                    http_request_header(request, "close-sig-timestamp", NULL)};
    enum signature_result result =
        signature_verify(account->verifier, &claim, http_request_body(request), now_ms);

    if (result == SIGNATURE_OK) {
        take(worker, account, request, now_ms);
        return;
    }
    refuse(worker->webhook, account->counters, request, result_of_signature(result));
    if (result == SIGNATURE_UNCHECKED) {
        respond_unavailable(request, "There is no memory to check the signature.", false);
        return;
    }
    http_respond(request, &(struct http_response){
                              .status = 401, .body = unauthorized_body, .body_is_static = true});
}

static bool has_encoding(const struct http_request *request)
{
    size_t occurrences;
    struct text encoding = http_request_header(request, "content-encoding", &occurrences);

    return occurrences > 1 || (occurrences == 1 && !text_equal_string(encoding, "identity"));
}

/* What follows could be a body as well as another request, so the connection ends. */
static void respond_no_length(struct http_request *request)
{
    static const char body[] = "{\"error\":\"bad_request\",\"message\":\"The request has neither "
                               "Content-Length nor chunks.\"}";

    http_respond(request, &(struct http_response){.status = 400,
                                                  .body = {body, sizeof(body) - 1},
                                                  .body_is_static = true,
                                                  .close = true});
}

static void handle_webhook(struct webhook_worker *worker, struct webhook_account *account,
                           struct http_request *request)
{
    struct webhook *webhook = worker->webhook;

    if (!text_equal_string(http_request_method(request), "POST")) {
        refuse(webhook, account->counters, request, RESULT_METHOD_NOT_ALLOWED);
        respond_wrong_method(request, "POST");
    } else if (!http_request_has_length(request)) {
        refuse(webhook, account->counters, request, RESULT_MALFORMED);
        respond_no_length(request);
    } else if (atomic_load_explicit(&webhook->is_draining, memory_order_relaxed)) {
        count(webhook, account->counters, RESULT_UNAVAILABLE, http_request_started_us(request));
        respond_unavailable(request, "The bridge is shutting down.", true);
    } else if (has_encoding(request)) {
        refuse(webhook, account->counters, request, RESULT_UNSUPPORTED_ENCODING);
        http_respond_error(request, 415, "unsupported_encoding",
                           "Bodies are taken without Content-Encoding only.");
    } else {
        authenticate(worker, account, request);
    }
}

static void handle_health(struct webhook *webhook, struct http_request *request)
{
    struct text method = http_request_method(request);
    bool is_ready;

    if (!text_equal_string(method, "GET") && !text_equal_string(method, "HEAD")) {
        respond_wrong_method(request, "GET, HEAD");
        return;
    }
    is_ready = !atomic_load(&webhook->is_draining) &&
               webhook->options.is_ready(webhook->options.ready_context);
    http_respond(request, &(struct http_response){.status = is_ready ? 200 : 503,
                                                  .body = health_bodies[is_ready],
                                                  .body_is_static = true});
}

void webhook_handle(void *context, unsigned thread, struct http_request *request)
{
    struct webhook *webhook = context;
    struct webhook_worker *worker = &webhook->workers[thread];
    struct webhook_account *account;
    struct text path = http_request_path(request);

    webhook_adopt_state(worker);
    account = account_at(worker->state, path);
    if (account) {
        handle_webhook(worker, account, request);
    } else if (worker->state->config->listen.health_path &&
               text_equal_string(path, worker->state->config->listen.health_path)) {
        handle_health(webhook, request);
    } else {
        refuse(webhook, webhook->unknown, request, RESULT_NOT_FOUND);
        http_respond_error(request, 404, "not_found", "There is no such account or path.");
    }
}

void webhook_refused(void *context, unsigned thread, const struct http_request *request, int status,
                     const char *why)
{
    struct webhook *webhook = context;
    struct webhook_worker *worker = &webhook->workers[thread];
    struct webhook_account *account = account_at(worker->state, http_request_path(request));
    struct webhook_counters *counters = account ? account->counters : webhook->unknown;

    note_refusal(webhook, counters, request, why);
    metric_add(counters->results[status == 413   ? RESULT_TOO_LARGE
                                 : status == 431 ? RESULT_HEADERS_TOO_LARGE
                                                 : RESULT_MALFORMED],
               1);
}

void webhook_tick(void *context, unsigned thread)
{
    struct webhook *webhook = context;
    struct webhook_worker *worker = &webhook->workers[thread];
    int64_t late_us = clock_monotonic_us(webhook->options.clock) - (int64_t)ANSWER_WITHIN_MS * 1000;

    webhook_adopt_state(worker);
    while (worker->oldest && worker->oldest->started_us <= late_us)
        settle(worker->oldest, RESULT_UNAVAILABLE, "The event could not be made durable in time.");
}

void webhook_drain(struct webhook *webhook)
{
    atomic_store(&webhook->is_draining, true);
}

void webhook_render_refusals(struct webhook *webhook, struct buf *out)
{
    refusals_render(webhook->refusals, out);
}
