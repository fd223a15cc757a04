#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/subscription_plan.h"

#define OURS "https://hooks.example.com/webhooks/main"
#define BEFORE "https://old.example.com/webhooks/main"
#define LIKE_OURS "https://hooks.example.com/webhooks/main/"

enum { MAX_STEPS = 20 };

/* A subscription at Close. `pairs` are such as "lead.created lead.updated?", a ? for a filter. */
struct listed {
    const char *id; /* NULL ends the list */
    const char *url;
    const char *pairs;
    const char *paused; /* NULL: active; else the reason */
    bool skips_verification;
};

struct scenario {
    const char *name;
    const char *wanted;
    struct listed listed[4];
    const char *own;  /* stored id; NULL: none */
    const char *keys; /* ids whose key is stored */
    bool is_explicit;
    bool has_configured_keys;
    bool is_crowded; /* others have the rest of the 40 */
    const char *steps;
};

static void add_pairs(struct subscribed_pairs *list, const char *pairs)
{
    char *copy = strdup(pairs);
    char *rest;

    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *dot = strrchr(word, '.');
        char *mark = strchr(word, '?');

        *dot = '\0';
        if (mark)
            *mark = '\0';
        pair_list_put(
            list, &(struct subscribed_pair){word, dot + 1, mark ? "{\"type\":\"is_null\"}" : NULL});
    }
    free(copy);
}

static void add_listed(struct subscription_view *view, const struct listed *listed)
{
    struct close_subscription subscription = {
        .id = alloc_string(listed->id),
        .url = alloc_string(listed->url),
        .is_active = listed->paused == NULL,
        .pause_reason = listed->paused && *listed->paused ? alloc_string(listed->paused) : NULL,
        .verify_ssl = !listed->skips_verification,
    };

    add_pairs(&subscription.pairs, listed->pairs);
    close_subscriptions_add(&view->listed, &subscription);
}

static struct subscription_view view_of(const struct scenario *scenario)
{
    static const unsigned char key[SIGNATURE_KEY_SIZE];
    struct subscription_view view = {
        .webhook_url = alloc_string(OURS),
        .verify_ssl = true,
        .has_configured_keys = scenario->has_configured_keys,
        .is_explicit = scenario->is_explicit,
        .stored = stored_account_copy(NULL, "main"),
    };
    char *copy = strdup(scenario->keys ? scenario->keys : "");
    char *rest;
    char id[32];

    add_pairs(&view.wanted, scenario->wanted);
    for (const struct listed *listed = scenario->listed; listed->id; listed++)
        add_listed(&view, listed);
    for (int i = 0; scenario->is_crowded && view.listed.count < CLOSE_SUBSCRIPTIONS_MAX; i++) {
        snprintf(id, sizeof(id), "foreign%d", i);
        add_listed(&view, &(struct listed){id, LIKE_OURS, scenario->wanted, NULL, false});
    }
    stored_account_set_subscription(&view.stored, scenario->own, scenario->own ? OURS : NULL);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        stored_account_set_key(&view.stored, word, key);
    free(copy);
    return view;
}

static void append_step(struct buf *out, const struct step *step)
{
    static const char *const names[] = {"", "ask", "apart", "create", "update", "delete"};

    buf_printf(out, "%s%s", out->size ? "; " : "", names[step->kind]);
    if (step->subscription)
        buf_printf(out, " %s", step->subscription->id);
    if (step->sets_pairs)
        buf_append_string(out, " pairs");
    if (step->sets_url)
        buf_append_string(out, " url");
    if (step->sets_verify_ssl)
        buf_append_string(out, " verify_ssl");
    if (step->activates)
        buf_append_string(out, " active");
}

/* Close refuses what would make two active subscriptions of one URL have the same pairs. */
static void assert_close_allows(const struct subscription_view *view, const struct buf *steps)
{
    for (size_t i = 0; i < view->listed.count; i++) {
        const struct close_subscription *one = &view->listed.items[i];

        for (size_t j = 0; j < i; j++) {
            const struct close_subscription *other = &view->listed.items[j];

            if (one->is_active && other->is_active && strcmp(one->url, OURS) == 0 &&
                strcmp(other->url, OURS) == 0 && pair_list_equal(&one->pairs, &other->pairs, false))
                fail_msg("Close refuses the last of: %s", steps->data);
        }
    }
}

