#include "bridge/subscriptions/subscription_sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_webhooks.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscription_sync_internal.h"

enum { MAX_STEPS = 30 };

static const int64_t day_ms = INT64_C(24) * 3600 * 1000;
/* Deliveries of a subscription that went may still be on their way (CLOSE.md section 4). */
static const int64_t retired_keys_ms = INT64_C(72) * 3600 * 1000;

void sync_memory_release(struct sync_memory *memory)
{
    subscription_view_release(&memory->view);
    subscribed_pairs_release(&memory->refused);
    *memory = (struct sync_memory){0};
}

void sync_report_release(struct sync_report *report)
{
    free(report->account);
    free(report->subscription_id);
    subscribed_pairs_release(&report->before);
    subscribed_pairs_release(&report->after);
    subscribed_pairs_release(&report->refused);
    buf_release(&report->changes);
    buf_release(&report->steps);
    *report = (struct sync_report){0};
}

/* ---- keys ---- */

int sync_use_keys(const struct sync_tools *tools, const char *account, struct error *err)
{
    const struct stored_account *record = key_store_find(tools->store, account);
    size_t count = record ? record->key_count : 0;
    unsigned char(*keys)[SIGNATURE_KEY_SIZE];
    int rc;

    if (!tools->use_keys)
        return 0;
    keys = alloc_zeroed(count + 1, sizeof(*keys));
    for (size_t i = 0; i < count; i++)
        memcpy(keys[i], record->keys[i].key, SIGNATURE_KEY_SIZE);
    rc = tools->use_keys(tools->use_keys_context, account,
                         (const unsigned char(*)[SIGNATURE_KEY_SIZE])keys, count, err);
    OPENSSL_cleanse(keys, (count + 1) * sizeof(*keys));
    free(keys);
    return rc;
}

static int store_record(const struct sync_tools *tools, const struct stored_account *record,
                        struct error *err)
{
    if (key_store_put(tools->store, record, err) < 0)
        return -1;
    return sync_use_keys(tools, record->account, err);
}

int sync_store(struct sync_run *run, struct error *err)
{
    return store_record(run->tools, &run->view.stored, err);
}

/* ---- looking ---- */

/* A name for what somebody else did to our subscription since the last look, "" for nothing. */
static void find_disturbance(const struct sync_memory *memory, const struct subscription_view *view,
                             char *out, size_t capacity)
{
    const struct close_subscription *before =
        memory->is_certain ? subscription_view_own(&memory->view) : NULL;
    const struct close_subscription *now =
        before ? close_subscriptions_find(&view->listed, before->id) : NULL;

    *out = '\0';
    if (before && !now)
        snprintf(out, capacity, "%.60s was deleted", before->id);
    else if (before &&
             (!pair_list_equal(&before->pairs, &now->pairs, true) ||
              strcmp(before->url, now->url) != 0 || before->verify_ssl != now->verify_ssl))
        snprintf(out, capacity, "%.60s was changed", before->id);
    for (size_t i = 0; memory->is_certain && !*out && i < view->listed.count; i++) {
        const struct close_subscription *other = &view->listed.items[i];

        if (subscription_view_concerns(view, other) && !view->has_configured_keys &&
            !stored_account_key(&view->stored, other->id) &&
            !close_subscriptions_find(&memory->view.listed, other->id))
            snprintf(out, capacity, "%.60s was made for the same URL", other->id);
    }
}

static void note_disturbance(struct sync_run *run)
{
    struct sync_memory *memory = run->memory;
    char found[sizeof(memory->disturbance)];

    find_disturbance(memory, &run->view, found, sizeof(found));
    if (!found[0])
        return;
    memcpy(memory->disturbance, found, sizeof(found));
    log_warn("subscription.disturbed", log_str("account", run->account->name),
             log_str("what", found),
             log_str("action", "find out who works on the subscription of this bridge: a second "
                               "bridge needs a webhook_url of its own"));
    memmove(&memory->disturbed_ms[0], &memory->disturbed_ms[1],
            (DISTURBANCES_KEPT - 1) * sizeof(memory->disturbed_ms[0]));
    memory->disturbed_ms[DISTURBANCES_KEPT - 1] = clock_monotonic_ms(run->tools->clock) + 1;
}

