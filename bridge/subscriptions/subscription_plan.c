#include "bridge/subscriptions/subscription_plan.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/close/pair_list.h"
#include "schemas/catalog.h"

/* Stands for the id that Close will give. */
#define ID_TO_COME "(new)"

void subscription_view_release(struct subscription_view *view)
{
    free(view->webhook_url);
    subscribed_pairs_release(&view->wanted);
    stored_account_release(&view->stored);
    close_subscriptions_release(&view->listed);
    for (size_t i = 0; i < view->asked_count; i++)
        free(view->asked[i]);
    free(view->asked);
    *view = (struct subscription_view){0};
}

/* ---- whose it is ---- */

static bool is_stored(const struct subscription_view *view, const char *id)
{
    const char *own = view->stored.subscription_id;

    return (own && strcmp(own, id) == 0) || stored_account_key(&view->stored, id);
}

static bool has_our_url(const struct subscription_view *view,
                        const struct close_subscription *subscription)
{
    return view->webhook_url && strcmp(subscription->url, view->webhook_url) == 0;
}

bool subscription_view_concerns(const struct subscription_view *view,
                                const struct close_subscription *subscription)
{
    return is_stored(view, subscription->id) || has_our_url(view, subscription);
}

static bool has_key(const struct subscription_view *view, const char *id)
{
    return stored_account_key(&view->stored, id) != NULL;
}

static size_t common_pairs(const struct subscribed_pairs *a, const struct subscribed_pairs *b)
{
    size_t count = 0;

    for (size_t i = 0; i < a->count; i++)
        count += pair_list_find(b, &a->pairs[i]) != NULL;
    return count;
}

/* A key that is known counts most, then that it is active, then what it has of what is wanted. */
static size_t merit(const struct subscription_view *view,
                    const struct close_subscription *subscription)
{
    return 1 + common_pairs(&view->wanted, &subscription->pairs) +
           (subscription->is_active ? 1000000 : 0) +
           (has_key(view, subscription->id) ? 2000000 : 0);
}

/* An active subscription on our URL with the pairs that are wanted: while it stands as it is, Close
 * refuses another. Filters may or may not count for Close. */
static struct close_subscription *find_alike(const struct subscription_view *view)
{
    for (size_t i = 0; i < view->listed.count; i++) {
        struct close_subscription *subscription = &view->listed.items[i];

        if (has_our_url(view, subscription) && subscription->is_active &&
            pair_list_equal(&subscription->pairs, &view->wanted, false))
            return subscription;
    }
    return NULL;
}

/* Two that were made elsewhere are as good as each other: the one that has the pairs already. Close
 * would not let the other one have them. */
static struct close_subscription *prefer_alike(const struct subscription_view *view,
                                               struct close_subscription *own)
{
    struct close_subscription *alike =
        view->has_configured_keys && !has_key(view, own->id) ? find_alike(view) : NULL;

    return alike ? alike : own;
}

struct close_subscription *subscription_view_own(const struct subscription_view *view)
{
    struct close_subscription *own =
        close_subscriptions_find(&view->listed, view->stored.subscription_id);
    size_t best = 0;

    if (own)
        return prefer_alike(view, own);
    for (size_t i = 0; i < view->listed.count; i++) {
        struct close_subscription *subscription = &view->listed.items[i];

        if (subscription_view_concerns(view, subscription) && merit(view, subscription) > best) {
            best = merit(view, subscription);
            own = subscription;
        }
    }
    return own;
}

const struct close_subscription *subscription_view_duplicate(const struct subscription_view *view)
{
    const struct close_subscription *alike = find_alike(view);

    return alike != subscription_view_own(view) ? alike : NULL;
}

/* ---- the next step ---- */

static bool was_asked(const struct subscription_view *view, const char *id)
{
    for (size_t i = 0; i < view->asked_count; i++) {
        if (strcmp(view->asked[i], id) == 0)
            return true;
    }
    return false;
}

static bool may_activate(const struct subscription_view *view, const struct close_subscription *own)
{
    bool was_meant = own->pause_reason && strcmp(own->pause_reason, "api") == 0;

    return !own->is_active && (view->is_explicit || !was_meant);
}

/* Another of ours whose key nobody knows, as a replacement leaves it that was cut off before its
 * key was stored. Nothing that it delivers is accepted, and the pairs that `lost` gets to be set
 * apart may be its own. */
static const struct close_subscription *find_lost_beside(const struct subscription_view *view,
                                                         const struct close_subscription *lost)
{
    for (size_t i = 0; i < view->listed.count; i++) {
        const struct close_subscription *subscription = &view->listed.items[i];

        if (subscription != lost && subscription_view_concerns(view, subscription) &&
            !has_key(view, subscription->id))
            return subscription;
    }
    return NULL;
}

