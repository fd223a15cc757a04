#include "tests/unit/bridge/http/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"

struct fixture fixture;

static void on_resumed(struct http_deferred *deferred)
{
    if (deferred->request) {
        atomic_store(&fixture.late_body, http_request_body(deferred->request).size);
        http_respond(deferred->request,
                     &(struct http_response){.status = 200, .body = {"late", 4}});
        atomic_fetch_add(&fixture.answered_late, 1);
    }
    atomic_fetch_add(&fixture.resumed, 1);
}

static void echo(struct http_request *request)
{
    char body[256];
    struct text path = http_request_path(request);
    struct text value = {"-", 1};
    size_t count;

    http_request_query(request, "q", &value);
    http_request_header(request, "x-probe", &count);
    snprintf(body, sizeof(body), "%.*s %.*s q=%.*s body=%zu probes=%zu",
             (int)http_request_method(request).size, http_request_method(request).data,
             (int)path.size, path.data, (int)value.size, value.data,
             http_request_body(request).size, count);
    http_respond(request, &(struct http_response){.status = 200,
                                                  .content_type = "text/plain",
                                                  .body = text_of(body),
                                                  .headers = {{"x-more", "1"}}});
}

static void handle(void *context, unsigned thread, struct http_request *request)
{
    static char big[BIG_ANSWER];
    struct text path = http_request_path(request);

    (void)context;
    (void)thread;
    atomic_fetch_add(&fixture.handled, 1);
    if (text_equal_string(path, "/smuggled"))
        atomic_fetch_add(&fixture.smuggled, 1);
    if (text_equal_string(path, "/resume")) /* while the loop is awake */
        http_resume(atomic_load(&fixture.waiting));
    if (text_equal_string(path, "/defer"))
        atomic_store(&fixture.waiting,
                     http_defer(request, sizeof(struct http_deferred), on_resumed));
    else if (text_equal_string(path, "/big"))
        http_respond(request, &(struct http_response){.status = 200,
                                                      .body = {big, sizeof(big)},
                                                      .body_is_static = true});
    else
        echo(request);
}

static void refused(void *context, unsigned thread, const struct http_request *request, int status,
                    const char *why)
{
    (void)context;
    (void)thread;
    (void)request;
    (void)status;
    atomic_store(&fixture.why, why);
    atomic_fetch_add(&fixture.refused, 1);
}

struct http_server_options fixture_defaults(void)
{
    return (struct http_server_options){
        .name = "test",
        .host = "127.0.0.1",
        .threads = 2,
        .max_body = MAX_BODY,
        .clock = &clock_system,
        .handle = handle,
        .refused = refused,
    };
}

uint16_t fixture_start(const struct http_server_options *options)
{
    struct error err = {0};

    memset(&fixture, 0, sizeof(fixture));
    fixture.server = http_server_start(options, &err);
    if (!fixture.server)
        fail_msg("%s", err.message);
    return http_server_port(fixture.server);
}

void fixture_stop(void)
{
    http_server_free(fixture.server);
}

bool fixture_has_no_connections(void *context)
{
    (void)context;
    return http_server_connections(fixture.server) == 0;
}

bool fixture_one_was_handled(void *context)
{
    (void)context;
    return atomic_load(&fixture.handled) == 1;
}

bool fixture_one_is_waiting(void *context)
{
    (void)context;
    return atomic_load(&fixture.waiting) != NULL;
}

bool fixture_one_was_resumed(void *context)
{
    (void)context;
    return atomic_load(&fixture.resumed) > 0;
}
