/*
 * A webhook subscription as Close's API shows it.
 *
 * Members that are missing, null or of another type count as absent; ids are checked, for they
 * become part of a path. Field names: recorded answers (CLOSE.md section 3).
 *
 * No threads of its own.
 */
#ifndef BRIDGE_CLOSE_CLOSE_SUBSCRIPTION_H
#define BRIDGE_CLOSE_CLOSE_SUBSCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/config/config.h"
#include "bridge/config/subscribed_pairs.h"

struct error;

struct close_subscription {
    char *id;
    char *url;          /* "" when absent */
    char *pause_reason; /* NULL: none */
    char *latest_error; /* NULL: none */
    char *counters;     /* a JSON object; NULL: none */
    bool is_active;
    bool verify_ssl;
    struct subscribed_pairs pairs;
    int64_t created_ms; /* since 1970; 0: not known */
    int64_t updated_ms;
    int64_t failing_since_ms; /* the first failure in the history after the last success; 0: none */
    int64_t failures;         /* in the history since then */
    bool has_key;             /* Close shows it at creation, perhaps also of a single one */
    unsigned char key[SIGNATURE_KEY_SIZE];
};

struct close_subscriptions {
    struct close_subscription *items;
    size_t count;
};

enum { CLOSE_ID_MAX = 128 };

/* Letters, digits, - and _, at most CLOSE_ID_MAX of them. */
bool close_id_is_good(struct text id);

/* Reads one subscription. JSON_PADDING readable bytes must follow `json`. */
int close_subscription_parse(struct text json, struct close_subscription *out_subscription,
                             struct error *err);

/* Wipes the key. Zero-initialised is fine. */
void close_subscription_release(struct close_subscription *subscription);

/*
 * Reads a page of the list and appends it to `list`, but for ids that are there already. `out_more`
 * says whether Close has another page.
 */
int close_subscriptions_parse(struct text json, struct close_subscriptions *list, bool *out_more,
                              struct error *err);
void close_subscriptions_release(struct close_subscriptions *list);

/* Takes the subscription. Returns where it now is. */
struct close_subscription *close_subscriptions_add(struct close_subscriptions *list,
                                                   struct close_subscription *subscription);

void close_subscriptions_remove(struct close_subscriptions *list, const char *id);

/* NULL: not there. */
struct close_subscription *close_subscriptions_find(const struct close_subscriptions *list,
                                                    const char *id);

#endif