/* The key of `lost` is known to nobody: a new subscription takes its place. */
static struct step replace(const struct subscription_view *view,
                           const struct close_subscription *lost)
{
    const struct close_subscription *alike = find_alike(view);
    const struct close_subscription *beside = find_lost_beside(view, lost);

    if (!was_asked(view, lost->id))
        return (struct step){.kind = STEP_ASK_KEY, .subscription = lost};
    if (!lost->is_active && !may_activate(view, lost))
        return (struct step){.kind = STEP_NONE};
    if (beside)
        return (struct step){.kind = STEP_DELETE, .subscription = beside};
    if (view->listed.count >= CLOSE_SUBSCRIPTIONS_MAX)
        return (struct step){.kind = STEP_DELETE, .subscription = lost};
    if (alike)
        return (struct step){.kind = STEP_SET_APART, .subscription = alike};
    return (struct step){.kind = STEP_CREATE};
}

/* What is ours beside `own`. With configured keys, several subscriptions on our URL may be meant,
 * and only those whose key is stored were made here. */
static const struct close_subscription *find_surplus(const struct subscription_view *view,
                                                     const struct close_subscription *own)
{
    for (size_t i = 0; i < view->listed.count; i++) {
        const struct close_subscription *subscription = &view->listed.items[i];
        bool is_ours = view->has_configured_keys ? has_key(view, subscription->id)
                                                 : subscription_view_concerns(view, subscription);

        if (subscription != own && is_ours)
            return subscription;
    }
    return NULL;
}

static struct step update(const struct subscription_view *view,
                          const struct close_subscription *own)
{
    struct step step = {
        .subscription = own,
        .sets_pairs = !pair_list_equal(&view->wanted, &own->pairs, true),
        .sets_url = !has_our_url(view, own),
        .sets_verify_ssl = own->verify_ssl != view->verify_ssl,
        .activates = may_activate(view, own),
    };

    if (step.sets_pairs || step.sets_url || step.sets_verify_ssl || step.activates)
        step.kind = STEP_UPDATE;
    return step;
}

struct step subscription_plan_next(const struct subscription_view *view)
{
    const struct close_subscription *own = subscription_view_own(view);
    const struct close_subscription *surplus;

    if (view->wanted.count == 0)
        return (struct step){.kind = STEP_NONE};
    if (!own)
        return (struct step){.kind = STEP_CREATE};
    if (!has_key(view, own->id) && !view->has_configured_keys)
        return replace(view, own);
    surplus = find_surplus(view, own);
    if (surplus)
        return (struct step){.kind = STEP_DELETE, .subscription = surplus};
    return update(view, own);
}

struct step subscription_plan_next_removal(const struct subscription_view *view)
{
    for (size_t i = 0; i < view->listed.count; i++) {
        const struct close_subscription *subscription = &view->listed.items[i];

        if (subscription_view_concerns(view, subscription))
            return (struct step){.kind = STEP_DELETE, .subscription = subscription};
    }
    return (struct step){.kind = STEP_NONE};
}

size_t subscription_view_drift(const struct subscription_view *view)
{
    const struct close_subscription *own = subscription_view_own(view);
    size_t drift = 0;

    if (!own)
        return view->wanted.count;
    for (size_t i = 0; i < view->wanted.count; i++) {
        const struct subscribed_pair *pair = pair_list_find(&own->pairs, &view->wanted.pairs[i]);

        drift += !pair || !pair_has_filter_of(pair, &view->wanted.pairs[i]);
    }
    drift += own->pairs.count - common_pairs(&own->pairs, &view->wanted);
    return drift + !has_our_url(view, own) + (own->verify_ssl != view->verify_ssl);
}

struct subscribed_pairs subscription_pairs_apart(const struct subscribed_pairs *pairs)
{
    struct subscribed_pairs apart = {0};

    pair_list_copy(&apart, pairs);
    if (apart.count > 1) {
        pair_list_remove(&apart, &pairs->pairs[pairs->count - 1]);
        return apart;
    }
    for (size_t i = 0; i < catalog_size; i++) {
        const struct catalog_pair *known = &catalog_pairs[i];
        const struct subscribed_pair pair = {(char *)known->object_type, (char *)known->action,
                                             NULL};

        if (known->status != CATALOG_DOCUMENTED || pair_list_find(&apart, &pair))
            continue;
        pair_list_put(&apart, &pair);
        break;
    }
    return apart;
}

