/*
 * What a sync does next: a pure function from what is wanted, what is stored and what Close lists
 * to one step.
 *
 * A sync asks for a step, takes it, enters the outcome into the view and asks again, until nothing
 * is left to do. So it goes on from wherever a crash, an error or somebody else has left things,
 * and a dry run is the same with outcomes that are assumed. The rules: DESIGN section 7, "Sync
 * rules". It concerns only subscriptions whose id is stored or whose URL equals the account's
 * webhook_url.
 *
 * No threads of its own.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_PLAN_H
#define BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/close/close_subscription.h"
#include "bridge/config/subscribed_pairs.h"
#include "bridge/subscriptions/stored_account.h"

struct buf;

/* Close's limit for an organization. */
enum { CLOSE_SUBSCRIPTIONS_MAX = 40 };

/* Everything a step depends on. The owner changes it as steps are taken. */
struct subscription_view {
    char *webhook_url; /* owned, as is the rest; NULL: none */
    bool verify_ssl;
    bool has_configured_keys;
    bool is_explicit; /* somebody asked for this sync */
    struct subscribed_pairs wanted;
    struct stored_account stored;
    struct close_subscriptions listed;
    char **asked; /* ids of which Close did not tell the key */
    size_t asked_count;
};

void subscription_view_release(struct subscription_view *view);

enum step_kind {
    STEP_NONE,
    STEP_ASK_KEY,   /* GET the subscription: perhaps Close shows its key */
    STEP_SET_APART, /* PUT it so that its pairs differ by one: Close allows no two alike */
    STEP_CREATE,    /* POST, store the key */
    STEP_UPDATE,    /* PUT what differs */
    STEP_DELETE,
};

struct step {
    enum step_kind kind;
    const struct close_subscription *subscription; /* in the view; NULL for STEP_CREATE */
    /* Of STEP_UPDATE, what it changes. */
    bool sets_pairs;
    bool sets_url;
    bool sets_verify_ssl;
    bool activates;
};

/* The next step to make Close match. */
struct step subscription_plan_next(const struct subscription_view *view);

/* The next step to unsubscribe: STEP_DELETE or STEP_NONE. */
struct step subscription_plan_next_removal(const struct subscription_view *view);

/* The subscription that is, or becomes, the account's; NULL: none that Close lists. */
struct close_subscription *subscription_view_own(const struct subscription_view *view);

/* An active one on our URL with the pairs that are wanted, besides the account's: as long as it
 * stands, Close refuses them to another. NULL: none that Close lists. */
const struct close_subscription *subscription_view_duplicate(const struct subscription_view *view);

/* Whether the sync may touch it. */
bool subscription_view_concerns(const struct subscription_view *view,
                                const struct close_subscription *subscription);

/* How many things of the account's subscription differ from what is wanted. */
size_t subscription_view_drift(const struct subscription_view *view);

/* The pairs that STEP_SET_APART gives a subscription. Released by the caller. */
struct subscribed_pairs subscription_pairs_apart(const struct subscribed_pairs *pairs);

/* ---- outcomes: entered by the sync, or assumed by a dry run ---- */

void subscription_view_note_asked(struct subscription_view *view, const char *id);

/* Takes a subscription that was made or changed, as Close answered, in place of the listed one of
 * its id. A member key is kept with the stored ones. */
void subscription_view_note_changed(struct subscription_view *view,
                                    struct close_subscription *subscription);

void subscription_view_note_deleted(struct subscription_view *view, const char *id, int64_t now_ms);

/* What a dry run takes for the outcome. */
void subscription_view_assume(struct subscription_view *view, const struct step *step);

/* Appends what the step does as words: "update whsub_1: pairs, url". */
void subscription_step_describe(const struct subscription_view *view, const struct step *step,
                                struct buf *out);

#endif
