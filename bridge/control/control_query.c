#include "bridge/control/control_query.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/config/moment.h"
#include "bridge/http/http_server.h"

static bool refuse(struct http_request *request, const char *name, const char *what)
{
    char message[sizeof(((struct error *)0)->message) + 40];

    snprintf(message, sizeof(message), "The parameter %s %s.", name, what);
    http_respond_error(request, 400, "bad_parameter", message);
    return false;
}

bool control_query_only(struct http_request *request, const char *const *names)
{
    struct text name;

    for (size_t i = 0; http_request_query_name(request, i, &name); i++) {
        const char *const *known = names;

        while (*known && !text_equal_string(name, *known))
            known++;
        if (!*known) {
            http_respond_error(request, 400, "unknown_parameter",
                               "The path has no such parameter; see docs/control.openapi.yaml.");
            return false;
        }
    }
    return true;
}

bool control_query_text(struct http_request *request, const char *name, char *out, size_t capacity)
{
    struct text value;

    if (!http_request_query(request, name, &value))
        return true;
    if (value.size == 0)
        return refuse(request, name, "is empty: leave it out when it is to mean all");
    if (value.size >= capacity || memchr(value.data, '\0', value.size))
        return refuse(request, name, "is too long, or has a NUL in it");
    memcpy(out, value.data, value.size);
    out[value.size] = '\0';
    return true;
}

bool control_query_account(struct http_request *request, char *out, size_t capacity)
{
    struct text account;

    out[0] = '\0';
    if (!http_request_query(request, "account", &account))
        return true;
    if (account.size == 0 || account.size >= capacity || memchr(account.data, '\0', account.size)) {
        http_respond_error(request, 404, "no_such_account", "There is no account of this name.");
        return false;
    }
    memcpy(out, account.data, account.size);
    out[account.size] = '\0';
    return true;
}

bool control_query_number(struct http_request *request, const char *name, uint64_t min,
                          uint64_t max, uint64_t *out)
{
    struct text value;
    uint64_t number;
    char range[80];

    if (!http_request_query(request, name, &value))
        return true;
    if (!text_to_u64(value, &number) || number < min || number > max) {
        snprintf(range, sizeof(range), "is a whole number from %" PRIu64 " to %" PRIu64, min, max);
        return refuse(request, name, range);
    }
    *out = number;
    return true;
}

bool control_query_bool(struct http_request *request, const char *name, bool *out)
{
    struct text value;

    if (!http_request_query(request, name, &value))
        return true;
    if (!text_equal_string(value, "true") && !text_equal_string(value, "false"))
        return refuse(request, name, "is true or false");
    *out = text_equal_string(value, "true");
    return true;
}

bool control_query_since(struct http_request *request, const char *name, int64_t now_ms,
                         int64_t *out_ms)
{
    struct text value;
    struct error err;

    if (!http_request_query(request, name, &value) ||
        moment_parse(value, now_ms, out_ms, &err) == 0)
        return true;
    return refuse(request, name, err.message);
}
