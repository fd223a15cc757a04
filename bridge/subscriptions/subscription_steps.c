#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_webhooks.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscription_sync_internal.h"

/* As long as Close keeps and retries a delivery (CLOSE.md section 4). */
#define QUEUE_MS (INT64_C(72) * 3600 * 1000)

static struct close_api *api_of(const struct sync_run *run)
{
    return run->tools->api;
}

static struct close_access *access_of(const struct sync_run *run)
{
    return &run->account->access;
}

static int64_t now_ms(const struct sync_run *run)
{
    return clock_wall_ms(run->tools->clock);
}

/* Events of the time since then may be missing: Close cleared a queue, or signed with a key that
 * nobody knows. */
static void note_gap(struct sync_run *run, const char *why, int64_t since_ms)
{
    struct sync_report *report = run->report;
    struct buf since = {0};
    struct buf until = {0};

    if (!report->gap_since_ms || since_ms < report->gap_since_ms)
        report->gap_since_ms = since_ms;
    report->gap_until_ms = now_ms(run);
    buf_append_utc(&since, report->gap_since_ms);
    buf_append_utc(&until, report->gap_until_ms);
    log_warn("subscription.gap", log_str("account", run->account->name), log_str("because", why),
             log_text("since", buf_text(&since)), log_text("until", buf_text(&until)),
             log_str("action", "events of this time may be missing; catch-up fetches them from "
                               "Close's Event Log, unless it is off"));
    buf_release(&since);
    buf_release(&until);
}

/* ---- outcomes ---- */

/* Somebody deleted it since it was listed. */
static void note_gone(struct sync_run *run, const struct close_subscription *subscription)
{
    subscription_view_note_deleted(&run->view, subscription->id, now_ms(run));
}

static int ask_key(struct sync_run *run, const struct close_subscription *subscription,
                   struct error *err)
{
    struct close_subscription shown;
    int status;

    if (close_webhooks_get(api_of(run), access_of(run), subscription->id, &shown, &status, err) <
        0) {
        if (status != 404)
            return -1;
        note_gone(run, subscription);
        return 0;
    }
    if (!shown.has_key) {
        close_subscription_release(&shown);
        subscription_view_note_asked(&run->view, subscription->id);
        return 0;
    }
    log_info("subscription.key_recovered", log_str("account", run->account->name),
             log_str("subscription", shown.id));
    subscription_view_note_changed(&run->view, &shown);
    return run->is_dry_run ? 0 : sync_store(run, err);
}

/* PUT; a subscription that is not there any more is no failure. */
static int change(struct sync_run *run, const struct close_subscription *subscription,
                  const struct close_change *what, int *out_status, struct error *err)
{
    struct close_subscription changed;

    if (close_webhooks_update(api_of(run), access_of(run), subscription->id, what, &changed,
                              out_status, err) < 0) {
        if (*out_status != 404)
            return -1;
        note_gone(run, subscription);
        return 0;
    }
    subscription_view_note_changed(&run->view, &changed);
    return 0;
}

static int set_apart(struct sync_run *run, const struct close_subscription *subscription,
                     struct error *err)
{
    struct subscribed_pairs apart = subscription_pairs_apart(&subscription->pairs);
    int status;
    int rc = change(run, subscription, &(struct close_change){.pairs = &apart}, &status, err);

    subscribed_pairs_release(&apart);
    return rc;
}

/* ---- creation ---- */

/* A subscription whose key could not be kept would send what nobody can verify. */
static int take_back(struct sync_run *run, const struct close_subscription *made, struct error *err)
{
    struct error failure = {0};

    if (close_webhooks_delete(api_of(run), access_of(run), made->id, &failure) == 0)
        return error_context(err, "the new subscription %s was deleted again", made->id);
    return error_context(err,
                         "the new subscription %s, whose key is lost, could not be deleted again "
                         "(the next sync tries)",
                         made->id);
}

static int learn_key(struct sync_run *run, struct close_subscription *made, struct error *err)
{
    struct close_subscription shown;
    int status;

    if (made->has_key)
        return 0;
    if (close_webhooks_get(api_of(run), access_of(run), made->id, &shown, &status, err) < 0)
        return -1;
    made->has_key = shown.has_key;
    memcpy(made->key, shown.key, sizeof(made->key));
    close_subscription_release(&shown);
    return made->has_key ? 0
                         : error_set(err, ERROR_TRANSIENT, "Close told no signature_key for it");
}

/* Takes `made` in any case. */
static int keep_created(struct sync_run *run, struct close_subscription *made, struct error *err)
{
    struct stored_account before = stored_account_copy(&run->view.stored, run->view.stored.account);
    int rc = learn_key(run, made, err);

    if (rc == 0) {
        stored_account_set_subscription(&run->view.stored, made->id, made->url);
        stored_account_set_key(&run->view.stored, made->id, made->key);
        rc = sync_store(run, err);
    }
    if (rc == 0) {
        log_info("subscription.created", log_str("account", run->account->name),
                 log_str("subscription", made->id), log_str("url", made->url));
        subscription_view_note_changed(&run->view, made);
        stored_account_release(&before);
        return 0;
    }
    stored_account_release(&run->view.stored);
    run->view.stored = before;
    take_back(run, made, err);
    close_subscription_release(made);
    return -1;
}

static int create(struct sync_run *run, const struct subscribed_pairs *pairs, int *out_status,
                  struct error *err)
{
    const struct close_change wanted = {.url = run->view.webhook_url,
                                        .pairs = pairs,
                                        .sets_verify_ssl = true,
                                        .verify_ssl = run->view.verify_ssl};
    struct close_subscription made;

