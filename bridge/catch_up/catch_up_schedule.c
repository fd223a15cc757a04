#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/config/config.h"
#include "bridge/runtime/metrics.h"

/* Close's clock is known from its Date header, which has whole seconds. */
enum { CLOCK_MS = 2000 };

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static const struct config_catch_up *settings_of(const struct catch_up_account *account)
{
    return &account->settings->catch_up;
}

static bool is_scheduled(const struct catch_up_account *account)
{
    return settings_of(account)->interval_ms > 0;
}

/* ---- the point ---- */

static void show_point(struct catch_up *self, struct catch_up_account *account)
{
    char labels[96] = "";

    if (!account->point) {
        metrics_label(labels, sizeof(labels), "account", account->name);
        account->point = metrics_get(
            self->options.metrics, METRIC_GAUGE, "catch_up_point_timestamp_seconds",
            "Up to where Close's Event Log has been read, in seconds since 1970.", labels);
    }
    metric_set(account->point, account->point_ms / 1000);
}

/* As far back as duplicates are recognised: for when it is not known what was read. */
static int64_t known_age_ms(const struct catch_up *self, const struct catch_up_account *account)
{
    return min_of(settings_of(account)->max_age_ms, self->config->journal.dedupe_window_ms);
}

static void set_point(struct catch_up *self, struct catch_up_account *account, int64_t age_ms)
{
    account->point_ms = catch_up_close_ms(self, account) - age_ms;
    account->covered_ms = account->point_ms;
    account->has_point = true;
}

/* Events that came before this process are nobody's business, until somebody asks for them; none
 * that came after it may be taken for one of them. */
static void begin_point(struct catch_up *self, struct catch_up_account *account)
{
    set_point(self, account,
              self->was_damaged ? known_age_ms(self, account)
                                : catch_up_now_ms(self) - account->seen_monotonic_ms + CLOCK_MS);
    log_info("catch_up.begins", log_str("account", account->name),
             log_time("from", account->point_ms),
             log_str("action", "for what happened before, run close-bridge catch-up --since TIME"));
    catch_up_save(self);
}

/* A clock at Close that was ahead once must not keep events from being read until it is that late
 * again. */
static void take_back_point(struct catch_up *self, struct catch_up_account *account)
{
    int64_t ahead_ms = account->point_ms - catch_up_close_ms(self, account);

    if (ahead_ms <= CLOCK_MS)
        return;
    log_error("catch_up.clock_was_ahead", log_str("account", account->name),
              log_i64("seconds", ahead_ms / 1000),
              log_str("action", "the clock of Close's answers goes back: the Event Log is read "
                                "again as far back as duplicates are recognised; look at what "
                                "stands between here and Close"));
    set_point(self, account, known_age_ms(self, account));
}

/* ---- scheduled runs ---- */

static int64_t oldest_of_interest(const struct catch_up *self,
                                  const struct catch_up_account *account)
{
    return catch_up_close_ms(self, account) - settings_of(account)->max_age_ms;
}

/* A time that no run will read any more: not to be passed over in silence. */
static void skip_what_is_too_old(const struct catch_up *self, struct catch_up_account *account)
{
    int64_t oldest_ms = oldest_of_interest(self, account);

    if (account->point_ms >= oldest_ms)
        return;
    log_error("catch_up.too_old", log_str("account", account->name),
              log_time("since", account->point_ms), log_time("until", oldest_ms),
              log_str("action", "what happened in this time and no webhook brought is older "
                                "than catch_up.max_age and is left out; Close "
                                "keeps 30 days: run close-bridge catch-up --since TIME for what "
                                "is left of it"));
    account->point_ms = oldest_ms;
}

static void begin_run(struct catch_up *self, struct catch_up_account *account)
{
    const struct config_catch_up *settings = settings_of(account);
    int64_t until_ms = catch_up_close_ms(self, account) - settings->settle_ms;
    struct catch_up_task *run;

    account->next_run_ms = catch_up_now_ms(self) + settings->interval_ms;
    take_back_point(self, account);
    skip_what_is_too_old(self, account);
    if (until_ms <= account->point_ms)
        return;
    run = alloc_zeroed(1, sizeof(*run));
    run->cause = CATCH_UP_SCHEDULED;
    run->until_ms = until_ms;
    run->since_ms = max_of(max_of(account->point_ms - settings->overlap_ms, account->covered_ms),
                           oldest_of_interest(self, account));
    run->reached_ms = run->since_ms;
    account->run = run;
}

/* ---- gaps ---- */

