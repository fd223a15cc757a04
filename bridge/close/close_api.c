#include "bridge/close/close_api.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/close/close_headers.h"
#include "bridge/close/close_refusal.h"
#include "bridge/runtime/metrics.h"
#include "bridge/runtime/version.h"
#include "schemas/json_reader.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    ANSWER_TIMEOUT_MS = 30000,
    CALL_TIMEOUT_MS = 90000,
    FIRST_PAUSE_MS = 1000,
    LONGEST_PAUSE_MS = 20000,
    MAX_ATTEMPTS = 5,
    MAX_BODY = 32 * 1024 * 1024,
    FIRST_BODY = 64 * 1024, /* most answers fit, so that no copy of a key is left by growing */
    POLL_MS = 1000,
};

static const char *const method_names[] = {"GET", "POST", "PUT", "DELETE"};

struct close_api {
    struct close_api_options options;
    CURLM *multi;
    CURL *easy;
    atomic_bool is_interrupted;
    int64_t call_limit_ms; /* 0: as in the options */
    int64_t finish_by_ms;  /* 0: no bound but a call's own */
    bool has_skew;
    int64_t skew_ms;
};

/* One request and what came of its last attempt. */
struct call {
    struct close_api *api;
    struct close_access *access;
    const struct close_request *request;
    struct close_answer *answer;
    struct close_headers headers;
    bool is_https;
    bool is_too_large;
    int attempts;
    CURLcode code;
    char detail[CURL_ERROR_SIZE];
    int64_t end_ms;
};

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value ? value : otherwise;
}

struct close_api *close_api_new(const struct close_api_options *options, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct close_api *api = alloc_zeroed(1, sizeof(*api));
    struct close_api_options *own = &api->options;

    pthread_once(&once, init_curl);
    *own = *options;
    own->connect_timeout_ms = or_default(own->connect_timeout_ms, CONNECT_TIMEOUT_MS);
    own->answer_timeout_ms = or_default(own->answer_timeout_ms, ANSWER_TIMEOUT_MS);
    own->call_timeout_ms = or_default(own->call_timeout_ms, CALL_TIMEOUT_MS);
    own->first_pause_ms = or_default(own->first_pause_ms, FIRST_PAUSE_MS);
    own->max_attempts = own->max_attempts ? own->max_attempts : MAX_ATTEMPTS;
    own->max_body = own->max_body ? own->max_body : MAX_BODY;
    api->multi = curl_multi_init();
    api->easy = curl_easy_init();
    if (api->multi && api->easy)
        return api;
    close_api_free(api);
    error_set(err, ERROR_FATAL, "the client for Close's API: out of memory");
    return NULL;
}

void close_api_free(struct close_api *api)
{
    if (!api)
        return;
    curl_easy_cleanup(api->easy);
    curl_multi_cleanup(api->multi);
    free(api);
}

void close_answer_release(struct close_answer *answer)
{
    if (answer->body.data)
        OPENSSL_cleanse(answer->body.data, answer->body.capacity);
    buf_release(&answer->body);
    answer->status = 0;
}

void close_api_limit_calls(struct close_api *api, int64_t timeout_ms)
{
    api->call_limit_ms = timeout_ms;
}

void close_api_interrupt(struct close_api *api)
{
    atomic_store(&api->is_interrupted, true);
    curl_multi_wakeup(api->multi);
}

void close_api_finish_by(struct close_api *api, int64_t end_ms)
{
    api->finish_by_ms = end_ms;
    atomic_store(&api->is_interrupted, false);
}

bool close_api_clock_skew_ms(const struct close_api *api, int64_t *out_ms)
{
    *out_ms = api->skew_ms;
    return api->has_skew;
}

/* ---- what libcurl calls ---- */

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct call *call = context;
    struct buf *body = &call->answer->body;
    size_t bytes = size * count;

    call->is_too_large = body->size + bytes > call->api->options.max_body;
    if (call->is_too_large)
        return 0;
    buf_append(body, data, bytes);
    return body->failed ? 0 : bytes;
}