/* What is wanted, without the pairs that Close refused lately. */
static void set_wanted(struct sync_run *run)
{
    const struct close_subscription *own = subscription_view_own(&run->view);
    struct sync_memory *memory = run->memory;
    bool is_recent = clock_monotonic_ms(run->tools->clock) - memory->refused_ms < day_ms;

    pair_list_copy(&run->view.wanted, &run->account->wanted);
    for (size_t i = 0; is_recent && !run->view.is_explicit && i < memory->refused.count; i++) {
        const struct subscribed_pair *refused = &memory->refused.pairs[i];
        const struct subscribed_pair *wanted = pair_list_find(&run->view.wanted, refused);
        const struct subscribed_pair *kept = own ? pair_list_find(&own->pairs, refused) : NULL;

        if (!wanted || !pair_has_filter_of(wanted, refused))
            continue; /* the topic map has changed */
        pair_list_put(&run->report->refused, refused);
        if (kept)
            pair_list_put(&run->view.wanted, kept);
        else
            pair_list_remove(&run->view.wanted, refused);
    }
}

int sync_list(struct sync_run *run, struct error *err)
{
    struct close_subscriptions listed;

    if (close_webhooks_list(run->tools->api, &run->account->access, &listed, err) < 0)
        return -1;
    close_subscriptions_release(&run->view.listed);
    run->view.listed = listed;
    run->has_listed = true;
    run->memory->seen_ms = clock_wall_ms(run->tools->clock);
    return 0;
}

void sync_begin(struct sync_run *run, const struct sync_tools *tools,
                struct account_settings *account, struct sync_memory *memory,
                struct sync_report *report)
{
    *run = (struct sync_run){.tools = tools,
                             .account = account,
                             .memory = memory,
                             .report = report,
                             .seen_before_ms = memory->seen_ms};
    run->view = (struct subscription_view){
        .verify_ssl = account->verify_ssl,
        .has_configured_keys = account->has_configured_keys,
        .stored = stored_account_copy(key_store_find(tools->store, account->name), account->name),
    };
    run->view.webhook_url = account->webhook_url ? alloc_string(account->webhook_url) : NULL;
}

void sync_end(struct sync_run *run, bool is_certain)
{
    if (run->has_listed && !run->is_dry_run) {
        subscription_view_release(&run->memory->view);
        run->memory->view = run->view;
        run->memory->has_view = true;
        run->memory->is_certain = is_certain;
        run->view = (struct subscription_view){0};
    }
    subscription_view_release(&run->view);
}

static int look(struct sync_run *run, struct error *err)
{
    if (!account_can_sync(run->account))
        return error_set(err, ERROR_CONFIG,
                         "sync is off for the account %s: it needs webhook_url, and api_key or "
                         "oauth_token",
                         run->account->name);
    if (sync_list(run, err) < 0)
        return -1;
    if (!run->is_dry_run)
        note_disturbance(run);
    set_wanted(run);
    return 0;
}

int sync_look(const struct sync_tools *tools, struct account_settings *account,
              struct sync_memory *memory, struct error *err)
{
    struct sync_report unread = {0};
    struct sync_run run;
    int rc;

    sync_begin(&run, tools, account, memory, &unread);
    rc = look(&run, err);
    sync_end(&run, true);
    sync_report_release(&unread);
    return rc;
}

/* ---- the sync ---- */

static void append_sentence(struct buf *list, struct buf *sentence)
{
    if (list->size > 0)
        buf_append_char(list, ',');
    buf_append_json_string(list, buf_text(sentence));
    buf_release(sentence);
}