    if (close_webhooks_create(api_of(run), access_of(run), &wanted, &made, out_status, err) < 0)
        return -1;
    return keep_created(run, &made, err);
}

/* ---- writing pairs ---- */

int sync_write_pairs(struct sync_run *run, const struct step *step,
                     const struct subscribed_pairs *pairs, int *out_status, struct error *err)
{
    const struct close_subscription *own = subscription_view_own(&run->view);

    if (step->kind == STEP_CREATE && (!own || !stored_account_key(&run->view.stored, own->id)))
        return create(run, pairs, out_status, err);
    *out_status = 0;
    if (!own)
        return error_set(err, ERROR_TRANSIENT, "somebody deleted the subscription meanwhile");
    return change(run, own,
                  &(struct close_change){.url = step->sets_url ? run->view.webhook_url : NULL,
                                         .pairs = pairs,
                                         .sets_verify_ssl = step->sets_verify_ssl,
                                         .verify_ssl = run->view.verify_ssl,
                                         .activates = step->activates},
                  out_status, err);
}

static bool says_duplicate(const struct error *err)
{
    return strcasestr(err->message, "duplicate active subscription") != NULL;
}

/* Close has one like it: perhaps the list shows it by now, and what it needs can be done first. */
static int meet_duplicate(struct sync_run *run, struct error *err)
{
    const struct close_subscription *duplicate;

    if (!run->has_listed_again) {
        run->has_listed_again = true;
        run->was_duplicate = true;
        return sync_list(run, err);
    }
    duplicate = subscription_view_duplicate(&run->view);
    if (duplicate)
        return error_context(err,
                             "%.60s has this URL and these pairs already; with signature_keys it "
                             "is not this bridge's to delete: delete one of the two in Close, or "
                             "change the topic map",
                             duplicate->id);
    return error_context(err, "another active subscription has this URL and these pairs, and the "
                              "key may not see it: use the key of an administrator, or delete it "
                              "in Close");
}

static int write_or_search(struct sync_run *run, const struct step *step, struct error *err)
{
    bool has_pairs = step->kind == STEP_CREATE || step->sets_pairs;
    int status = 0;
    int rc = sync_write_pairs(run, step, has_pairs ? &run->view.wanted : NULL, &status, err);

    if (rc == 0 || status != 400)
        return rc;
    if (says_duplicate(err))
        return meet_duplicate(run, err);
    if (step->kind == STEP_CREATE && run->view.listed.count >= CLOSE_SUBSCRIPTIONS_MAX)
        return error_context(err,
                             "the organization has %zu subscriptions, and Close allows %d: delete "
                             "one that is not needed",
                             run->view.listed.count, CLOSE_SUBSCRIPTIONS_MAX);
    return has_pairs ? sync_write_accepted_pairs(run, step, err) : rc;
}

static int create_first(struct sync_run *run, const struct step *step, struct error *err)
{
    const char *stored = run->view.stored.subscription_id;
    bool has_vanished = stored && !close_subscriptions_find(&run->view.listed, stored);
    int64_t since_ms = run->seen_before_ms ? run->seen_before_ms : now_ms(run) - QUEUE_MS;

    if (write_or_search(run, step, err) < 0)
        return -1;
    if (has_vanished)
        note_gap(run, "somebody deleted it in Close", since_ms);
    return 0;
}

static int update(struct sync_run *run, const struct step *step, struct error *err)
{
    const struct close_subscription *own = step->subscription;
    bool was_meant = own->pause_reason && strcmp(own->pause_reason, "api") == 0;
    int64_t paused_ms = own->updated_ms ? own->updated_ms : now_ms(run);

    if (write_or_search(run, step, err) < 0)
        return -1;
    if (step->activates)
        note_gap(run, was_meant ? "it was paused" : "Close paused it and cleared its queue",
                 was_meant ? paused_ms : paused_ms - QUEUE_MS);
    return 0;
}

/* ---- deletion ---- */

static int remove_one(struct sync_run *run, const struct close_subscription *subscription,
                      struct error *err)
{
    bool has_key = stored_account_key(&run->view.stored, subscription->id) != NULL;
    int64_t since_ms = now_ms(run) - QUEUE_MS;

    if (subscription->created_ms > since_ms)
        since_ms = subscription->created_ms;
    if (close_webhooks_delete(api_of(run), access_of(run), subscription->id, err) < 0)
        return -1;
    log_info("subscription.deleted", log_str("account", run->account->name),
             log_str("subscription", subscription->id));
    if (!has_key && !run->view.has_configured_keys && !run->is_removal)
        note_gap(run, "its key was not known, so what it had in its queue could not be verified",
                 since_ms);
    subscription_view_note_deleted(&run->view, subscription->id, now_ms(run));
    return sync_store(run, err);
}

int sync_take_step(struct sync_run *run, const struct step *step, struct error *err)
{
    switch (step->kind) {
    case STEP_NONE:
        return 0;
    case STEP_ASK_KEY:
        return ask_key(run, step->subscription, err);
    case STEP_SET_APART:
        return set_apart(run, step->subscription, err);
    case STEP_CREATE:
        return create_first(run, step, err);
    case STEP_UPDATE:
        return update(run, step, err);
    case STEP_DELETE:
        return remove_one(run, step->subscription, err);
    }
    return 0;
}
