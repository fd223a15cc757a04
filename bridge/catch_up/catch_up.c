#include "bridge/catch_up/catch_up.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/catch_up/catch_up_store.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event_parser.h"

enum {
    MAX_ANSWER = 64 * 1024 * 1024, /* a page of mails; a larger one is asked for in parts */
    CALL_MS = 35 * 1000,
    FIRST_RETRY_MS = 500,
    LAST_RETRY_MS = 60 * 1000,
    CONFIG_RETRY_MS = 5 * 60 * 1000, /* after what an operator has to put right */
    LOG_NEW_MS = 5 * 1000,
    LOG_AGAIN_MS = 60 * 1000,
    SAVE_AGAIN_MS = 1000,
    REPORT_MS = 30 * 1000,
    MAX_EXPIRATIONS = 3,
    IDLE_MS = 60 * 1000,
};

int64_t catch_up_now_ms(const struct catch_up *self)
{
    return clock_monotonic_ms(self->options.clock);
}

int64_t catch_up_close_ms(const struct catch_up *self, const struct catch_up_account *account)
{
    return catch_up_now_ms(self) + account->clock_ms;
}

bool catch_up_can_read(const struct catch_up_account *account)
{
    return account->settings && (account->access.api_key || account->access.oauth_token);
}

struct catch_up_account *catch_up_find(const struct catch_up *self, const char *name)
{
    struct catch_up_account *account = self->accounts;

    while (account && strcmp(account->name, name) != 0)
        account = account->next;
    return account;
}

void catch_up_save(struct catch_up *self)
{
    struct error err = {0};

    if (catch_up_store_save(self->store, self->accounts, &err) == 0) {
        if (self->next_save_ms)
            log_info("catch_up.saved_again", log_str("was", "not to be written"));
        self->is_unsaved = false;
        self->next_save_ms = 0;
        return;
    }
    if (!self->next_save_ms)
        log_error("catch_up.not_saved", log_str("error", err.message),
                  log_str("action", "after a restart some events are read again; the journal knows "
                                    "them"));
    self->is_unsaved = true;
    self->next_save_ms = catch_up_now_ms(self) + SAVE_AGAIN_MS;
}

/* ---- the configuration ---- */

static void find_series(struct catch_up *self, struct catch_up_account *account)
{
    struct metrics *metrics = self->options.metrics;

    for (int i = 0; i < CATCH_UP_RESULT_COUNT; i++) {
        char labels[160] = "";

        metrics_label(labels, sizeof(labels), "account", account->name);
        metrics_label(labels, sizeof(labels), "result",
                      catch_up_result_name((enum catch_up_result)i));
        account->events[i] = metrics_get(metrics, METRIC_COUNTER, "catch_up_events_total",
                                         "Events read from Close's Event Log, by what became of "
                                         "them.",
                                         labels);
    }
}

static struct catch_up_account *find_or_make(struct catch_up *self, const char *name)
{
    struct catch_up_account **slot = &self->accounts;

    while (*slot && strcmp((*slot)->name, name) != 0)
        slot = &(*slot)->next;
    if (!*slot)
        *slot = catch_up_account_new(name);
    return *slot;
}

/* What somebody had to put right may have been. */
static void try_again(struct catch_up_account *account)
{
    account->retry_at_ms = 0;
    account->failures = 0;
    account->next_run_ms = 0;
    for (struct catch_up_task *task = account->tasks; task; task = task->next)
        task->retry_at_ms = 0;
}

/* Lets every account see its settings. Those that are gone keep their points. */
static void apply(struct catch_up *self, const struct config *config)
{
    for (struct catch_up_account *account = self->accounts; account; account = account->next) {
        account->settings = NULL;
        account->access = (struct close_access){0};
    }
    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *settings = &config->accounts[i];
        struct catch_up_account *account = find_or_make(self, settings->name);

        account->settings = settings;
        account->access = (struct close_access){.url = settings->api_url,
                                                .api_key = settings->api_key,
                                                .oauth_token = settings->oauth_token};
        if (!account->seen_monotonic_ms)
            account->seen_monotonic_ms = catch_up_now_ms(self);
        if (catch_up_can_read(account) && !account->events[0])
            find_series(self, account);
        try_again(account);
    }
}

static void adopt(struct catch_up *self)
{
    const struct config *config;
    struct router *router;

    pthread_mutex_lock(&self->lock);
    config = self->next_config;
    router = self->next_router;
    self->next_config = NULL;
    self->next_router = NULL;
    pthread_mutex_unlock(&self->lock);
    if (!config)
        return;
    apply(self, config);
    router_free(self->router);
    config_free(self->config);
    self->router = router;
    self->config = config;
}

int catch_up_reconfigure(struct catch_up *self, const struct config *config, struct error *err)
{
    struct router *router;
    struct router *outdated_router;
    const struct config *outdated;

    if (!self->options.journal)
        return 0;
    router = router_new(config, err);
    if (!router)
        return -1;
    pthread_mutex_lock(&self->lock);
    outdated = self->next_config;
    outdated_router = self->next_router;
    self->next_config = config_ref(config);
    self->next_router = router;
    pthread_mutex_unlock(&self->lock);
    router_free(outdated_router);
    config_free(outdated);
    wakeup_signal(&self->wakeup);
    return 0;
}

/* ---- opening and closing ---- */

