#include "bridge/base/alloc.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_webhooks.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/subscription_sync_internal.h"

static int delete_listed(struct sync_run *run, struct error *err)
{
    struct step step;

    if (sync_list(run, err) < 0)
        return -1;
    while ((step = subscription_plan_next_removal(&run->view)).kind != STEP_NONE) {
        sync_report_step(run, &step);
        pair_list_copy(&run->report->before, &step.subscription->pairs);
        if (sync_take_step(run, &step, err) < 0)
            return -1;
    }
    /* What is stored and was not listed may be one that the key may not see. */
    if (run->view.stored.subscription_id)
        return close_webhooks_delete(run->tools->api, &run->account->access,
                                     run->view.stored.subscription_id, err);
    return 0;
}

static int forget_keys(struct sync_run *run, bool lasts, struct error *err)
{
    struct stored_account *stored = &run->view.stored;

    for (size_t i = 0; i < stored->key_count; i++)
        stored->keys[i].retired_ms = 1;
    stored_account_drop_retired(stored, 1);
    stored_account_set_subscription(stored, NULL, NULL);
    stored->is_unsubscribed = lasts;
    return sync_store(run, err);
}

static int unsubscribe(struct sync_run *run, enum removal removal, struct error *err)
{
    if (removal == REMOVAL_LASTS && !run->view.stored.is_unsubscribed) {
        run->view.stored.is_unsubscribed = true;
        if (sync_store(run, err) < 0)
            return -1;
    }
    if (delete_listed(run, err) < 0)
        return -1;
    return forget_keys(run, removal == REMOVAL_LASTS, err);
}

/* Without URL and credentials nothing can be deleted at Close. */
static int forget(const struct sync_tools *tools, const char *name, struct sync_report *report,
                  struct error *err)
{
    const struct stored_account *record = key_store_find(tools->store, name);
    struct buf sentence = {0};

    if (!record)
        return error_set(err, ERROR_INPUT,
                         "nothing is kept of the account %.64s, and nothing can be deleted at "
                         "Close without its webhook_url, and api_key or oauth_token",
                         name);
    if (record->subscription_id) {
        report->subscription_id = alloc_string(record->subscription_id);
        buf_printf(&sentence,
                   "forget %s and its key; it stands at Close until somebody deletes it there",
                   record->subscription_id);
        buf_append_json_string(&report->steps, buf_text(&sentence));
        buf_release(&sentence);
    }
    if (key_store_remove(tools->store, name, err) < 0)
        return -1;
    return sync_use_keys(tools, name, err);
}

void sync_unsubscribe(const struct sync_tools *tools, const char *name,
                      struct account_settings *account, struct sync_memory *memory,
                      enum removal removal, struct sync_report *out_report)
{
    struct sync_run run;
    int rc;

    *out_report = (struct sync_report){.account = alloc_string(name), .result = SYNC_UNSUBSCRIBED};
    if (account && account_can_sync(account)) {
        sync_begin(&run, tools, account, memory, out_report);
        run.is_removal = true;
        rc = unsubscribe(&run, removal, &out_report->error);
        sync_end(&run, rc == 0);
    } else {
        rc = forget(tools, name, out_report, &out_report->error);
    }
    out_report->result = rc == 0 ? SYNC_UNSUBSCRIBED : SYNC_FAILED;
}