static size_t take_header(char *data, size_t size, size_t count, void *context)
{
    struct call *call = context;
    struct text line = {data, size * count};

    if (text_starts_with(line, "HTTP/"))
        call->headers = (struct close_headers){0}; /* what came before was a 1xx */
    else
        close_headers_read(&call->headers, line);
    return line.size;
}

static bool is_loopback(const struct curl_sockaddr *address)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;

    if (address->family == AF_INET) {
        memcpy(&four, &address->addr, sizeof(four));
        return ntohl(four.sin_addr.s_addr) >> 24 == 127;
    }
    memcpy(&six, &address->addr, sizeof(six));
    return address->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
}

/* What goes in the clear stays on this machine, whatever the name resolves to. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    const struct call *call = context;

    (void)purpose;
    if (!call->is_https && !is_loopback(address))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- one attempt ---- */

static void set_credentials(CURL *easy, const struct close_access *access)
{
    if (access->oauth_token) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, access->oauth_token);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(easy, CURLOPT_USERNAME, access->api_key);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, "");
    }
}

static void set_body(CURL *easy, const struct close_request *request)
{
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method_names[request->method]);
    if (request->body.data) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    }
    /* On a connection that was kept, libcurl itself sends again when it turns out to be dead. */
    if (request->method == CLOSE_POST)
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
}

static void set_limits(CURL *easy, const struct call *call, int64_t left_ms)
{
    const struct close_api_options *options = &call->api->options;
    int64_t answer_ms = options->answer_timeout_ms < left_ms ? options->answer_timeout_ms : left_ms;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, call->is_https ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver that hangs */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(answer_ms > 0 ? answer_ms : 1));
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)options->max_body);
    if (!call->is_https)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

static void prepare(struct call *call, int64_t left_ms, const char *url,
                    struct curl_slist *request_headers)
{
    CURL *easy = call->api->easy;

    curl_easy_reset(easy);
    set_limits(easy, call, left_ms);
    set_credentials(easy, call->access);
    set_body(easy, call->request);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request_headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "close-bridge/" CLOSE_BRIDGE_VERSION);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->detail);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
}