/*
 * Whatever the webhooks missed since the first run, scheduled runs find: they read the whole log.
 * One is made soon; what lies before the first has to be read for itself.
 */
void catch_up_take_gap(struct catch_up *self, struct catch_up_account *account, int64_t since_ms,
                       int64_t until_ms)
{
    int64_t final_ms;
    int64_t skew_ms;

    if (!account->has_point || !account->has_clock) {
        account->gap_since_ms =
            account->gap_since_ms ? min_of(account->gap_since_ms, since_ms) : since_ms;
        account->gap_until_ms = max_of(account->gap_until_ms, until_ms);
        return;
    }
    if (!account->settings || !is_scheduled(account))
        return;
    final_ms =
        until_ms + CLOCK_MS + settings_of(account)->settle_ms - clock_wall_ms(self->options.clock);
    account->next_run_ms =
        min_of(account->next_run_ms, catch_up_now_ms(self) + max_of(final_ms, 0));
    skew_ms = clock_wall_ms(self->options.clock) - catch_up_close_ms(self, account);
    since_ms = max_of(since_ms - skew_ms - settings_of(account)->overlap_ms,
                      oldest_of_interest(self, account));
    if (since_ms >= account->covered_ms)
        return;
    catch_up_task_widen(account, CATCH_UP_GAP, since_ms, account->covered_ms);
    account->covered_ms = since_ms;
    catch_up_save(self);
}

static void take_waiting_gap(struct catch_up *self, struct catch_up_account *account)
{
    int64_t since_ms = account->gap_since_ms;
    int64_t until_ms = account->gap_until_ms;

    if (!since_ms)
        return;
    account->gap_since_ms = account->gap_until_ms = 0;
    catch_up_take_gap(self, account, since_ms, until_ms);
}

/* ---- what comes next ---- */

/* Milliseconds until it may be read. */
static int64_t task_wait_ms(const struct catch_up *self, const struct catch_up_task *task)
{
    return max_of(task->retry_at_ms - catch_up_now_ms(self), 0);
}

static struct catch_up_task *first_ready(const struct catch_up *self,
                                         const struct catch_up_account *account)
{
    struct catch_up_task *task = account->tasks;

    while (task && (task->is_cancelled || task_wait_ms(self, task) > 0))
        task = task->next;
    return task;
}

/* Scheduled runs come first: they are short, and new events matter more than old ones. */
void catch_up_choose(struct catch_up *self, struct catch_up_account *account)
{
    account->current = NULL;
    if (is_scheduled(account)) {
        if (!account->has_point)
            begin_point(self, account);
        take_waiting_gap(self, account);
        if (!account->run && account->next_run_ms <= catch_up_now_ms(self))
            begin_run(self, account);
        show_point(self, account);
        account->current = account->run;
    }
    if (!account->current)
        account->current = first_ready(self, account);
    if (account->current && account->current->until_ms == 0)
        account->current->until_ms =
            max_of(catch_up_close_ms(self, account), account->current->since_ms + 1);
}

int64_t catch_up_wait_ms(const struct catch_up *self, const struct catch_up_account *account)
{
    int64_t wait_ms = -1;

    if (account->reading || account->run)
        return 0;
    if (is_scheduled(account))
        wait_ms = max_of(account->next_run_ms - catch_up_now_ms(self), 0);
    for (const struct catch_up_task *task = account->tasks; task; task = task->next) {
        int64_t own_ms = task_wait_ms(self, task);

        if (!task->is_cancelled && (wait_ms < 0 || own_ms < wait_ms))
            wait_ms = own_ms;
    }
    return wait_ms;
}

/* ---- what was done ---- */

static void finish(struct catch_up *self, struct catch_up_account *account,
                   struct catch_up_task *task)
{
    task->finished_ms = clock_wall_ms(self->options.clock);
    catch_up_log_end(account, task);
    catch_up_task_finish(account, task);
}

void catch_up_advance(struct catch_up *self, struct catch_up_account *account,
                      struct log_window window)
{
    struct catch_up_task *task = account->current;
    bool is_dry_run;

    catch_up_task_reach(task, window);
    if (task->cause == CATCH_UP_SCHEDULED && task->reached_ms > account->point_ms) {
        account->point_ms = task->reached_ms;
        show_point(self, account);
    }
    is_dry_run = task->is_dry_run;
    if (task->reached_ms >= task->until_ms)
        finish(self, account, task);
    if (!is_dry_run)
        catch_up_save(self);
}

void catch_up_drop(struct catch_up *self, struct catch_up_account *account,
                   struct catch_up_task *task)
{
    finish(self, account, task);
    catch_up_save(self);
}
