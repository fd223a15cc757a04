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
    SAVE_AGAIN_MS = 1000,
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

/* Lets every account see its settings. Those that are gone keep their points, and a pause that
 * Close asked for outlasts a reload. */
static void apply(struct catch_up *self, const struct config *config)
{
    for (struct catch_up_account *account = self->accounts; account; account = account->next) {
        account->settings = NULL;
        account->access = (struct close_access){.not_before_ms = account->access.not_before_ms};
    }
    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *settings = &config->accounts[i];
        struct catch_up_account *account = find_or_make(self, settings->name);

        account->settings = settings;
        account->access = (struct close_access){.url = settings->api_url,
                                                .api_key = settings->api_key,
                                                .oauth_token = settings->oauth_token,
                                                .not_before_ms = account->access.not_before_ms};
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
            is_busy = catch_up_step(self, account) || is_busy;
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