static CURLcode transfer(struct close_api *api)
{
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    CURLMsg *message;
    int running = 1;
    int left;

    if (curl_multi_add_handle(api->multi, api->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running && !atomic_load(&api->is_interrupted)) {
        if (curl_multi_perform(api->multi, &running) != CURLM_OK)
            break;
        if (running)
            curl_multi_poll(api->multi, NULL, 0, POLL_MS, NULL);
    }
    while ((message = curl_multi_info_read(api->multi, &left))) {
        if (message->msg == CURLMSG_DONE)
            code = message->data.result;
    }
    curl_multi_remove_handle(api->multi, api->easy);
    return code;
}

static void count(const struct call *call)
{
    char labels[64] = "";
    char status[16];

    if (!call->api->options.metrics)
        return;
    snprintf(status, sizeof(status), "%d", call->answer->status);
    metrics_label(labels, sizeof(labels), "status", call->answer->status ? status : "none");
    metric_add(metrics_get(call->api->options.metrics, METRIC_COUNTER, "close_api_requests_total",
                           "Requests to Close's API, by the status of the answer.", labels),
               1);
}

static void note_clock(const struct call *call)
{
    struct close_api *api = call->api;

    if (!call->headers.has_date)
        return;
    /* The date was cut to whole seconds: on average it is half of one too early. */
    api->skew_ms = clock_wall_ms(api->options.clock) - call->headers.date_ms - 500;
    api->has_skew = true;
    if (api->options.metrics)
        metric_set(metrics_get_milli(api->options.metrics, "clock_skew_seconds",
                                     "How far this machine's clock is ahead of Close's.", ""),
                   api->skew_ms);
}

static void note_rate_limit(const struct call *call, int64_t now_ms)
{
    int64_t wait_ms = close_headers_wait_ms(&call->headers, call->answer->status == 429);

    if (wait_ms > 0)
        call->access->not_before_ms = now_ms + wait_ms;
}

static void attempt(struct call *call, const char *url, struct curl_slist *request_headers)
{
    struct close_api *api = call->api;
    int64_t now_ms = clock_monotonic_ms(api->options.clock);
    struct buf *body = &call->answer->body;
    long status = 0;

    close_answer_release(call->answer);
    call->headers = (struct close_headers){0};
    call->is_too_large = false;
    call->detail[0] = '\0';
    call->attempts++;
    buf_reserve(body, FIRST_BODY);
    prepare(call, call->end_ms - now_ms, url, request_headers);
    call->code = transfer(api);
    if (call->code == CURLE_OK)
        curl_easy_getinfo(api->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->code == CURLE_OK && !buf_reserve(body, JSON_PADDING))
        call->code = CURLE_OUT_OF_MEMORY;
    if (body->data && body->capacity - body->size >= JSON_PADDING)
        memset(body->data + body->size, 0, JSON_PADDING);
    call->answer->status = call->code == CURLE_OK ? (int)status : 0;
    count(call);
    note_clock(call);
    note_rate_limit(call, clock_monotonic_ms(api->options.clock));
}

/* ---- again ---- */

static bool is_sent_twice_safely(const struct call *call)
{
    return call->request->method != CLOSE_POST || call->answer->status == 429 ||
           call->code == CURLE_COULDNT_CONNECT || call->code == CURLE_COULDNT_RESOLVE_HOST ||
           call->code == CURLE_COULDNT_RESOLVE_PROXY;
}

static bool is_too_large(const struct call *call)
{
    return call->is_too_large || call->code == CURLE_FILESIZE_EXCEEDED;
}

static bool may_succeed_later(const struct call *call)
{
    if (call->code == CURLE_OK)
        return call->answer->status == 429 || call->answer->status >= 500;
    return call->code != CURLE_PEER_FAILED_VERIFICATION && call->code != CURLE_SSL_CERTPROBLEM &&
           call->code != CURLE_UNSUPPORTED_PROTOCOL && call->code != CURLE_URL_MALFORMAT &&
           call->code != CURLE_OUT_OF_MEMORY && !is_too_large(call);
}

/* Between half of it and the whole: clients that failed together do not come back together. */
static int64_t with_jitter(int64_t pause_ms)
{
    uint16_t random = 0;

    RAND_bytes((unsigned char *)&random, sizeof(random));
    return pause_ms / 2 + pause_ms * random / 2 / UINT16_MAX;
}

static int64_t pause_after(const struct call *call)
{
    int64_t pause_ms = call->api->options.first_pause_ms;
    int64_t asked_ms = close_headers_wait_ms(&call->headers, call->answer->status == 429);

    for (int i = 1; i < call->attempts && pause_ms < LONGEST_PAUSE_MS; i++)
        pause_ms *= 2;
    if (pause_ms > LONGEST_PAUSE_MS)
        pause_ms = LONGEST_PAUSE_MS;
    pause_ms = with_jitter(pause_ms);
    return asked_ms > 0 ? asked_ms + pause_ms / 4 : pause_ms;
}

/* False when there is no time for it, or none is left because of an interruption. */
static bool wait_until(struct call *call, int64_t time_ms)
{
    struct close_api *api = call->api;
    int64_t now_ms = clock_monotonic_ms(api->options.clock);

    if (time_ms >= call->end_ms)
        return false;
    while (now_ms < time_ms && !atomic_load(&api->is_interrupted)) {
        curl_multi_poll(api->multi, NULL, 0, (int)(time_ms - now_ms), NULL);
        now_ms = clock_monotonic_ms(api->options.clock);
    }
    return !atomic_load(&api->is_interrupted);
}

static void attempt_until_it_succeeds(struct call *call, const char *url,
                                      struct curl_slist *request_headers)
{
    for (;;) {
        attempt(call, url, request_headers);
        if (!may_succeed_later(call) || !is_sent_twice_safely(call) ||
            call->attempts == call->api->options.max_attempts ||
            !wait_until(call, clock_monotonic_ms(call->api->options.clock) + pause_after(call)))
            return;
    }
}

/* ---- the call ---- */

static int no_answer(const struct call *call, struct error *err)
{
    const char *detail = call->detail[0] ? call->detail : curl_easy_strerror(call->code);
    const char *url = call->access->url;

    if (is_too_large(call))
        return error_set(err, ERROR_CONFIG,
                         "the answer of %s is larger than %zu bytes, which Close's is not: check "
                         "api_url",
                         url, call->api->options.max_body);
    if (call->code == CURLE_OUT_OF_MEMORY || call->answer->body.failed)
        return error_set(err, ERROR_FATAL, "the client for Close's API: out of memory");
    if (call->code == CURLE_PEER_FAILED_VERIFICATION)
        return error_set(err, ERROR_CONFIG,
                         "the certificate of %s is not trusted (%s): check api_url, and the "
                         "authorities this machine trusts",
                         url, detail);
    return error_set(err, ERROR_TRANSIENT,
                     "no answer from %s after %d attempt%s (%s): check the network from here, and "
                     "api_url",
                     url, call->attempts, call->attempts == 1 ? "" : "s", detail);
}

static int too_early(const struct call *call, int64_t now_ms, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT,
                     "Close asks for a pause of %lld s more before the next request (its rate "
                     "limit): other programs use the same key or organization; try again then",
                     (long long)(call->access->not_before_ms - now_ms + 999) / 1000);
}