/* Takes steps with the assumed outcomes until none is left. */
static void follow(struct subscription_view *view, struct buf *out)
{
    for (int i = 0; i < MAX_STEPS; i++) {
        struct step step = subscription_plan_next(view);
        struct buf words = {0};

        if (step.kind == STEP_NONE)
            return;
        append_step(out, &step);
        subscription_step_describe(view, &step, &words);
        assert_true(words.size > 0);
        buf_release(&words);
        subscription_view_assume(view, &step);
        assert_close_allows(view, out);
    }
    fail_msg("no end after %s", out->data);
}

static const struct scenario scenarios[] = {
    {.name = "nothing at Close", .wanted = "lead.created", .steps = "create"},
    {.name = "nothing wanted", .wanted = "", .steps = ""},
    {.name = "nothing wanted leaves what is there",
     .wanted = "",
     .listed = {{"a", OURS, "lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = ""},
    {.name = "as it should be",
     .wanted = "lead.created lead.updated?",
     .listed = {{"a", OURS, "lead.updated? lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = ""},
    {.name = "pairs differ",
     .wanted = "lead.created lead.updated",
     .listed = {{"a", OURS, "lead.created contact.created"}},
     .own = "a",
     .keys = "a",
     .steps = "update a pairs"},
    {.name = "a filter differs",
     .wanted = "lead.created?",
     .listed = {{"a", OURS, "lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = "update a pairs"},
    {.name = "the URL changed",
     .wanted = "lead.created",
     .listed = {{"a", BEFORE, "lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = "update a url"},
    {.name = "verification is off",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", NULL, true}},
     .own = "a",
     .keys = "a",
     .steps = "update a verify_ssl"},
    {.name = "paused by Close",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "failing"}},
     .own = "a",
     .keys = "a",
     .steps = "update a active"},
    {.name = "paused without a reason, and all else differs",
     .wanted = "lead.created",
     .listed = {{"a", BEFORE, "lead.updated", "", true}},
     .own = "a",
     .keys = "a",
     .steps = "update a pairs url verify_ssl active"},
    {.name = "paused by somebody",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "api"}},
     .own = "a",
     .keys = "a",
     .steps = ""},
    {.name = "paused by somebody, and told to sync",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "api"}},
     .own = "a",
     .keys = "a",
     .is_explicit = true,
     .steps = "update a active"},
    {.name = "paused by somebody and the pairs differ",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated", "api"}},
     .own = "a",
     .keys = "a",
     .steps = "update a pairs"},
    {.name = "deleted by hand",
     .wanted = "lead.created",
     .listed = {{"f", LIKE_OURS, "lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = "create"},
    {.name = "others are left alone",
     .wanted = "lead.created",
     .listed = {{"f", LIKE_OURS, "lead.created"}, {"g", BEFORE, "lead.created"}},
     .steps = "create"},
    {.name = "the key is lost",
     .wanted = "lead.created lead.updated",
     .listed = {{"a", OURS, "lead.created lead.updated"}},
     .steps = "ask a; apart a; create; delete a"},
    {.name = "the key is lost, the id is not",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created"}},
     .own = "a",
     .steps = "ask a; apart a; create; delete a"},
    {.name = "the key is lost and the pairs differ anyway",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated"}},
     .steps = "ask a; create; delete a"},
    {.name = "the key is lost of a paused one",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "failing"}},
     .steps = "ask a; create; delete a"},
    {.name = "the key is lost of one that somebody paused",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "api"}},
     .steps = "ask a"},
    {.name = "the key is lost of one that somebody paused, and told to sync",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created", "api"}},
     .is_explicit = true,
     .steps = "ask a; create; delete a"},
    {.name = "the key is lost and there is no room",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created"}},
     .is_crowded = true,
     .steps = "ask a; delete a; create"},
    {.name = "a replacement was cut off before the old one was deleted",
     .wanted = "lead.created lead.updated",
     .listed = {{"a", OURS, "lead.created"}, {"b", OURS, "lead.created lead.updated"}},
     .own = "b",
     .keys = "b",
     .steps = "delete a"},
    {.name = "a replacement was cut off before its key was stored",
     .wanted = "lead.created lead.updated",
     .listed = {{"a", OURS, "lead.created"}, {"b", OURS, "lead.created lead.updated"}},
     .own = "a",
     .steps = "ask a; delete b; create; delete a"},
    {.name = "a replacement was cut off before its key was stored, and nothing is stored",
     .wanted = "lead.created lead.updated",
     .listed = {{"a", OURS, "lead.created"}, {"b", OURS, "lead.created lead.updated"}},
     .steps = "ask b; delete a; apart b; create; delete b"},
    {.name = "a creation was cut off before its key was stored",
     .wanted = "lead.created",
     .listed = {{"b", OURS, "lead.created"}},
     .steps = "ask b; apart b; create; delete b"},
    {.name = "the id is not stored but the key is",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated"}, {"b", OURS, "lead.created", "failing"}},
     .keys = "b",
     .steps = "delete a; update b active"},
    {.name = "configured keys: adopted",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated"}},
     .has_configured_keys = true,
     .steps = "update a pairs"},
    {.name = "configured keys: the one with most in common; the other is left",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated"}, {"b", OURS, "lead.created"}},
     .has_configured_keys = true,
     .steps = ""},
    {.name = "configured keys: the one that has the pairs, for Close refuses them to the other",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.updated"}, {"b", OURS, "lead.created?"}},
     .own = "a",
     .has_configured_keys = true,
     .steps = "update b pairs"},
    {.name = "configured keys: nothing there yet",
     .wanted = "lead.created",
     .has_configured_keys = true,
     .steps = "create"},
    {.name = "a second one on our URL",
     .wanted = "lead.created",
     .listed = {{"a", OURS, "lead.created"}, {"b", OURS, "lead.updated"}},
     .own = "a",
     .keys = "a",
     .steps = "delete b"},
    {.name = "a second one on the URL that is ours now",
     .wanted = "lead.created",
     .listed = {{"a", BEFORE, "lead.created"}, {"b", OURS, "lead.created"}},
     .own = "a",
     .keys = "a",
     .steps = "delete b; update a url"},
};

static void steps_lead_from_anywhere_to_what_is_wanted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        const struct scenario *scenario = &scenarios[i];
        struct subscription_view view = view_of(scenario);
        struct buf steps = {0};

        follow(&view, &steps);
        if (strcmp(buf_text(&steps).data, scenario->steps) != 0)
            fail_msg("%s: \"%s\", expected \"%s\"", scenario->name, buf_text(&steps).data,
                     scenario->steps);
        buf_release(&steps);
        subscription_view_release(&view);
    }
}

/* The id that a dry run takes for a new one becomes one that Close gave. */
static void name_the_new(struct subscription_view *view)
{
    struct close_subscription *made = close_subscriptions_find(&view->listed, "(new)");
    struct stored_key *key = stored_account_key(&view->stored, "(new)");

    if (made)
        strcpy(made->id, "whn");
    if (key)
        strcpy(key->subscription_id, "whn");
    if (view->stored.subscription_id && strcmp(view->stored.subscription_id, "(new)") == 0)
        strcpy(view->stored.subscription_id, "whn");
}

/* Takes some steps; the outcome of the last one is not stored when `forgets` is set. */
static void cut_off(struct subscription_view *view, int steps, bool forgets)
{
    for (int i = 0; i < steps; i++) {
        struct stored_account before = stored_account_copy(&view->stored, "main");
        struct step step = subscription_plan_next(view);

        subscription_view_assume(view, &step);
        if (forgets && i == steps - 1) {
            struct stored_account after = view->stored;

            view->stored = before;
            before = after;
        }
        stored_account_release(&before);
    }
    name_the_new(view);
    /* A new process has asked nobody yet. */
    for (size_t i = 0; i < view->asked_count; i++)
        free(view->asked[i]);
    view->asked_count = 0;
}

static void converge(const struct scenario *scenario, int cut, bool forgets)
{
    struct subscription_view view = view_of(scenario);
    size_t others = 0;
    struct buf steps = {0};
    size_t ours = 0;

    for (size_t i = 0; i < view.listed.count; i++)
        others += !subscription_view_concerns(&view, &view.listed.items[i]);
    view.is_explicit = true;
    cut_off(&view, cut, forgets);
    follow(&view, &steps);
    for (size_t i = 0; i < view.listed.count; i++)
        ours += subscription_view_concerns(&view, &view.listed.items[i]);
    if (ours != 1 || view.listed.count != ours + others || subscription_view_drift(&view) != 0 ||
        !stored_account_key(&view.stored, subscription_view_own(&view)->id))
        fail_msg("%s, cut off after %d steps: %s", scenario->name, cut, buf_text(&steps).data);
    buf_release(&steps);
    subscription_view_release(&view);
}

/* A crash between any two steps, before or after the outcome was stored: the sync that follows ends
 * with one subscription of ours, whose key is known, and with every other as it was. */
static void steps_that_are_cut_off_anywhere_converge(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (scenarios[i].has_configured_keys || !*scenarios[i].wanted)
            continue;
        for (int cut = 0; cut < 5; cut++) {
            converge(&scenarios[i], cut, false);
            converge(&scenarios[i], cut, true);
        }
    }
}

static void removal_takes_what_is_ours_alone(void **state)
{
    static const struct scenario scenario = {
        .wanted = "lead.created",
        .listed = {{"a", BEFORE, "lead.created"},
                   {"b", OURS, "lead.updated"},
                   {"f", LIKE_OURS, "lead.created"}},
        .own = "a",
        .keys = "a",
    };
    struct subscription_view view = view_of(&scenario);
    struct buf steps = {0};
    struct step step;

    (void)state;
    while ((step = subscription_plan_next_removal(&view)).kind != STEP_NONE) {
        append_step(&steps, &step);
        subscription_view_assume(&view, &step);
    }
    assert_string_equal(steps.data, "delete a; delete b");
    assert_int_equal(view.listed.count, 1);
    buf_release(&steps);
    subscription_view_release(&view);
}

static void drift_counts_what_differs(void **state)
{
    static const struct {
        struct listed listed;
        size_t drift;
    } cases[] = {
        {{"a", OURS, "lead.created lead.updated?", NULL, false}, 0},
        {{"a", OURS, "lead.created lead.updated", NULL, false}, 1},
        {{"a", OURS, "lead.created contact.created", NULL, false}, 2},
        {{"a", BEFORE, "lead.created", NULL, true}, 3},
        {{NULL, NULL, NULL, NULL, false}, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scenario scenario = {
            .wanted = "lead.created lead.updated?", .own = "a", .keys = "a"};
        struct subscription_view view;

        scenario.listed[0] = cases[i].listed;
        view = view_of(&scenario);
        assert_int_equal(subscription_view_drift(&view), cases[i].drift);
        subscription_view_release(&view);
    }
}

static void pairs_set_apart_differ_by_one(void **state)
{
    static const char *const lists[] = {"lead.created",
                                        "lead.created lead.updated contact.deleted"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct subscribed_pairs pairs = {0};
        struct subscribed_pairs apart;

        add_pairs(&pairs, lists[i]);
        apart = subscription_pairs_apart(&pairs);
        assert_true(apart.count > 0);
        assert_int_equal(apart.count, 2);
        assert_false(pair_list_equal(&pairs, &apart, false));
        subscribed_pairs_release(&pairs);
        subscribed_pairs_release(&apart);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_lead_from_anywhere_to_what_is_wanted),
        cmocka_unit_test(steps_that_are_cut_off_anywhere_converge),
        cmocka_unit_test(removal_takes_what_is_ours_alone),
        cmocka_unit_test(drift_counts_what_differs),
        cmocka_unit_test(pairs_set_apart_differ_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
