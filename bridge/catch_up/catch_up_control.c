#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/config/config.h"
#include "bridge/control/control.h"
#include "bridge/control/control_query.h"
#include "bridge/control/control_request.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

/* What Close keeps (CLOSE.md section 6). */
enum { CLOSE_KEEPS_DAYS = 30 };

/* ---- on the control listener's thread ---- */

/* Copies what was read and puts the request off. */
static void enqueue(struct catch_up *self, struct http_request *http,
                    const struct catch_up_request *wanted)
{
    struct catch_up_request *request = control_request_new(http, sizeof(*request));

    request->kind = wanted->kind;
    memcpy(request->account, wanted->account, sizeof(request->account));
    request->task = wanted->task;
    request->id = wanted->id;
    control_inbox_push(&self->inbox, &request->base);
}

static bool read_times(struct http_request *http, int64_t now_ms, struct catch_up_task *task)
{
    task->since_ms = -1;
    if (!control_query_since(http, "since", now_ms, &task->since_ms) ||
        !control_query_since(http, "until", now_ms, &task->until_ms))
        return false;
    if (task->since_ms < 0)
        http_respond_error(http, 400, "bad_parameter",
                           "The parameter since is missing: where in time to begin, such as "
                           "2026-01-31T12:00:00Z or 7d.");
    else if (task->since_ms >= now_ms)
        http_respond_error(http, 400, "bad_parameter", "The parameter since is in the future.");
    else if (task->until_ms && task->until_ms <= task->since_ms)
        http_respond_error(http, 400, "bad_parameter", "The parameter until is not after since.");
    else
        return true;
    return false;
}

static void post(void *context, struct http_request *http)
{
    static const char *const names[] = {"since",  "until",   "account", "object_type",
                                        "action", "dry_run", NULL};
    struct catch_up *self = context;
    struct catch_up_request wanted = {.kind = CATCH_UP_POST, .task = {.cause = CATCH_UP_REQUESTED}};
    struct catch_up_task *task = &wanted.task;

    if (control_query_only(http, names) &&
        control_query_account(http, wanted.account, sizeof(wanted.account)) &&
        control_query_text(http, "object_type", task->object_type, sizeof(task->object_type)) &&
        control_query_text(http, "action", task->action, sizeof(task->action)) &&
        control_query_bool(http, "dry_run", &task->is_dry_run) &&
        read_times(http, clock_wall_ms(self->options.clock), task))
        enqueue(self, http, &wanted);
}

static void delete (void *context, struct http_request *http)
{
    static const char *const names[] = {"account", "id", NULL};
    struct catch_up_request wanted = {.kind = CATCH_UP_DELETE};

    if (control_query_only(http, names) &&
        control_query_account(http, wanted.account, sizeof(wanted.account)) &&
        control_query_number(http, "id", 1, UINT64_MAX - 1, &wanted.id))
        enqueue(context, http, &wanted);
}

