/*
 * Finds out which pairs Close does not take. How it names them is not documented, so it is asked:
 * groups of pairs are added to those that are known to be good, and a group that is refused is
 * halved. What the subscription already has stays subscribed until the end.
 */
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/log.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/subscription_sync_internal.h"
#include "schemas/catalog.h"

enum {
    MAX_REQUESTS = 64,
    /* So many refused one by one, and none taken: it is not the pairs. */
    ENOUGH_REFUSED = 3,
};

struct search {
    struct sync_run *run;
    const struct step *step;
    struct subscribed_pairs good;
    struct subscribed_pairs refused;
    size_t taken; /* groups that Close took */
    int requests;
    const struct error *refusal; /* of all pairs together */
};

static void add_all(struct subscribed_pairs *list, const struct subscribed_pair *pairs,
                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        pair_list_put(list, &pairs[i]);
}

/* 0: taken. 1: Close refuses it. -1: the search is over. */
static int try_group(struct search *search, const struct subscribed_pair *pairs, size_t count,
                     struct error *err)
{
    struct subscribed_pairs tried = {0};
    int status = 0;
    int rc;

    if (search->requests++ == MAX_REQUESTS)
        return error_set(err, ERROR_INPUT,
                         "Close refuses too many pairs of the topic map: compare them with "
                         "close-bridge catalog");
    pair_list_copy(&tried, &search->good);
    add_all(&tried, pairs, count);
    rc = sync_write_pairs(search->run, search->step, &tried, &status, err);
    if (rc < 0 && status == 400)
        rc = 1;
    if (rc == 0) {
        add_all(&search->good, pairs, count);
        search->taken++;
    }
    subscribed_pairs_release(&tried);
    return rc;
}

static int halve(struct search *search, const struct subscribed_pair *pairs, size_t count,
                 struct error *err);

static int offer(struct search *search, const struct subscribed_pair *pairs, size_t count,
                 struct error *err)
{
    int rc = count > 0 ? try_group(search, pairs, count, err) : 0;

    return rc == 1 ? halve(search, pairs, count, err) : rc;
}

static int blame_something_else(const struct search *search, struct error *err)
{
    *err = *search->refusal;
    return -1;
}

/* The group was refused: asks for its halves. */
static int halve(struct search *search, const struct subscribed_pair *pairs, size_t count,
                 struct error *err)
{
    int rc;

    if (count > 1) {
        rc = offer(search, pairs, count / 2, err);
        return rc < 0 ? rc : offer(search, pairs + count / 2, count - count / 2, err);
    }
    add_all(&search->refused, pairs, count);
    if (search->taken == 0 && search->refused.count >= ENOUGH_REFUSED)
        return blame_something_else(search, err);
    return 0;
}

/* Those that Close documents come first: it will hardly be them. */
static void sort_by_suspicion(const struct sync_run *run, const struct subscribed_pairs *have,
                              struct subscribed_pairs *documented, struct subscribed_pairs *others)
{
    for (size_t i = 0; i < run->view.wanted.count; i++) {
        const struct subscribed_pair *pair = &run->view.wanted.pairs[i];
        const struct subscribed_pair *listed = pair_list_find(have, pair);
        const struct catalog_pair *known =
            catalog_find(text_of(pair->object_type), text_of(pair->action));

        if (listed && pair_has_filter_of(listed, pair))
            continue;
        pair_list_put(known && known->status == CATALOG_DOCUMENTED ? documented : others, pair);
    }
}

/* What is wanted without what is refused; of that, what Close has stays as it is there. */
static struct subscribed_pairs accepted(const struct search *search,
                                        const struct subscribed_pairs *had)
{
    struct subscribed_pairs result = {0};

    pair_list_copy(&result, &search->run->view.wanted);
    for (size_t i = 0; i < search->refused.count; i++) {
        const struct subscribed_pair *kept = pair_list_find(had, &search->refused.pairs[i]);

        if (kept)
            pair_list_put(&result, kept);
        else
            pair_list_remove(&result, &search->refused.pairs[i]);
    }
    return result;
}

static void log_refused(const struct search *search)
{
    for (size_t i = 0; i < search->refused.count; i++)
        log_warn("subscription.pair_refused", log_str("account", search->run->account->name),
                 log_str("object_type", search->refused.pairs[i].object_type),
                 log_str("action", search->refused.pairs[i].action),
                 log_str("action_needed", "Close does not send this pair (or does not take its "
                                          "filter): correct the topic map; the others are "
                                          "subscribed"));
}

static int finish(struct search *search, const struct subscribed_pairs *had, struct error *err)
{
    struct sync_run *run = search->run;
    struct subscribed_pairs result = accepted(search, had);
    int status;
    int rc = 0;

    if (!pair_list_equal(&search->good, &result, true))
        rc = result.count > 0 ? sync_write_pairs(run, search->step, &result, &status, err) : -1;
    if (rc < 0) {
        subscribed_pairs_release(&result);
        return rc;
    }
    subscribed_pairs_release(&run->view.wanted);
    run->view.wanted = result;
    run->has_searched = true;
    add_all(&run->report->refused, search->refused.pairs, search->refused.count);
    log_refused(search);
    return 0;
}

/* One group alone is what was refused just now. */
static int offer_both(struct search *search, const struct subscribed_pairs *documented,
                      const struct subscribed_pairs *others, struct error *err)
{
    int rc;

    if (others->count == 0)
        return halve(search, documented->pairs, documented->count, err);
    if (documented->count == 0)
        return halve(search, others->pairs, others->count, err);
    rc = offer(search, documented->pairs, documented->count, err);
    return rc < 0 ? rc : offer(search, others->pairs, others->count, err);
}

static int find_accepted(struct search *search, const struct subscribed_pairs *had,
                         struct error *err)
{
    struct subscribed_pairs documented = {0};
    struct subscribed_pairs others = {0};
    int rc = 0;

    pair_list_copy(&search->good, had);
    sort_by_suspicion(search->run, had, &documented, &others);
    /* When what it has is refused too, the pairs are not to blame. */
    if (had->count > 0 && try_group(search, NULL, 0, err) != 0)
        rc = blame_something_else(search, err);
    if (rc == 0)
        rc = offer_both(search, &documented, &others, err);
    if (rc == 0 && search->taken == 0)
        rc = blame_something_else(search, err);
    if (rc == 0)
        rc = finish(search, had, err);
    subscribed_pairs_release(&documented);
    subscribed_pairs_release(&others);
    return rc;
}

int sync_write_accepted_pairs(struct sync_run *run, const struct step *step, struct error *err)
{
    const struct error refusal = *err;
    struct search search = {.run = run, .step = step, .refusal = &refusal};
    struct subscribed_pairs had = {0};
    int rc;

    if (step->subscription)
        pair_list_copy(&had, &step->subscription->pairs);
    rc = find_accepted(&search, &had, err);
    subscribed_pairs_release(&search.good);
    subscribed_pairs_release(&search.refused);
    subscribed_pairs_release(&had);
    return rc;
}
