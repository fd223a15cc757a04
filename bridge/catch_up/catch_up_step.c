#include <stdatomic.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/close/event_log.h"

enum {
    FIRST_RETRY_MS = 500,
    LAST_RETRY_MS = 60 * 1000,
    CONFIG_RETRY_MS = 5 * 60 * 1000, /* after what an operator has to put right */
    LOG_NEW_MS = 5 * 1000,
    LOG_AGAIN_MS = 60 * 1000,
    REPORT_MS = 30 * 1000,
    MAX_EXPIRATIONS = 3,
};

/* ---- what goes wrong ---- */

/* One that stays, or takes turns with successes, is said every so often. */
static void log_failure(struct catch_up *self, struct catch_up_account *account,
                        const struct error *err)
{
    int64_t now_ms = catch_up_now_ms(self);
    bool is_new = strcmp(account->error.message, err->message) != 0;

    if (account->logged_error_ms &&
        now_ms - account->logged_error_ms < (is_new ? LOG_NEW_MS : LOG_AGAIN_MS))
        return;
    account->logged_error_ms = now_ms;
    if (err->kind == ERROR_TRANSIENT)
        log_warn("catch_up.waits", log_str("account", account->name),
                 log_str("error", err->message));
    else
        log_error("catch_up.failed", log_str("account", account->name),
                  log_str("error", err->message));
}

static int64_t pause_after(const struct catch_up_account *account, const struct error *err)
{
    int64_t pause_ms = FIRST_RETRY_MS;

    if (err->kind != ERROR_TRANSIENT)
        return CONFIG_RETRY_MS;
    for (unsigned i = 1; i < account->failures && pause_ms < LAST_RETRY_MS; i++)
        pause_ms *= 2;
    return pause_ms < LAST_RETRY_MS ? pause_ms : LAST_RETRY_MS;
}

/* Close asks for a pause: that is no failure. */
static bool note_rate_limit(struct catch_up *self, struct catch_up_account *account)
{
    int64_t now_ms = catch_up_now_ms(self);

    if (account->access.not_before_ms <= now_ms)
        return false;
    account->retry_at_ms = account->access.not_before_ms;
    if (account->current)
        account->current->rate_limited++;
    if (now_ms - account->logged_limit_ms >= REPORT_MS || !account->logged_limit_ms) {
        account->logged_limit_ms = now_ms;
        log_info("catch_up.rate_limited", log_str("account", account->name),
                 log_i64("pause_ms", account->retry_at_ms - now_ms));
    }
    return true;
}

static void note_failure(struct catch_up *self, struct catch_up_account *account,
                         const struct error *err)
{
    if (atomic_load(&self->is_stopping) ||
        (err->kind == ERROR_TRANSIENT && note_rate_limit(self, account)))
        return;
    account->failures++;
    log_failure(self, account, err);
    account->error = *err;
    account->retry_at_ms = catch_up_now_ms(self) + pause_after(account, err);
}

/* Kept by the monotonic clock: this machine's own may be set while Close is not asked. */
static void read_clock(struct catch_up *self, struct catch_up_account *account)
{
    int64_t skew_ms = 0;

    close_api_clock_skew_ms(self->api, &skew_ms);
    account->clock_ms = clock_wall_ms(self->options.clock) - skew_ms - catch_up_now_ms(self);
    account->has_clock = true;
}

static void note_success(struct catch_up *self, struct catch_up_account *account)
{
    read_clock(self, account);
    if (account->failures > 0)
        log_info("catch_up.goes_on", log_str("account", account->name));
    account->failures = 0;
    account->error = (struct error){0};
}

/* ---- one step of one account ---- */

/* The first answer tells Close's clock; without it no time can be named. */
static void probe(struct catch_up *self, struct catch_up_account *account)
{
    struct error err = {0};

    if (event_log_probe(self->api, &account->access, &err) < 0)
        note_failure(self, account, &err);
    else
        note_success(self, account);
}

static void end_reading(struct catch_up_account *account)
{
    event_log_end(account->reading);
    account->reading = NULL;
}

/* After a restart; at first, who asked was told. */
static void warn_again(const struct catch_up *self, const struct catch_up_account *account,
                       struct catch_up_task *task)
{
    struct buf warnings = {0};

    if (task->warnings || task->cause != CATCH_UP_REQUESTED)
        return;
    catch_up_warn(self, task, account->name, false, &warnings);
    task->warnings = alloc_string(buf_text(&warnings).data);
    buf_release(&warnings);
}