static void get(void *context, struct http_request *http)
{
    struct catch_up *self = context;
    struct buf json = {0};

    pthread_mutex_lock(&self->lock);
    buf_append_text(&json, buf_text(&self->shown));
    pthread_mutex_unlock(&self->lock);
    http_respond(http, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

/* In broker mode there is nothing that would know what was published. */
static void refuse(void *context, struct http_request *http)
{
    (void)context;
    http_respond_error(
        http, 409, "no_journal",
        "With acknowledge: broker the bridge keeps no events, so that it cannot tell "
        "which of Close's Event Log it had.");
}

void catch_up_add_routes(struct catch_up *self, struct control *control)
{
    bool has_journal = self->options.journal != NULL;

    control_add(control, &(struct control_route){"GET", "/control/catch-up",
                                                 has_journal ? get : refuse, self});
    control_add(control, &(struct control_route){"POST", "/control/catch-up",
                                                 has_journal ? post : refuse, self});
    control_add(control, &(struct control_route){"DELETE", "/control/catch-up",
                                                 has_journal ? delete : refuse, self});
}

/* ---- on the catch-up's thread ---- */

static bool is_asked_for(const struct catch_up_request *request,
                         const struct catch_up_account *account)
{
    return account->settings &&
           (!request->account[0] || strcmp(request->account, account->name) == 0);
}

/* An answer's list of tasks is its beginning. */
static void append_added(const struct catch_up *self, struct catch_up_request *request,
                         const struct catch_up_account *account, const struct catch_up_task *task)
{
    buf_append_comma(&request->base.answer);
    buf_append_string(&request->base.answer, "{\"account\":");
    buf_append_json_string(&request->base.answer, text_of(account->name));
    buf_append_string(&request->base.answer, ",\"task\":");
    catch_up_append_task(self, task, &request->base.answer);
    buf_append_char(&request->base.answer, '}');
}

static void add_task(struct catch_up *self, struct catch_up_request *request,
                     struct catch_up_account *account, const struct buf *warnings)
{
    struct catch_up_task *task = catch_up_task_add(account, &request->task);

    if (!task)
        return;
    task->warnings = alloc_string(buf_text(warnings).data);
    append_added(self, request, account, task);
}

static bool can_anybody_read(const struct catch_up *self, const struct catch_up_request *request)
{
    for (const struct catch_up_account *account = self->accounts; account;
         account = account->next) {
        if (is_asked_for(request, account) && catch_up_can_read(account))
            return true;
    }
    return false;
}

static void warn(const struct catch_up *self, const struct catch_up_request *request,
                 bool was_too_old, struct buf *warnings)
{
    if (can_anybody_read(self, request))
        catch_up_warn(self, &request->task, request->account, was_too_old, warnings);
}

static void append_warnings(const struct catch_up *self, struct catch_up_request *request,
                            const struct buf *warnings)
{
    struct buf *json = &request->base.answer;

    buf_append_string(json, "],\"warnings\":[");
    buf_append_text(json, buf_text(warnings));
    if (self->is_unsaved && !request->task.is_dry_run)
        buf_printf(json,
                   "%s\"It could not be stored beside the journal yet: a restart would forget "
                   "it. The log says why.\"",
                   warnings->size > 0 ? "," : "");
    buf_append_string(json, "]}");
}

/* Why there is nobody to read for. */
static void fail_post(const struct catch_up *self, struct catch_up_request *request)
{
    const struct catch_up_account *account =
        request->account[0] ? catch_up_find(self, request->account) : NULL;

    if (request->account[0] && (!account || !account->settings))
        control_request_fail(&request->base, 404, "no_such_account",
                             "There is no account of this name.");
    else if (account && catch_up_can_read(account))
        control_request_fail(
            &request->base, 409, "too_many_tasks",
            "Sixteen stretches of time wait to be read already: wait, or cancel some.");
    else
        control_request_fail(
            &request->base, 409, "no_credentials",
            account ? "The account has neither api_key nor oauth_token, which Close's Event Log "
                      "needs."
                    : "No account has api_key or oauth_token, which Close's Event Log needs.");
}

static void serve_post(struct catch_up *self, struct catch_up_request *request)
{
    int64_t oldest_ms = clock_wall_ms(self->options.clock) - CLOSE_KEEPS_DAYS * DAY_MS;
    bool was_too_old = request->task.since_ms < oldest_ms;
    struct buf warnings = {0};
    size_t begin;

    if (was_too_old)
        request->task.since_ms = oldest_ms;
    request->task.reached_ms = request->task.since_ms;
    warn(self, request, was_too_old, &warnings);
    buf_append_string(&request->base.answer, "{\"tasks\":[");
    begin = request->base.answer.size;
    for (struct catch_up_account *account = self->accounts; account; account = account->next) {
        if (is_asked_for(request, account) && catch_up_can_read(account))
            add_task(self, request, account, &warnings);
    }
    if (request->base.answer.size == begin) {
        fail_post(self, request);
    } else {
        if (!request->task.is_dry_run)
            catch_up_save(self);
        append_warnings(self, request, &warnings);
        request->base.status = 202;
    }
    buf_release(&warnings);
}

static void serve_delete(struct catch_up *self, struct catch_up_request *request)
{
    size_t cancelled = 0;

    for (struct catch_up_account *account = self->accounts; account; account = account->next) {
        if (request->account[0] && strcmp(request->account, account->name) != 0)
            continue;
        for (struct catch_up_task *task = account->tasks; task; task = task->next) {
            if (task->is_cancelled || (request->id && request->id != task->id))
                continue;
            task->is_cancelled = true;
            cancelled++;
        }
    }
    if (request->account[0] && !catch_up_find(self, request->account)) {
        control_request_fail(&request->base, 404, "no_such_account",
                             "There is no account of this name.");
        return;
    }
    if (cancelled > 0)
        catch_up_save(self);
    buf_printf(&request->base.answer, "{\"cancelled\":%zu}", cancelled);
    request->base.status = 200;
}

static void serve(void *context, struct control_request *base)
{
    struct catch_up *self = context;
    struct catch_up_request *request = (struct catch_up_request *)base;

    if (atomic_load(&self->is_stopping))
        control_request_fail(&request->base, 503, "stopping", "The bridge stops.");
    else if (request->kind == CATCH_UP_POST)
        serve_post(self, request);
    else
        serve_delete(self, request);
    catch_up_show(self, true);
    control_request_finish(base);
}

static void take_gaps(struct catch_up *self)
{
    struct mailbox_node *node = mailbox_take(&self->gaps);

    while (node) {
        struct catch_up_gap *gap = container_of(node, struct catch_up_gap, node);
        struct catch_up_account *account = catch_up_find(self, gap->account);

        node = node->next;
        if (account)
            catch_up_take_gap(self, account, gap->since_ms, gap->until_ms);
        free(gap);
    }
}

void catch_up_serve(struct catch_up *self)
{
    control_inbox_serve(&self->inbox, serve, self);
    take_gaps(self);
}

void catch_up_close_requests(struct catch_up *self)
{
    control_inbox_close(&self->inbox);
    catch_up_serve(self);
}
