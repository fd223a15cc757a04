#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "bridge/base/clock.h"
#include "bridge/http/framing_guard.h"
#include "bridge/http/http_internal.h"

/* h2o's own timers follow the wall clock, so they are set out of the way and the reaper does their
 * work. Years, not infinity: h2o subtracts them from the time since 1970. */
#define FAR_AWAY_MS (UINT64_C(20) * 365 * 24 * 3600 * 1000)

struct handler {
    h2o_handler_t super;
    struct http_server *server;
};

struct filter {
    h2o_filter_t super;
    struct http_server *server;
};

/* Carries a JSON body in the place of what h2o would send. */
struct replacement {
    h2o_ostream_t super;
    h2o_iovec_t body;
    char bytes[200]; /* of the body */
};

/*
 * What http_defer() makes: memory of ours, which outlives the request, and a watch in the request's
 * pool, whose disposal tells that the request is gone (TRAPS H6). Each knows of the other.
 */
struct deferred_watch {
    struct deferred_memory *memory; /* NULL once that has been freed */
};

struct deferred_memory {
    struct http_request request;
    struct deferred_watch *watch; /* NULL once the request is gone */
    _Alignas(16) char bytes[];    /* the handler's struct */
};

static struct text text_from(h2o_iovec_t iovec)
{
    return (struct text){iovec.base ? iovec.base : "", iovec.len};
}

struct text http_request_method(const struct http_request *request)
{
    return text_from(request->req->input.method);
}

struct text http_request_path(const struct http_request *request)
{
    return (struct text){request->req->input.path.base, request->path_size};
}

struct text http_request_body(const struct http_request *request)
{
    return text_from(request->req->entity);
}

bool http_request_has_length(const struct http_request *request)
{
    return request->has_length || request->is_chunked;
}

int64_t http_request_started_us(const struct http_request *request)
{
    return request->started_us;
}

struct text http_request_header(const struct http_request *request, const char *name,
                                size_t *out_count)
{
    const h2o_headers_t *headers = &request->req->headers;
    struct text value = {0};
    size_t size = strlen(name);
    size_t count = 0;

    for (size_t i = 0; i < headers->size; i++) {
        const h2o_header_t *header = &headers->entries[i];

        if (header->name->len == size && memcmp(header->name->base, name, size) == 0) {
            value = text_from(header->value);
            count++;
        }
    }
    while (value.size && (value.data[value.size - 1] == ' ' || value.data[value.size - 1] == '\t'))
        value.size--;
    if (out_count)
        *out_count = count;
    return count == 1 ? value : (struct text){NULL, 0};
}

static bool decode_query(struct http_request *request, struct text raw, struct text *out_value)
{
    char *value = h2o_mem_alloc_pool(&request->req->pool, raw.size + 1);
    size_t size = 0;

    for (size_t i = 0; i < raw.size; i++) {
        unsigned char byte = (unsigned char)raw.data[i];

        if (byte == '%') {
            struct text digits = {raw.data + i + 1, 2};

            if (raw.size - i < 3 || !text_from_hex(digits, &byte, 1))
                return false;
            i += 2;
        } else if (byte == '+') {
            byte = ' ';
        }
        value[size++] = (char)byte;
    }
    value[size] = '\0';
    *out_value = (struct text){value, size};
    return true;
}

bool http_request_query(struct http_request *request, const char *name, struct text *out_value)
{
    h2o_iovec_t path = request->req->input.path;
    size_t name_size = strlen(name);
    size_t at = request->path_size + 1;

    while (at < path.len) {
        const char *start = path.base + at;
        const char *end = memchr(start, '&', path.len - at);
        size_t size = end ? (size_t)(end - start) : path.len - at;

        if (size >= name_size && memcmp(start, name, name_size) == 0) {
            if (size == name_size)
                return decode_query(request, (struct text){start, 0}, out_value);
            if (start[name_size] == '=')
                return decode_query(
                    request, (struct text){start + name_size + 1, size - name_size - 1}, out_value);
        }
        at += size + 1;
    }
    return false;
}