static int open_parts(struct catch_up *self, struct error *err)
{
    const struct config *config = self->options.config;

    self->config = config_ref(config);
    self->intake = journal_intake(self->options.journal);
    self->dead_letters = saver_dead_letters(self->options.metrics, "webhook");
    self->router = router_new(config, err);
    self->parser = self->router ? event_parser_new(err) : NULL;
    self->api = self->parser
                    ? close_api_new(&(struct close_api_options){.clock = self->options.clock,
                                                                .metrics = self->options.metrics,
                                                                .call_timeout_ms = CALL_MS,
                                                                .max_attempts = 1,
                                                                .max_body = MAX_ANSWER},
                                    err)
                    : NULL;
    self->store = self->api ? catch_up_store_open(config->journal.path, err) : NULL;
    if (!self->store || catch_up_store_load(self->store, clock_wall_ms(self->options.clock),
                                            &self->accounts, &self->was_damaged, err) < 0)
        return -1;
    apply(self, config);
    return 0;
}

struct catch_up *catch_up_open(const struct catch_up_options *options, struct error *err)
{
    struct catch_up *self = alloc_zeroed(1, sizeof(*self));

    self->options = *options;
    self->wakeup.fd = -1;
    pthread_mutex_init(&self->lock, NULL);
    control_inbox_init(&self->inbox, &self->wakeup);
    if (!options->journal)
        return self;
    if (wakeup_init(&self->wakeup, err) == 0) {
        mailbox_init(&self->gaps, &self->wakeup);
        if (open_parts(self, err) == 0) {
            catch_up_show(self, true);
            return self;
        }
    }
    catch_up_free(self);
    return NULL;
}

static void free_gaps(struct catch_up *self)
{
    struct mailbox_node *node = self->wakeup.fd >= 0 ? mailbox_take(&self->gaps) : NULL;

    while (node) {
        struct catch_up_gap *gap = container_of(node, struct catch_up_gap, node);

        node = node->next;
        free(gap);
    }
}

void catch_up_free(struct catch_up *self)
{
    if (!self)
        return;
    free_gaps(self);
    while (self->accounts) {
        struct catch_up_account *account = self->accounts;

        self->accounts = account->next;
        catch_up_account_free(account);
    }
    router_free(self->router);
    router_free(self->next_router);
    config_free(self->config);
    config_free(self->next_config);
    event_parser_free(self->parser);
    close_api_free(self->api);
    catch_up_store_close(self->store);
    wakeup_release(&self->wakeup);
    buf_release(&self->shown);
    control_inbox_release(&self->inbox);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

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

/* A page, or what has to come before it. False: there is nothing to do. */
static bool step(struct catch_up *self, struct catch_up_account *account)
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

/* ---- the thread ---- */

static int time_to_next(const struct catch_up *self)
{
    int64_t now_ms = catch_up_now_ms(self);
    int64_t wait_ms = IDLE_MS;

    for (const struct catch_up_account *account = self->accounts; account;
         account = account->next) {
        int64_t own_ms = catch_up_can_read(account) ? catch_up_wait_ms(self, account) : -1;

        if (own_ms < 0)
            continue;
        if (account->retry_at_ms - now_ms > own_ms)
            own_ms = account->retry_at_ms - now_ms;
        if (own_ms < wait_ms)
            wait_ms = own_ms;
    }
    if (self->is_unsaved && self->next_save_ms - now_ms < wait_ms)
        wait_ms = self->next_save_ms - now_ms;
    return wait_ms > 0 ? (int)wait_ms : 0;
}

static void *run(void *argument)
{
    struct catch_up *self = argument;

    while (!atomic_load(&self->is_stopping)) {
        bool is_busy = false;

        wakeup_clear(&self->wakeup);
        adopt(self);
        catch_up_serve(self);
        for (struct catch_up_account *account = self->accounts;
             account && !atomic_load(&self->is_stopping); account = account->next)
            is_busy = step(self, account) || is_busy;
        if (self->is_unsaved && catch_up_now_ms(self) >= self->next_save_ms)
            catch_up_save(self);
        catch_up_show(self, !is_busy);
        if (!is_busy && !atomic_load(&self->is_stopping))
            wakeup_wait(&self->wakeup, time_to_next(self));
    }
    catch_up_close_requests(self);
    return NULL;
}

int catch_up_start(struct catch_up *self, struct error *err)
{
    if (!self->options.journal)
        return 0;
    if (thread_start(&self->thread, "catch-up", run, self, err) < 0)
        return -1;
    self->has_thread = true;
    return 0;
}

void catch_up_stop(struct catch_up *self)
{
    if (!self || !self->options.journal)
        return;
    atomic_store(&self->is_stopping, true);
    close_api_interrupt(self->api);
    wakeup_signal(&self->wakeup);
    if (self->has_thread)
        pthread_join(self->thread, NULL);
    else
        catch_up_close_requests(self);
    self->has_thread = false;
}

void catch_up_note_gap(struct catch_up *self, const char *account, int64_t since_ms,
                       int64_t until_ms)
{
    size_t size = strlen(account) + 1;
    struct catch_up_gap *gap;

    if (!self->options.journal)
        return;
    gap = alloc_zeroed(1, sizeof(*gap) + size);
    gap->since_ms = since_ms;
    gap->until_ms = until_ms;
    memcpy(gap->account, account, size);
    mailbox_push(&self->gaps, &gap->node);
}