static void begin_reading(struct catch_up *self, struct catch_up_account *account)
{
    struct catch_up_task *task = account->current;

    if (!task->has_started) {
        task->has_started = true;
        task->begun_ms = clock_wall_ms(self->options.clock);
        task->begun_monotonic_ms = catch_up_now_ms(self);
        task->begun_at_ms = task->reached_ms;
        task->next_report_ms = task->begun_monotonic_ms + REPORT_MS;
        catch_up_log_begin(account, task);
        warn_again(self, account, task);
    }
    account->reading = event_log_begin(catch_up_next_window(account, task));
}

static void report(struct catch_up *self, const struct catch_up_account *account,
                   struct catch_up_task *task)
{
    if (catch_up_now_ms(self) < task->next_report_ms)
        return;
    task->next_report_ms = catch_up_now_ms(self) + REPORT_MS;
    catch_up_log_progress(account, task);
}

/* Events that were not to be seen: this stretch is tried again later. */
static void hold_back(struct catch_up *self, struct catch_up_task *task, const struct error *err)
{
    task->error = *err;
    task->retry_at_ms = catch_up_now_ms(self) + INT64_C(3600) * 1000;
}

static void take_window(struct catch_up *self, struct catch_up_account *account)
{
    struct log_window window = event_log_window(account->reading);
    struct catch_up_task *task = account->current;
    struct error err = {0};
    size_t count;

    event_log_entries(account->reading, &count);
    switch (catch_up_deliver(self, account, &err)) {
    case CATCH_UP_DELIVERED:
        end_reading(account);
        account->expirations = 0;
        catch_up_fit_step(account, window, count);
        report(self, account, task);
        task->error = (struct error){0};
        catch_up_advance(self, account, window);
        break;
    case CATCH_UP_HELD_BACK:
        end_reading(account);
        hold_back(self, task, &err);
        log_failure(self, account, &err);
        account->error = err;
        account->current = NULL;
        break;
    case CATCH_UP_INTERRUPTED:
        end_reading(account);
        break;
    case CATCH_UP_NOT_DELIVERED:
        end_reading(account);
        note_failure(self, account, &err);
        break;
    }
}

static void keep_stops(struct catch_up_account *account)
{
    size_t count;
    const int64_t *stops = event_log_stops(account->reading, &count);

    catch_up_add_stops(account->current, stops, count);
}

/* What was found out stays; a cursor that lives for less time than it takes to read the window
 * makes the window shorter. */
static void begin_again(struct catch_up *self, struct catch_up_account *account)
{
    struct log_window window = event_log_window(account->reading);
    int64_t middle_ms = window.since_ms + (window.until_ms - window.since_ms) / 2;
    struct error err;

    account->expirations++;
    log_info("catch_up.cursor_expired", log_str("account", account->name),
             log_i64("times", account->expirations));
    keep_stops(account);
    end_reading(account);
    if (account->expirations < MAX_EXPIRATIONS)
        return;
    account->expirations = 0;
    catch_up_add_stops(account->current, &middle_ms, 1);
    error_set(&err, ERROR_TRANSIENT,
              "the cursors of Close's Event Log expire before a window is read; it is read in "
              "smaller ones");
    note_failure(self, account, &err);
}

static void read_page(struct catch_up *self, struct catch_up_account *account)
{
    struct error err = {0};

    switch (event_log_next(account->reading, self->api, &account->access, &err)) {
    case LOG_HAS_MORE:
        note_success(self, account);
        break;
    case LOG_COMPLETE:
        note_success(self, account);
        keep_stops(account);
        take_window(self, account);
        break;
    case LOG_EXPIRED:
        begin_again(self, account);
        break;
    case LOG_FAILED:
        note_failure(self, account, &err);
        break;
    }
}

static void drop_cancelled(struct catch_up *self, struct catch_up_account *account)
{
    struct catch_up_task *task = account->tasks;

    while (task) {
        struct catch_up_task *next = task->next;

        if (task->is_cancelled) {
            if (task == account->current)
                end_reading(account);
            catch_up_drop(self, account, task);
        }
        task = next;
    }
}

bool catch_up_step(struct catch_up *self, struct catch_up_account *account)
{
    drop_cancelled(self, account);
    if (!catch_up_can_read(account)) {
        end_reading(account);
        account->current = NULL;
        return false;
    }
    if (account->retry_at_ms > catch_up_now_ms(self) || catch_up_wait_ms(self, account) != 0 ||
        note_rate_limit(self, account))
        return false;
    if (!account->has_clock) {
        probe(self, account);
        return true;
    }
    if (!account->reading) {
        catch_up_choose(self, account);
        if (!account->current)
            return true;
        begin_reading(self, account);
    }
    read_page(self, account);
    return true;
}
