#include "bridge/control.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/text.h"
#include "bridge/config.h"
#include "bridge/http_server.h"
#include "bridge/metrics.h"

enum {
    MAX_BODY = 1024 * 1024,
    MAX_CONNECTIONS = 64,
    REQUEST_TIMEOUT_MS = 10000,
    ANSWER_TIMEOUT_MS = 60000,
    STOP_MS = 500,
};

struct control {
    struct control_options options;
    struct http_server *server;
};

struct route {
    const char *method;
    const char *path;
    bool is_open; /* needs no token */
    void (*handle)(struct control *control, struct http_request *request);
};

static void get_health(struct control *control, struct http_request *request)
{
    (void)control;
    http_respond(request, 200, "application/json", text_of("{\"status\":\"ok\"}"));
}

static void get_readiness(struct control *control, struct http_request *request)
{
    struct buf json = {0};
    bool is_ready = control->options.readiness(control->options.context, &json);

    http_respond(request, is_ready ? 200 : 503, "application/json", buf_text(&json));
    buf_release(&json);
}

static void get_metrics(struct control *control, struct http_request *request)
{
    struct buf text = {0};

    metrics_render(control->options.metrics, &text);
    http_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", buf_text(&text));
    buf_release(&text);
}

static const struct route routes[] = {
    {"GET", "/healthz", true, get_health},
    {"GET", "/metrics", true, get_metrics},
    {"GET", "/readyz", true, get_readiness},
};

static bool has_token(const struct control *control, const struct http_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *token = control->options.config->control.token;
    struct text given = http_header(request, "authorization", NULL);
    size_t size = token ? strlen(token) : 0;

    if (!token)
        return true;
    return given.size == sizeof(scheme) - 1 + size && text_starts_with(given, scheme) &&
           CRYPTO_memcmp(given.data + sizeof(scheme) - 1, token, size) == 0;
}

static bool may_pass(const struct control *control, struct http_request *request, bool is_open)
{
    if (http_header(request, "origin", NULL).data) {
        http_respond_error(request, 403, "forbidden", "requests from browsers are refused");
        return false;
    }
    if (is_open || has_token(control, request))
        return true;
    http_add_header(request, "www-authenticate", "Bearer");
    http_respond_error(request, 401, "unauthorized",
                       "send the configured control.token as Authorization: Bearer");
    return false;
}

static void handle(void *context, struct http_request *request, unsigned loop)
{
    struct control *control = context;
    struct text path = http_path(request);
    const struct route *found = NULL;

    (void)loop;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!text_equal_string(path, routes[i].path))
            continue;
        found = &routes[i];
        if (text_equal_string(http_method(request), found->method))
            break;
    }
    if (!may_pass(control, request, found && found->is_open))
        return;
    if (!found) {
        http_respond_error(request, 404, "not_found",
                           "there is no such path on the control listener");
    } else if (!text_equal_string(http_method(request), found->method)) {
        http_add_header(request, "allow", found->method);
        http_respond_error(request, 405, "method_not_allowed", "this path has another method");
    } else {
        found->handle(control, request);
    }
}

struct control *control_start(const struct control_options *options, struct error *err)
{
    struct control *control = alloc_zeroed(1, sizeof(*control));
    const struct config *config = options->config;

    control->options = *options;
    control->server =
        http_server_start(&(struct http_server_options){.name = "control",
                                                        .host = config->control.host,
                                                        .port = config->control.port,
                                                        .socket_path = config->control.socket_path,
                                                        .max_body = MAX_BODY,
                                                        .threads = 1,
                                                        .max_connections = MAX_CONNECTIONS,
                                                        .request_timeout_ms = REQUEST_TIMEOUT_MS,
                                                        .answer_timeout_ms = ANSWER_TIMEOUT_MS,
                                                        .clock = options->clock,
                                                        .handle = handle,
                                                        .context = control},
                          err);
    if (control->server)
        return control;
    free(control);
    return NULL;
}

const char *control_address(const struct control *control)
{
    return http_server_address(control->server);
}

void control_stop(struct control *control)
{
    if (!control)
        return;
    http_server_stop(control->server, STOP_MS);
    free(control);
}