bool http_request_query_name(const struct http_request *request, size_t i, struct text *out_name)
{
    h2o_iovec_t path = request->req->input.path;
    size_t at = request->path_size + 1;

    while (at < path.len) {
        const char *start = path.base + at;
        const char *end = memchr(start, '&', path.len - at);
        size_t size = end ? (size_t)(end - start) : path.len - at;
        const char *equals = memchr(start, '=', size);

        if (i == 0) {
            *out_name = (struct text){start, equals ? (size_t)(equals - start) : size};
            return true;
        }
        i--;
        at += size + 1;
    }
    return false;
}

void http_request_peer(const struct http_request *request, char *out_address, size_t capacity)
{
    struct sockaddr_storage peer = {0};
    const struct sockaddr_in *in = (const struct sockaddr_in *)&peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&peer;

    snprintf(out_address, capacity, "unix");
    if (request->connection->loop->server->is_unix ||
        h2o_socket_getpeername(request->connection->sock, (struct sockaddr *)&peer) == 0)
        return;
    if (peer.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &in6->sin6_addr, out_address, (socklen_t)capacity);
    else
        inet_ntop(AF_INET, &in->sin_addr, out_address, (socklen_t)capacity);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Status";
}

static void add_headers(h2o_req_t *req, const struct http_response *response)
{
    const char *type = response->content_type ? response->content_type : "application/json";

    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
    for (size_t i = 0; i < sizeof(response->headers) / sizeof(response->headers[0]); i++) {
        const struct http_header *header = &response->headers[i];

        if (header->name)
            h2o_add_header_by_str(&req->pool, &req->res.headers, header->name, strlen(header->name),
                                  0, NULL, header->value, strlen(header->value));
    }
}

void http_respond(struct http_request *request, const struct http_response *response)
{
    static h2o_generator_t generator;
    h2o_req_t *req = request->req;
    struct http_connection *connection = request->connection;
    struct text body = response->body;
    h2o_iovec_t out = {(char *)(uintptr_t)body.data, body.size};

    if (request->deferred)
        request->deferred->request = NULL;
    if (!response->body_is_static && body.size) {
        out.base = h2o_mem_alloc_pool(&req->pool, body.size);
        memcpy(out.base, body.data, body.size);
    }
    /* After chunks the connection ends: h2o reads their lines leniently, so where the next request
     * would begin may be a matter of opinion (TRAPS H12). */
    if (response->close || request->is_chunked ||
        atomic_load_explicit(&connection->loop->server->is_draining, memory_order_relaxed))
        req->http1_is_persistent = 0;
    req->res.status = response->status;
    req->res.reason = reason_of(response->status);
    req->res.content_length = out.len;
    add_headers(req, response);
    http_connection_enter(connection, HTTP_WRITING);
    connection->answer_is_ours = true;
    h2o_start_response(req, &generator);
    connection->answer_is_ours = false;
    if (text_equal_string(http_request_method(request), "HEAD") || out.len == 0)
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
    else
        h2o_send(req, &out, 1, H2O_SEND_STATE_FINAL);
}

static int error_body(char *buffer, size_t capacity, const char *code, const char *message)
{
    return snprintf(buffer, capacity, "{\"error\":\"%s\",\"message\":\"%s\"}", code, message);
}

void http_respond_error(struct http_request *request, int status, const char *code,
                        const char *message)
{
    char body[512];
    int size = error_body(body, sizeof(body), code, message);

    http_respond(request, &(struct http_response){.status = status, .body = {body, (size_t)size}});
}

static void describe(struct http_request *request, h2o_req_t *req)
{
    const char *query = memchr(req->input.path.base, '?', req->input.path.len);

    request->req = req;
    request->connection = http_connection_of(req);
    request->path_size = query ? (size_t)(query - req->input.path.base) : req->input.path.len;
}

/* What the server says to each kind of request it refuses. */
struct refusal {
    int status;
    const char *code;
    const char *message;
    const char *why; /* unless more is known */
};

static const struct refusal refuse_framing = {
    400, "bad_request", "The framing of the request can be read in more than one way.",
    "unreadable_body"};
static const struct refusal refuse_head = {
    431, "headers_too_large", "The headers of the request are too large.", "headers_too_large"};
