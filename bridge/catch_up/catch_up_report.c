#include <inttypes.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/config/config.h"
#include "schemas/date.h"

enum { SHOW_EVERY_MS = 200 };

/* ---- the log ---- */

static void log_counts(const char *event, const struct catch_up_account *account,
                       const struct catch_up_task *task, const char *end)
{
    log_info(event, log_str("account", account->name), log_i64("task", (int64_t)task->id),
             log_str("cause", catch_up_cause_name(task->cause)), log_str("end", end),
             log_time("since", task->since_ms), log_time("until", task->until_ms),
             log_time("reached", task->reached_ms), log_i64("read", (int64_t)task->read),
             log_i64("accepted", (int64_t)task->counts[CATCH_UP_ACCEPTED]),
             log_i64("duplicate", (int64_t)task->counts[CATCH_UP_DUPLICATE]),
             log_i64("ignored", (int64_t)task->counts[CATCH_UP_IGNORED]),
             log_i64("malformed", (int64_t)task->counts[CATCH_UP_MALFORMED]),
             log_i64("incomplete", (int64_t)task->counts[CATCH_UP_WITHHELD]),
             log_i64("rate_limited", (int64_t)task->rate_limited));
}

void catch_up_log_begin(const struct catch_up_account *account, const struct catch_up_task *task)
{
    if (task->cause == CATCH_UP_SCHEDULED)
        log_debug("catch_up.started", log_str("account", account->name));
    else
        log_info("catch_up.started", log_str("account", account->name),
                 log_i64("task", (int64_t)task->id),
                 log_str("cause", catch_up_cause_name(task->cause)),
                 log_time("since", task->since_ms), log_time("until", task->until_ms),
                 log_time("reached", task->reached_ms),
                 log_str("dry_run", task->is_dry_run ? "true" : "false"));
}

void catch_up_log_progress(const struct catch_up_account *account, const struct catch_up_task *task)
{
    log_counts("catch_up.progress", account, task, "not yet");
}

static bool found_something(const struct catch_up_task *task)
{
    return task->counts[CATCH_UP_ACCEPTED] || task->counts[CATCH_UP_MALFORMED] ||
           task->counts[CATCH_UP_WITHHELD];
}

/* A scheduled run that found nothing is nothing of note. */
void catch_up_log_end(const struct catch_up_account *account, const struct catch_up_task *task)
{
    if (task->cause != CATCH_UP_SCHEDULED || found_something(task))
        log_counts("catch_up.finished", account, task, task->is_cancelled ? "cancelled" : "done");
}

/* ---- the answer to GET ---- */

void catch_up_append_moment(struct buf *json, int64_t ms)
{
    const struct instant instant = {
        .seconds = ms / 1000, .nanoseconds = (uint32_t)(ms % 1000) * 1000000, .fraction_digits = 3};
    char date[DATE_MAX];

    buf_append_char(json, '"');
    buf_append(json, date, date_format(&instant, date));
    buf_append_char(json, '"');
}

static void append_moment_of(struct buf *json, const char *name, int64_t ms, bool is_known)
{
    buf_printf(json, ",\"%s\":", name);
    if (is_known)
        catch_up_append_moment(json, ms);
    else
        buf_append_string(json, "null");
}

static void append_name(struct buf *json, const char *name, const char *value)
{
    buf_printf(json, ",\"%s\":", name);
    if (value && *value)
        buf_append_json_string(json, text_of(value));
    else
        buf_append_string(json, "null");
}

static const char *state_of(const struct catch_up_task *task)
{
    if (task->finished_ms)
        return task->is_cancelled ? "cancelled" : "done";
    if (task->error.kind != ERROR_NONE)
        return "held_back";
    return task->has_started ? "running" : "waiting";
}

void catch_up_append_task(const struct catch_up *self, const struct catch_up_task *task,
                          struct buf *json)
{
    int64_t eta_ms = task->finished_ms ? -1 : catch_up_task_eta_ms(task, catch_up_now_ms(self));

