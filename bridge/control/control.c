#include "bridge/control/control.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/http/http_server.h"
#include "bridge/runtime/metrics.h"

enum { MAX_ROUTES = 64 };

struct control {
    struct control_options options;
    pthread_mutex_t lock;
    char *token; /* lock: lock; NULL: none is needed */
    struct control_route routes[MAX_ROUTES];
    size_t route_count;
};

struct control *control_new(const struct control_options *options)
{
    struct control *control = alloc_zeroed(1, sizeof(*control));

    control->options = *options;
    control->token = options->token ? alloc_string(options->token) : NULL;
    pthread_mutex_init(&control->lock, NULL);
    return control;
}

static void free_token(char *token)
{
    if (token)
        OPENSSL_cleanse(token, strlen(token));
    free(token);
}

void control_free(struct control *control)
{
    if (!control)
        return;
    free_token(control->token);
    pthread_mutex_destroy(&control->lock);
    free(control);
}

void control_set_token(struct control *control, const char *token)
{
    char *copy = token ? alloc_string(token) : NULL;
    char *before;

    pthread_mutex_lock(&control->lock);
    before = control->token;
    control->token = copy;
    pthread_mutex_unlock(&control->lock);
    free_token(before);
}

void control_add(struct control *control, const struct control_route *route)
{
    if (control->route_count == MAX_ROUTES)
        abort(); /* the routes are a list in the program */
    control->routes[control->route_count++] = *route;
}

static void respond_buf(struct http_request *request, int status, const char *content_type,
                        struct buf *body)
{
    if (body->failed)
        http_respond_error(request, 503, "out_of_memory", "There is no memory for the answer.");
    else
        http_respond(request, &(struct http_response){.status = status,
                                                      .content_type = content_type,
                                                      .body = buf_text(body)});
    buf_release(body);
}

static void respond_health(struct control *control, struct http_request *request)
{
    (void)control;
    http_respond(request, &(struct http_response){.status = 200,
                                                  .body = {"{\"status\":\"ok\"}", 15},
                                                  .body_is_static = true});
}

static void respond_readiness(struct control *control, struct http_request *request)
{
    struct buf json = {0};
    bool is_ready = control->options.readiness(control->options.readiness_context, &json);

    respond_buf(request, is_ready ? 200 : 503, NULL, &json);
}

static void respond_metrics(struct control *control, struct http_request *request)
{
    struct buf out = {0};

    metrics_render(control->options.metrics, &out);
    respond_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void refuse_method(struct http_request *request, const char *allowed)
{
    static const char body[] =
        "{\"error\":\"method_not_allowed\",\"message\":\"The path has no such method.\"}";

    http_respond(request, &(struct http_response){.status = 405,
                                                  .body = {body, sizeof(body) - 1},
                                                  .body_is_static = true,
                                                  .headers = {{"allow", allowed}}});
}

static bool is_open_path(struct control *control, struct http_request *request)
{
    static const struct {
        const char *path;
        void (*respond)(struct control *control, struct http_request *request);
    } open_paths[] = {
        {"/healthz", respond_health},
        {"/readyz", respond_readiness},
        {"/metrics", respond_metrics},
    };
    struct text path = http_request_path(request);
    struct text method = http_request_method(request);

    for (size_t i = 0; i < sizeof(open_paths) / sizeof(open_paths[0]); i++) {
        if (!text_equal_string(path, open_paths[i].path))
            continue;
        if (text_equal_string(method, "GET") || text_equal_string(method, "HEAD"))
            open_paths[i].respond(control, request);
        else
            refuse_method(request, "GET, HEAD");
        return true;
    }
    return false;
}

static bool is_token(const char *token, struct text value)
{
    static const char scheme[] = "bearer "; /* in any case: RFC 9110 section 11.1 */
    size_t size = sizeof(scheme) - 1;

    return value.data && value.size > size && strncasecmp(value.data, scheme, size) == 0 &&
           value.size - size == strlen(token) &&
           CRYPTO_memcmp(value.data + size, token, value.size - size) == 0;
}

static bool is_authorized(struct control *control, const struct http_request *request)
{
    struct text value = http_request_header(request, "authorization", NULL);
    bool is;

    pthread_mutex_lock(&control->lock);
    is = !control->token || is_token(control->token, value);
    pthread_mutex_unlock(&control->lock);
    return is;
}

static void refuse_token(struct http_request *request)
{
    static const char body[] = "{\"error\":\"unauthorized\",\"message\":\"The request needs the "
                               "configured bearer token.\"}";

    http_respond(request, &(struct http_response){.status = 401,
                                                  .body = {body, sizeof(body) - 1},
                                                  .body_is_static = true,
                                                  .headers = {{"www-authenticate", "Bearer"}}});
}

static void append_allowed(struct buf *allowed, const char *method)
{
    if (allowed->size)
        buf_append_string(allowed, ", ");
    buf_append_string(allowed, method);
}

static void dispatch(struct control *control, struct http_request *request)
{
    struct buf allowed = {0};

    for (size_t i = 0; i < control->route_count; i++) {
        const struct control_route *route = &control->routes[i];

        if (!text_equal_string(http_request_path(request), route->path))
            continue;
        if (text_equal_string(http_request_method(request), route->method)) {
            buf_release(&allowed);
            route->handle(route->context, request);
            return;
        }
        append_allowed(&allowed, route->method);
    }
    if (allowed.size)
        refuse_method(request, allowed.data);
    else
        http_respond_error(request, 404, "not_found", "There is nothing at this path.");
    buf_release(&allowed);
}

void control_handle(void *context, unsigned thread, struct http_request *request)
{
    struct control *control = context;
    size_t origins;

    (void)thread;
    http_request_header(request, "origin", &origins);
    if (origins) {
        http_respond_error(request, 403, "origin_refused", "Web pages may not call this listener.");
        return;
    }
    if (is_open_path(control, request))
        return;
    if (is_authorized(control, request))
        dispatch(control, request);
    else
        refuse_token(request);
}