void sync_report_step(struct sync_run *run, const struct step *step)
{
    struct sync_report *report = run->report;
    struct buf words = {0};

    subscription_step_describe(&run->view, step, &words);
    append_sentence(&report->steps, &words);
    if (step->kind == STEP_CREATE)
        report->result = run->had_subscription ? SYNC_RECREATED : SYNC_CREATED;
    else if (step->activates && report->result <= SYNC_UPDATED)
        report->result = SYNC_REACTIVATED;
    else if ((step->kind == STEP_UPDATE || step->kind == STEP_DELETE) &&
             report->result == SYNC_UNCHANGED)
        report->result = SYNC_UPDATED;
}

/* Two that each put things right as they see them would go on for ever. */
static int refuse_to_fight(const struct sync_run *run, struct error *err)
{
    const struct sync_memory *memory = run->memory;
    int64_t now_ms = clock_monotonic_ms(run->tools->clock);

    if (run->view.is_explicit || memory->disturbed_ms[0] == 0 ||
        now_ms - memory->disturbed_ms[0] > day_ms)
        return 0;
    return error_set(err, ERROR_CONFIG,
                     "somebody else keeps changing the subscription for %.100s (%s), perhaps "
                     "another bridge: it is left alone until close-bridge sync; every bridge needs "
                     "a webhook_url of its own",
                     run->view.webhook_url, memory->disturbance);
}

/* What a dry run does is to ask, and else to assume. */
static int take_or_assume(struct sync_run *run, const struct step *step, struct error *err)
{
    if (step->kind != STEP_ASK_KEY && refuse_to_fight(run, err) < 0)
        return -1;
    if (!run->is_dry_run || step->kind == STEP_ASK_KEY)
        return sync_take_step(run, step, err);
    subscription_view_assume(&run->view, step);
    return 0;
}

static int take_steps(struct sync_run *run, struct error *err)
{
    enum step_kind before = STEP_NONE;

    for (int i = 0; i < MAX_STEPS; i++) {
        struct step step = subscription_plan_next(&run->view);

        if (step.kind == STEP_NONE)
            return 0;
        if (step.kind == STEP_UPDATE && before == STEP_UPDATE)
            break;
        sync_report_step(run, &step);
        if (take_or_assume(run, &step, err) < 0)
            return -1;
        before = run->was_duplicate ? STEP_NONE : step.kind;
        run->was_duplicate = false;
    }
    return error_set(err, ERROR_INPUT,
                     "Close does not keep what is written to it: compare GET "
                     "/control/subscriptions with the topic map");
}

static int store_outcome(struct sync_run *run, struct error *err)
{
    const struct close_subscription *own = subscription_view_own(&run->view);
    struct stored_account *stored = &run->view.stored;
    size_t key_count = stored->key_count;
    bool is_other =
        own && (!stored->subscription_id || strcmp(stored->subscription_id, own->id) != 0 ||
                !stored->webhook_url || strcmp(stored->webhook_url, own->url) != 0);

    stored_account_drop_retired(stored, clock_wall_ms(run->tools->clock) - retired_keys_ms);
    if (is_other)
        stored_account_set_subscription(stored, own->id, own->url);
    if (!is_other && !run->was_unsubscribed && stored->key_count == key_count)
        return 0;
    return sync_store(run, err);
}

static void append_change(struct buf *changes, const char *what, const char *from, const char *to)
{
    struct buf sentence = {0};

    if (strcmp(from, to) == 0)
        return;
    buf_printf(&sentence, "%s: %s, now %s", what, from, to);
    append_sentence(changes, &sentence);
}