    buf_printf(json, "{\"id\":%" PRIu64 ",\"cause\":\"%s\",\"state\":\"%s\"", task->id,
               catch_up_cause_name(task->cause), state_of(task));
    append_moment_of(json, "since", task->since_ms, true);
    append_moment_of(json, "until", task->until_ms, task->until_ms > 0);
    append_moment_of(json, "reached", task->reached_ms, true);
    append_name(json, "object_type", task->object_type);
    append_name(json, "action", task->action);
    buf_printf(json, ",\"dry_run\":%s,\"read\":%" PRIu64, task->is_dry_run ? "true" : "false",
               task->read);
    for (int i = 0; i < CATCH_UP_RESULT_COUNT; i++)
        buf_printf(json, ",\"%s\":%" PRIu64, catch_up_result_name((enum catch_up_result)i),
                   task->counts[i]);
    buf_printf(json, ",\"rate_limited\":%" PRIu64, task->rate_limited);
    append_moment_of(json, "started", task->begun_ms, task->has_started);
    append_moment_of(json, "finished", task->finished_ms, task->finished_ms > 0);
    if (eta_ms >= 0)
        buf_printf(json, ",\"eta_seconds\":%" PRId64, eta_ms / 1000);
    else
        buf_append_string(json, ",\"eta_seconds\":null");
    append_name(json, "error", task->error.message);
    buf_printf(json, ",\"warnings\":[%s]}", task->warnings ? task->warnings : "");
}

static void append_tasks(const struct catch_up *self, const char *name,
                         const struct catch_up_task *first, const struct catch_up_task *tasks,
                         struct buf *json)
{
    buf_printf(json, ",\"%s\":[", name);
    if (first)
        catch_up_append_task(self, first, json);
    for (const struct catch_up_task *task = tasks; task; task = task->next) {
        if (first || task != tasks)
            buf_append_char(json, ',');
        catch_up_append_task(self, task, json);
    }
    buf_append_char(json, ']');
}

static const char *account_state(const struct catch_up *self,
                                 const struct catch_up_account *account)
{
    if (!catch_up_can_read(account))
        return "off";
    if (account->error.kind != ERROR_NONE)
        return "failing";
    if (account->retry_at_ms > catch_up_now_ms(self))
        return "rate_limited";
    if (account->current || account->run)
        return "running";
    return account->settings->catch_up.interval_ms > 0 ? "scheduled" : "manual";
}

static void append_account(const struct catch_up *self, const struct catch_up_account *account,
                           struct buf *json)
{
    bool is_scheduled = catch_up_can_read(account) && account->settings->catch_up.interval_ms > 0;

    buf_append_string(json, "{\"account\":");
    buf_append_json_string(json, text_of(account->name));
    buf_printf(json, ",\"state\":\"%s\"", account_state(self, account));
    append_moment_of(json, "point", account->point_ms, account->has_point);
    append_moment_of(json, "next_run",
                     clock_wall_ms(self->options.clock) + account->next_run_ms -
                         catch_up_now_ms(self),
                     is_scheduled && !account->run && account->next_run_ms > 0);
    append_name(json, "error", account->error.message);
    append_name(json, "waits_for", account->current ? self->waits_for : NULL);
    append_tasks(self, "tasks", account->run, account->tasks, json);
    append_tasks(self, "finished", NULL, account->finished, json);
    buf_append_char(json, '}');
}

void catch_up_show(struct catch_up *self, bool at_once)
{
    struct buf json = {0};
    struct buf outdated;

    if (!at_once && catch_up_now_ms(self) - self->shown_ms < SHOW_EVERY_MS)
        return;
    self->shown_ms = catch_up_now_ms(self);
    buf_append_string(&json, "{\"accounts\":[");
    for (const struct catch_up_account *account = self->accounts; account;
         account = account->next) {
        if (account != self->accounts)
            buf_append_char(&json, ',');
        append_account(self, account, &json);
    }
    buf_append_string(&json, "]}");
    pthread_mutex_lock(&self->lock);
    outdated = self->shown;
    self->shown = json;
    pthread_mutex_unlock(&self->lock);
    buf_release(&outdated);
}