static int refuse(const struct call *call, struct error *err)
{
    char *location = NULL;

    curl_easy_getinfo(call->api->easy, CURLINFO_REDIRECT_URL, &location);
    return close_refusal_set(
        &(struct close_refusal){.method = method_names[call->request->method],
                                .path = call->request->path,
                                .status = call->answer->status,
                                .body = buf_text(&call->answer->body),
                                .location = text_of(location),
                                .wait_ms = close_headers_wait_ms(&call->headers, true),
                                .access = call->access,
                                .attempts = call->attempts},
        err);
}

static int finish(const struct call *call, struct error *err)
{
    if (call->code == CURLE_OK && call->answer->status >= 200 && call->answer->status < 300)
        return 0;
    if (atomic_load(&call->api->is_interrupted))
        return error_set(err, ERROR_TRANSIENT, "the bridge stops before Close has answered");
    return call->code == CURLE_OK ? refuse(call, err) : no_answer(call, err);
}

int close_api_ask(struct close_api *api, struct close_access *access,
                  const struct close_request *request, struct close_answer *out_answer,
                  struct error *err)
{
    int64_t now_ms = clock_monotonic_ms(api->options.clock);
    struct call call = {.api = api,
                        .access = access,
                        .request = request,
                        .answer = out_answer,
                        .is_https = strncmp(access->url, "https://", 8) == 0,
                        .code = CURLE_ABORTED_BY_CALLBACK,
                        .end_ms =
                            now_ms + or_default(api->call_limit_ms, api->options.call_timeout_ms)};
    struct curl_slist *headers = curl_slist_append(NULL, "content-type: application/json");
    struct buf url = {0};
    int rc;

    if (api->finish_by_ms && api->finish_by_ms < call.end_ms)
        call.end_ms = api->finish_by_ms;
    headers = headers ? curl_slist_append(headers, "accept: application/json") : NULL;
    headers = headers ? curl_slist_append(headers, "expect:") : NULL;
    buf_printf(&url, "%s%s", access->url, request->path);
    *out_answer = (struct close_answer){0};
    if (!headers || url.failed) {
        rc = error_set(err, ERROR_FATAL, "the client for Close's API: out of memory");
    } else if (wait_until(&call, access->not_before_ms)) {
        attempt_until_it_succeeds(&call, url.data, headers);
        out_answer->is_too_large = is_too_large(&call);
        rc = finish(&call, err);
        curl_easy_reset(api->easy); /* it holds the credentials, and borrows what is freed here */
    } else {
        rc = atomic_load(&api->is_interrupted) ? finish(&call, err) : too_early(&call, now_ms, err);
    }
    curl_slist_free_all(headers);
    buf_release(&url);
    return rc;
}