static void append_filter_changes(struct buf *changes, const struct subscribed_pairs *before,
                                  const struct subscribed_pairs *after)
{
    for (size_t i = 0; i < after->count; i++) {
        const struct subscribed_pair *pair = &after->pairs[i];
        const struct subscribed_pair *former = pair_list_find(before, pair);
        struct buf sentence = {0};

        if (!former || pair_has_filter_of(former, pair))
            continue;
        buf_printf(&sentence, "extra_filter of %s %s: %s", pair->object_type, pair->action,
                   !pair->extra_filter    ? "none any more"
                   : former->extra_filter ? "another"
                                          : "one now");
        append_sentence(changes, &sentence);
    }
}

/* What was the account's subscription when the sync began, for the difference. */
struct former {
    char *url; /* NULL: there was none */
    bool is_active;
    bool verify_ssl;
};

static struct former remember_former(const struct sync_run *run)
{
    const struct close_subscription *own = subscription_view_own(&run->view);

    if (!own)
        return (struct former){0};
    pair_list_copy(&run->report->before, &own->pairs);
    return (struct former){alloc_string(own->url), own->is_active, own->verify_ssl};
}

static void report_difference(struct sync_run *run, const struct former *former)
{
    const struct close_subscription *own = subscription_view_own(&run->view);
    struct sync_report *report = run->report;

    if (!own)
        return;
    report->subscription_id = alloc_string(own->id);
    pair_list_copy(&report->after, &own->pairs);
    if (!former->url)
        return;
    append_filter_changes(&report->changes, &report->before, &report->after);
    append_change(&report->changes, "url", former->url, own->url);
    append_change(&report->changes, "verify_ssl", former->verify_ssl ? "true" : "false",
                  own->verify_ssl ? "true" : "false");
    append_change(&report->changes, "status", former->is_active ? "active" : "paused",
                  own->is_active ? "active" : "paused");
}

static int run_steps(struct sync_run *run, struct error *err)
{
    struct former former;
    int rc;

    if (look(run, err) < 0)
        return -1;
    run->had_subscription = run->view.stored.subscription_id || subscription_view_own(&run->view);
    former = remember_former(run);
    rc = take_steps(run, err);
    if (rc == 0 && !run->is_dry_run)
        rc = store_outcome(run, err);
    report_difference(run, &former);
    free(former.url);
    return rc;
}

static void remember_refused(const struct sync_run *run)
{
    pair_list_copy(&run->memory->refused, &run->report->refused);
    if (run->has_searched)
        run->memory->refused_ms = clock_monotonic_ms(run->tools->clock);
}

static void sync(const struct sync_tools *tools, struct account_settings *account,
                 struct sync_memory *memory, enum sync_mode mode, struct sync_report *report)
{
    struct sync_run run;
    int rc;

    sync_begin(&run, tools, account, memory, report);
    run.is_dry_run = mode == SYNC_DRY_RUN;
    run.view.is_explicit = mode != SYNC_SCHEDULED;
    run.was_unsubscribed = run.view.stored.is_unsubscribed;
    run.view.stored.is_unsubscribed = false;
    if (mode == SYNC_EXPLICIT)
        memset(memory->disturbed_ms, 0, sizeof(memory->disturbed_ms));
    rc = run_steps(&run, &report->error);
    if (rc < 0)
        report->result = SYNC_FAILED;
    else if (!run.is_dry_run)
        remember_refused(&run);
    sync_end(&run, rc == 0);
}

void sync_account(const struct sync_tools *tools, struct account_settings *account,
                  struct sync_memory *memory, enum sync_mode mode, struct sync_report *out_report)
{
    const struct stored_account *stored = key_store_find(tools->store, account->name);

    *out_report = (struct sync_report){.account = alloc_string(account->name)};
    if (mode != SYNC_SCHEDULED || !stored || !stored->is_unsubscribed) {
        sync(tools, account, memory, mode, out_report);
    } else if (stored->subscription_id) {
        sync_report_release(out_report);
        sync_unsubscribe(tools, account->name, account, memory, REMOVAL_LASTS, out_report);
    }
}
