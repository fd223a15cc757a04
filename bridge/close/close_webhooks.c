#include "bridge/close/close_webhooks.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/close/close_api.h"
#include "bridge/close/pair_list.h"

enum { MAX_PAGES = 50, PATH_SIZE = CLOSE_ID_MAX + 32 };

int close_webhooks_list(struct close_api *api, struct close_access *access,
                        struct close_subscriptions *out_list, struct error *err)
{
    struct close_subscriptions list = {0};
    char path[64] = "/webhook/";
    bool has_more = true;
    int rc = 0;

    for (int page = 0; rc == 0 && has_more; page++) {
        size_t before = list.count;
        struct close_answer answer;

        rc =
            close_api_ask(api, access, &(struct close_request){CLOSE_GET, path, {0}}, &answer, err);
        if (rc == 0)
            rc = close_subscriptions_parse(buf_text(&answer.body), &list, &has_more, err);
        close_answer_release(&answer);
        if (rc == 0 && has_more && (list.count == before || page == MAX_PAGES))
            rc = error_set(err, ERROR_CONFIG,
                           "Close's list of subscriptions does not end: check api_url");
        snprintf(path, sizeof(path), "/webhook/?_skip=%zu&_limit=100", list.count);
    }
    if (rc == 0)
        *out_list = list;
    else
        close_subscriptions_release(&list);
    return rc;
}

static void format_change(const struct close_change *change, struct buf *json)
{
    buf_append_char(json, '{');
    if (change->url) {
        buf_append_string(json, "\"url\":");
        buf_append_json_string(json, text_of(change->url));
    }
    if (change->pairs) {
        buf_append_string(json, json->size > 1 ? ",\"events\":" : "\"events\":");
        pair_list_append_events(change->pairs, json);
    }
    if (change->sets_verify_ssl)
        buf_printf(json, "%s\"verify_ssl\":%s", json->size > 1 ? "," : "",
                   change->verify_ssl ? "true" : "false");
    if (change->activates)
        buf_printf(json, "%s\"status\":\"active\"", json->size > 1 ? "," : "");
    buf_append_char(json, '}');
}

/* `id` NULL: whatever Close gives it. */
static int read_one(struct text json, const char *id, struct close_subscription *out_subscription,
                    struct error *err)
{
    struct close_subscription subscription;

    if (close_subscription_parse(json, &subscription, err) < 0)
        return -1;
    if (id && strcmp(subscription.id, id) != 0) {
        close_subscription_release(&subscription);
        return error_set(err, ERROR_CONFIG,
                         "the answer is another subscription than %s, which Close's is not: check "
                         "api_url",
                         id);
    }
    *out_subscription = subscription;
    return 0;
}

static int ask_for_one(struct close_api *api, struct close_access *access, enum close_method method,
                       const char *id, const struct close_change *change,
                       struct close_subscription *out_subscription, int *out_status,
                       struct error *err)
{
    struct close_request request = {.method = method};
    struct close_answer answer = {0};
    char path[PATH_SIZE] = "/webhook/";
    struct buf json = {0};
    int rc;

    if (id)
        snprintf(path, sizeof(path), "/webhook/%s/", id);
    if (change)
        format_change(change, &json);
    request.path = path;
    request.body = change ? buf_text(&json) : (struct text){NULL, 0};
    *out_status = 0;
    rc = json.failed ? error_set(err, ERROR_FATAL, "a request to Close's API: out of memory")
                     : close_api_ask(api, access, &request, &answer, err);
    if (rc < 0)
        *out_status = answer.status;
    else
        rc = read_one(buf_text(&answer.body), id, out_subscription, err);
    close_answer_release(&answer);
    buf_release(&json);
    return rc;
}

int close_webhooks_get(struct close_api *api, struct close_access *access, const char *id,
                       struct close_subscription *out_subscription, int *out_status,
                       struct error *err)
{
    return ask_for_one(api, access, CLOSE_GET, id, NULL, out_subscription, out_status, err);
}

int close_webhooks_create(struct close_api *api, struct close_access *access,
                          const struct close_change *change,
                          struct close_subscription *out_subscription, int *out_status,
                          struct error *err)
{
    return ask_for_one(api, access, CLOSE_POST, NULL, change, out_subscription, out_status, err);
}

int close_webhooks_update(struct close_api *api, struct close_access *access, const char *id,
                          const struct close_change *change,
                          struct close_subscription *out_subscription, int *out_status,
                          struct error *err)
{
    return ask_for_one(api, access, CLOSE_PUT, id, change, out_subscription, out_status, err);
}

int close_webhooks_delete(struct close_api *api, struct close_access *access, const char *id,
                          struct error *err)
{
    struct close_answer answer = {0};
    char path[PATH_SIZE];
    int rc;

    snprintf(path, sizeof(path), "/webhook/%s/", id);
    rc = close_api_ask(api, access, &(struct close_request){CLOSE_DELETE, path, {0}}, &answer, err);
    if (rc < 0 && answer.status == 404)
        rc = 0;
    close_answer_release(&answer);
    return rc;
}