/* ---- outcomes ---- */

void subscription_view_note_asked(struct subscription_view *view, const char *id)
{
    char **asked = alloc_zeroed(view->asked_count + 1, sizeof(char *));

    if (view->asked_count)
        memcpy(asked, view->asked, view->asked_count * sizeof(char *));
    asked[view->asked_count++] = alloc_string(id);
    free(view->asked);
    view->asked = asked;
}

void subscription_view_note_changed(struct subscription_view *view,
                                    struct close_subscription *subscription)
{
    struct close_subscription *listed = close_subscriptions_find(&view->listed, subscription->id);

    if (subscription->has_key)
        stored_account_set_key(&view->stored, subscription->id, subscription->key);
    if (!listed) {
        close_subscriptions_add(&view->listed, subscription);
        return;
    }
    close_subscription_release(listed);
    *listed = *subscription;
}

void subscription_view_note_deleted(struct subscription_view *view, const char *id, int64_t now_ms)
{
    const char *own = view->stored.subscription_id;
    struct stored_key *key = stored_account_key(&view->stored, id);

    if (key && !key->retired_ms)
        key->retired_ms = now_ms;
    if (own && strcmp(own, id) == 0)
        stored_account_set_subscription(&view->stored, NULL, NULL);
    close_subscriptions_remove(&view->listed, id);
}

static void assume_created(struct subscription_view *view)
{
    struct close_subscription created = {
        .id = alloc_string(ID_TO_COME),
        .url = alloc_string(view->webhook_url),
        .is_active = true,
        .verify_ssl = view->verify_ssl,
        .has_key = true,
    };

    pair_list_copy(&created.pairs, &view->wanted);
    stored_account_set_subscription(&view->stored, created.id, created.url);
    subscription_view_note_changed(view, &created);
}

static void assume_updated(struct subscription_view *view, const struct step *step)
{
    struct close_subscription *own =
        close_subscriptions_find(&view->listed, step->subscription->id);

    if (step->sets_pairs)
        pair_list_copy(&own->pairs, &view->wanted);
    if (step->sets_url) {
        free(own->url);
        own->url = alloc_string(view->webhook_url);
    }
    own->verify_ssl = view->verify_ssl;
    own->is_active = own->is_active || step->activates;
}

static void assume_apart(struct subscription_view *view, const struct step *step)
{
    struct close_subscription *listed =
        close_subscriptions_find(&view->listed, step->subscription->id);
    struct subscribed_pairs apart = subscription_pairs_apart(&listed->pairs);

    subscribed_pairs_release(&listed->pairs);
    listed->pairs = apart;
}

void subscription_view_assume(struct subscription_view *view, const struct step *step)
{
    switch (step->kind) {
    case STEP_NONE:
        break;
    case STEP_ASK_KEY:
        subscription_view_note_asked(view, step->subscription->id);
        break;
    case STEP_SET_APART:
        assume_apart(view, step);
        break;
    case STEP_CREATE:
        assume_created(view);
        break;
    case STEP_UPDATE:
        assume_updated(view, step);
        break;
    case STEP_DELETE:
        subscription_view_note_deleted(view, step->subscription->id, 1);
        break;
    }
}

/* ---- words ---- */

static void describe_update(const struct step *step, const char *id, struct buf *out)
{
    const struct {
        bool is_set;
        const char *name;
    } parts[] = {{step->sets_pairs, "pairs"},
                 {step->sets_url, "url"},
                 {step->sets_verify_ssl, "verify_ssl"},
                 {step->activates, "active again"}};
    const char *separator = ": ";

    buf_printf(out, "update %s in place, its key stays", id);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i].is_set)
            continue;
        buf_printf(out, "%s%s", separator, parts[i].name);
        separator = ", ";
    }
}

void subscription_step_describe(const struct subscription_view *view, const struct step *step,
                                struct buf *out)
{
    const char *id = step->subscription ? step->subscription->id : ID_TO_COME;

    switch (step->kind) {
    case STEP_NONE:
        break;
    case STEP_ASK_KEY:
        buf_printf(out, "ask Close for the key of %s, which is not known here", id);
        break;
    case STEP_SET_APART:
        buf_printf(out, "change one pair of %s, so that Close allows another beside it", id);
        break;
    case STEP_CREATE:
        buf_printf(out, "create a subscription with %zu pair%s and store its key",
                   view->wanted.count, view->wanted.count == 1 ? "" : "s");
        break;
    case STEP_UPDATE:
        describe_update(step, id, out);
        break;
    case STEP_DELETE:
        buf_printf(out, "delete %s", id);
        break;
    }
}
