/*
 * Requests on their loop: what the handler sees, answering now or later.
 */
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/framing_guard.h"
#include "bridge/http_internal.h"

enum { MAX_HEAD = 32 * 1024 };

static int64_t now_ms(const struct http_loop *loop)
{
    return clock_monotonic_ms(loop->server->options.clock);
}

static void enter(struct http_connection *connection, enum connection_state state)
{
    connection->state = state;
    connection->since_ms = now_ms(connection->loop);
}

struct text http_method(const struct http_request *request)
{
    return (struct text){request->req->method.base, request->req->method.len};
}

struct text http_path(const struct http_request *request)
{
    const h2o_req_t *req = request->req;

    return (struct text){req->path.base, req->query_at != SIZE_MAX ? req->query_at : req->path.len};
}

struct text http_body(const struct http_request *request)
{
    const h2o_iovec_t entity = request->req->entity;

    return (struct text){entity.base ? entity.base : "", entity.len};
}

struct text http_header(const struct http_request *request, const char *name, size_t *out_count)
{
    const h2o_headers_t *headers = &request->req->headers;
    struct text value = {NULL, 0};
    size_t size = strlen(name);
    size_t count = 0;

    for (size_t i = 0; i < headers->size; i++) {
        const h2o_header_t *header = &headers->entries[i];

        if (header->name->len != size || memcmp(header->name->base, name, size) != 0)
            continue;
        if (count++ == 0)
            value = (struct text){header->value.base, header->value.len};
    }
    if (out_count)
        *out_count = count;
    return value;
}

void http_close_after(struct http_request *request)
{
    request->req->http1_is_persistent = 0;
}

void http_add_header(struct http_request *request, const char *name, const char *value)
{
    h2o_req_t *req = request->req;
    h2o_iovec_t own_name = h2o_strdup(&req->pool, name, SIZE_MAX);
    h2o_iovec_t own_value = h2o_strdup(&req->pool, value, SIZE_MAX);

    h2o_add_header_by_str(&req->pool, &req->res.headers, own_name.base, own_name.len, 1, NULL,
                          own_value.base, own_value.len);
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  struct text body)
{
    h2o_req_t *req = request->req;

    enter(request->connection, CONNECTION_WRITING);
    request->connection->request = NULL;
    req->res.status = status;
    req->res.reason = ""; /* HTTP/1.1 clients go by the number (RFC 9112 section 4) */
    req->res.content_length = body.size;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, content_type,
                   strlen(content_type));
    h2o_send_inline(req, body.data ? body.data : "", body.size);
}

void http_respond_error(struct http_request *request, int status, const char *code,
                        const char *message)
{
    struct buf body = {0};

    buf_append_string(&body, "{\"error\":");
    buf_append_json_string(&body, text_of(code));
    buf_append_string(&body, ",\"message\":");
    buf_append_json_string(&body, text_of(message));
    buf_append_char(&body, '}');
    http_respond(request, status, "application/json", buf_text(&body));
    buf_release(&body);
}

/* ---- answering later ---- */

void http_defer(struct http_request *request, struct http_deferred *deferred)
{
    deferred->request = request;
    deferred->loop = &request->connection->loop->answers;
    request->deferred = deferred;
    request->connection->request = request;
    enter(request->connection, CONNECTION_HANDLING);
}

void http_deferred_wake(struct http_deferred *deferred)
{
    mailbox_push(deferred->loop, &deferred->node);
}

void http_take_answers(struct http_loop *loop)
{
    struct mailbox_node *node = mailbox_take(&loop->answers);

    while (node) {
        struct http_deferred *deferred = container_of(node, struct http_deferred, node);
        struct http_request *request = deferred->request;

        node = node->next; /* first: the waiting thing frees itself in its answer */
        if (request)
            request->deferred = NULL;
        deferred->answer(deferred, request);
    }
}

/* h2o has done with the request: it was answered, or the peer is gone. */
static void on_dispose(void *pointer)
{
    struct http_request *request = pointer;

    if (request->deferred)
        request->deferred->request = NULL;
    request->req = NULL;
    if (!request->connection)
        return;
    request->connection->request = NULL;
    enter(request->connection, CONNECTION_READING);
}

/* ---- from h2o ---- */

static struct http_connection *connection_of(h2o_req_t *req)
{
    const h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    return sock->on_close.data;
}

