/*
 * What the parts of a sync share: subscription_sync.c goes from step to step, subscription_steps.c
 * takes them, subscription_removal.c unsubscribes, refused_pairs.c finds out which pairs Close does
 * not take.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_SYNC_INTERNAL_H
#define BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_SYNC_INTERNAL_H

#include "bridge/subscriptions/subscription_sync.h"

struct close_change;

/* One sync of one account. */
struct sync_run {
    const struct sync_tools *tools;
    struct account_settings *account;
    struct sync_memory *memory;
    struct sync_report *report;
    struct subscription_view view;
    bool is_dry_run;
    bool is_removal;
    bool was_unsubscribed;  /* until somebody asked for this sync */
    bool has_listed;        /* Close was asked, and answered */
    bool has_searched;      /* for the pairs that it refuses */
    int64_t seen_before_ms; /* when it was last asked before this sync; 0: never */
    bool had_subscription;  /* when it began, here or at Close */
    bool has_listed_again;  /* after Close saw a duplicate */
    bool was_duplicate;     /* the last step was refused for that, and is to be tried once more */
};

/* Reads what is stored of the account. Ends with sync_end(). */
void sync_begin(struct sync_run *run, const struct sync_tools *tools,
                struct account_settings *account, struct sync_memory *memory,
                struct sync_report *report);

/* The view becomes what is remembered, when Close was seen. */
void sync_end(struct sync_run *run, bool is_certain);

/* Enters a step that is about to be taken into the report. */
void sync_report_step(struct sync_run *run, const struct step *step);

/* Takes a step that is not STEP_NONE and enters the outcome into the view. */
int sync_take_step(struct sync_run *run, const struct step *step, struct error *err);

/*
 * Writes `pairs` (and what else the step sets) to Close: by POST with STEP_CREATE as long as there
 * is no subscription, else by PUT. `out_status` as in close_webhooks.h.
 */
int sync_write_pairs(struct sync_run *run, const struct step *step,
                     const struct subscribed_pairs *pairs, int *out_status, struct error *err);

/*
 * After Close refused the view's pairs as a whole: subscribes to those that it takes. They become
 * the view's wanted ones, the others go into the report. -1: it refuses for another reason.
 */
int sync_write_accepted_pairs(struct sync_run *run, const struct step *step, struct error *err);

/* Makes the view's stored record durable and its keys valid. */
int sync_store(struct sync_run *run, struct error *err);

/* Lists what Close has into the view. */
int sync_list(struct sync_run *run, struct error *err);

#endif