static const struct refusal refuse_body = {413, "body_too_large",
                                           "The body of the request is too large.", "too_large"};
static const struct refusal refuse_expectation = {
    417, "expectation_failed", "Only 100-continue can be expected.", "expectation"};

static void tell(struct http_server *server, const struct http_request *request, int status,
                 const char *why)
{
    if (server->options.refused)
        server->options.refused(server->options.context, request->connection->loop->number, request,
                                status, why);
}

static void refuse(struct http_server *server, struct http_request *request,
                   const struct refusal *refusal, const char *why)
{
    char body[200];
    int size = error_body(body, sizeof(body), refusal->code, refusal->message);

    tell(server, request, refusal->status, why);
    http_respond(request, &(struct http_response){.status = refusal->status,
                                                  .body = {body, (size_t)size},
                                                  .close = true});
}

/* The head is still where it was read, whatever the body: h2o leaves it at the start of the input
 * until the answer is written. Only its names have become lower case. */
static enum framing_verdict check_framing(struct http_request *request)
{
    const struct http_connection *connection = request->connection;
    const h2o_buffer_t *input = connection->sock->input;
    struct framing_head head;
    enum framing_verdict verdict = framing_guard_check(
        input->bytes, input->size, connection->loop->server->options.max_head, &head);

    if (verdict == FRAMING_OK) {
        request->has_length = head.has_length;
        request->is_chunked = head.is_chunked;
        request->connection->finished += head.size + request->req->entity.len;
    }
    return verdict;
}

/* The peer says more, or leaves, before it has its answer: that is looked at afterwards. */
static void on_early_input(h2o_socket_t *sock, const char *error)
{
    (void)error;
    h2o_socket_read_stop(sock);
}

/*
 * h2o stops reading while a request is worked on. When that outlasts the turn it takes the socket
 * out of epoll and puts it back later: two of the six system calls that a webhook costs. A callback
 * of ours keeps it there. What arrives may move the buffer: only the body still lies in it, because
 * h2o copies the head of a request that has one.
 */
static void stay_in_epoll(struct http_request *request)
{
    if (!http_request_has_length(request))
        return;
    request->req->entity = h2o_iovec_init(NULL, 0);
    h2o_socket_read_start(request->connection->sock, on_early_input);
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct http_server *server = ((struct handler *)self)->server;
    struct http_request request = {0};
    enum framing_verdict verdict;

    describe(&request, req);
    atomic_store_explicit(&request.connection->loop->is_asleep, false, memory_order_relaxed);
    request.started_us = clock_monotonic_us(server->options.clock);
    http_connection_enter(request.connection, HTTP_PENDING);
    verdict = check_framing(&request);
    if (verdict == FRAMING_TOO_LARGE)
        refuse(server, &request, &refuse_head, refuse_head.why);
    else if (verdict != FRAMING_OK)
        refuse(server, &request, &refuse_framing, framing_verdict_name(verdict));
    else if (req->entity.len > request.connection->loop->max_body)
        refuse(server, &request, &refuse_body, refuse_body.why);
    else if (request.is_chunked && http_connection_is_flooding(request.connection))
        refuse(server, &request, &refuse_body, "too_large_chunked");
    else
        server->options.handle(server->options.context, request.connection->loop->number, &request);
    if (request.connection->phase == HTTP_PENDING)
        stay_in_epoll(&request);
    return 0;
}

static void send_replacement(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                             h2o_send_state_t state)
{
    (void)bufs;
    (void)count;
    h2o_ostream_send_next(self, req, &((struct replacement *)self)->body, 1, state);
}

static h2o_ostream_t **replace_body(h2o_req_t *req, h2o_ostream_t **slot,
                                    const struct refusal *refusal)
{
    struct replacement *replacement =
        (struct replacement *)h2o_add_ostream(req, sizeof(*replacement), slot);
    char *bytes = replacement->bytes;
    int size = error_body(bytes, sizeof(replacement->bytes), refusal->code, refusal->message);

    replacement->super.do_send = send_replacement;
    replacement->body = h2o_iovec_init(bytes, (size_t)size);
    req->res.content_length = replacement->body.len;
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE,
                   H2O_STRLIT("application/json"), 1);
    return &replacement->super.next;
}