static void refuse(struct http_loop *loop, struct http_request *request, int status,
                   const char *code, const char *message)
{
    http_close_after(request);
    if (loop->server->options.refused)
        loop->server->options.refused(loop->server->options.context, status);
    http_respond_error(request, status, code, message);
}

/* True when the request was refused here. Its bytes are still in the socket's buffer, the head
 * first. */
static bool is_refused(struct http_loop *loop, struct http_request *request)
{
    h2o_req_t *req = request->req;
    const h2o_buffer_t *input = req->conn->callbacks->get_socket(req->conn)->input;
    enum framing_verdict verdict;
    struct framing_head head;

    verdict = framing_guard_check(input->bytes, input->size, MAX_HEAD, &head);
    if (verdict == FRAMING_TOO_LARGE) {
        refuse(loop, request, 431, "headers_too_large", "the headers are larger than 32 KiB");
        return true;
    }
    if (verdict != FRAMING_OK) {
        refuse(loop, request, 400, "bad_framing", framing_verdict_name(verdict));
        return true;
    }
    /* How chunks were written cannot be seen any more, so nothing may follow them on this
     * connection. */
    if (head.is_chunked)
        http_close_after(request);
    return false;
}

struct loop_handler {
    h2o_handler_t super;
    struct http_loop *loop;
};

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    struct http_loop *loop = ((struct loop_handler *)self)->loop;
    struct http_request *request =
        h2o_mem_alloc_shared(&req->pool, sizeof(*request), on_dispose); /* TRAPS H6 */

    *request = (struct http_request){.req = req, .connection = connection_of(req)};
    request->connection->requests++;
    if (!is_refused(loop, request))
        loop->server->options.handle(loop->server->options.context, request, loop->number);
    return 0;
}

/* ---- h2o's own errors are text: ours are JSON ---- */

struct error_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void send_json(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                      h2o_send_state_t state)
{
    struct error_stream *stream = (struct error_stream *)self;

    (void)bufs;
    (void)count;
    h2o_ostream_send_next(self, req, &stream->body, 1, state);
}

static const char *code_of(int status)
{
    switch (status) {
    case 413:
        return "too_large";
    case 417:
        return "expectation_failed";
    default:
        return "bad_request";
    }
}

static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    static const char text_plain[] = "text/plain";
    ssize_t at = h2o_find_header(&req->res.headers, H2O_TOKEN_CONTENT_TYPE, -1);
    h2o_header_t *type = at >= 0 ? &req->res.headers.entries[at] : NULL;

    (void)self;
    if (req->res.status >= 400 && type && type->value.len >= sizeof(text_plain) - 1 &&
        memcmp(type->value.base, text_plain, sizeof(text_plain) - 1) == 0) {
        struct http_connection *connection = connection_of(req);
        struct http_server *server = connection->loop->server;
        struct error_stream *stream = (void *)h2o_add_ostream(req, sizeof(*stream), slot);
        const char *message = req->res.status == 413 ? "the body is larger than max_body"
                                                     : "the request cannot be understood";

        stream->super.do_send = send_json;
        stream->body =
            h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("{\"error\":\"")),
                       h2o_iovec_init(code_of(req->res.status), strlen(code_of(req->res.status))),
                       h2o_iovec_init(H2O_STRLIT("\",\"message\":\"")),
                       h2o_iovec_init(message, strlen(message)), h2o_iovec_init(H2O_STRLIT("\"}")));
        type->value = h2o_iovec_init(H2O_STRLIT("application/json"));
        req->res.content_length = stream->body.len;
        enter(connection, CONNECTION_WRITING);
        if (server->options.refused)
            server->options.refused(server->options.context, req->res.status);
        slot = &stream->super.next;
    }
    h2o_setup_next_ostream(req, slot);
}

void http_register_handler(struct http_loop *loop, h2o_hostconf_t *host)
{
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct loop_handler *handler = (void *)h2o_create_handler(path, sizeof(*handler));

    handler->super.on_req = on_req;
    handler->loop = loop;
    h2o_create_filter(path, sizeof(h2o_filter_t))->on_setup_ostream = on_setup_ostream;
    h2o_create_filter(&host->fallback_path, sizeof(h2o_filter_t))->on_setup_ostream =
        on_setup_ostream;
}