/* Gives h2o's own refusals (400, 413, 417) the form of ours. They always close the connection. What
 * h2o cannot read as a request at all, or has more than 100 headers, it answers past every filter:
 * 400 with "Bad Request" as plain text. */
static void on_answer(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct http_request request = {0};
    const struct refusal *refusal = req->res.status == 413   ? &refuse_body
                                    : req->res.status == 417 ? &refuse_expectation
                                                             : &refuse_framing;

    describe(&request, req);
    if (!request.connection->answer_is_ours) {
        http_connection_enter(request.connection, HTTP_WRITING);
        tell(((struct filter *)filter)->server, &request, refusal->status, refusal->why);
        slot = replace_body(req, slot, refusal);
    }
    h2o_setup_next_ostream(req, slot);
}

void http_config_refresh(struct http_loop *loop)
{
    loop->max_body = atomic_load_explicit(&loop->server->max_body, memory_order_relaxed);
    /* h2o refuses a chunked body of exactly its limit; the byte in between is refused by us. */
    loop->config.max_request_entity_size = loop->max_body + 1;
}

void http_config_init(struct http_loop *loop)
{
    h2o_globalconf_t *config = &loop->config;
    h2o_hostconf_t *host;
    h2o_pathconf_t *path;
    struct handler *handler;
    struct filter *filter;

    h2o_config_init(config);
    config->server_name = (h2o_iovec_t){NULL, 0};
    config->http1.upgrade_to_http2 = 0;
    config->http1.req_timeout = FAR_AWAY_MS;
    config->handshake_timeout = FAR_AWAY_MS;
    http_config_refresh(loop);
    /* Bodies stay in memory; h2o would put large ones into /tmp. */
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    path = &host->fallback_path;
    handler = (struct handler *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = on_request;
    handler->server = loop->server;
    filter = (struct filter *)h2o_create_filter(path, sizeof(*filter));
    filter->super.on_setup_ostream = on_answer;
    filter->server = loop->server;
}

static struct http_deferred *deferred_in(struct deferred_memory *memory)
{
    return (struct http_deferred *)(void *)memory->bytes;
}

/* The request's pool goes: its connection was closed or the answer is written. */
static void on_request_gone(void *watch)
{
    struct deferred_memory *memory = ((struct deferred_watch *)watch)->memory;

    if (!memory)
        return;
    memory->watch = NULL;
    deferred_in(memory)->request = NULL;
}

struct http_deferred *http_defer(struct http_request *request, size_t size,
                                 void (*resumed)(struct http_deferred *self))
{
    struct deferred_memory *memory = h2o_mem_alloc(sizeof(*memory) + size);
    struct http_deferred *deferred = deferred_in(memory);

    memset(deferred, 0, size);
    memory->watch =
        h2o_mem_alloc_shared(&request->req->pool, sizeof(*memory->watch), on_request_gone);
    memory->watch->memory = memory;
    memory->request = *request;
    memory->request.deferred = deferred;
    deferred->loop = request->connection->loop;
    deferred->request = &memory->request;
    deferred->resumed = resumed;
    deferred->loop->deferred++;
    return deferred;
}

void http_resume(struct http_deferred *deferred)
{
    struct http_loop *loop = deferred->loop;

    /* A loop that is awake looks into its mailbox before it sleeps. */
    if (mailbox_add(&loop->resumed, &deferred->node) && atomic_load(&loop->is_asleep))
        wakeup_signal(&loop->wakeup);
}

void http_deferred_run(struct http_loop *loop)
{
    struct mailbox_node *node = mailbox_take(&loop->resumed);

    while (node) {
        struct http_deferred *deferred = container_of(node, struct http_deferred, node);
        struct deferred_memory *memory = container_of(deferred, struct deferred_memory, bytes);

        node = node->next;
        deferred->resumed(deferred);
        if (memory->watch)
            memory->watch->memory = NULL;
        free(memory);
        loop->deferred--;
    }
}
