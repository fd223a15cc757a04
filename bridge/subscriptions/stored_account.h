/*
 * What is kept of one account's subscription at Close: its id and its signature keys.
 *
 * Plain data that owns what it points to; keys are wiped. One thread at a time.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_STORED_ACCOUNT_H
#define BRIDGE_SUBSCRIPTIONS_STORED_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/config.h"

struct stored_key {
    char *subscription_id;
    unsigned char key[SIGNATURE_KEY_SIZE];
    int64_t retired_ms; /* since 1970, when its subscription went; 0: it stands */
};

struct stored_account {
    char *account;
    char *subscription_id; /* NULL: none */
    char *webhook_url;     /* where that posts to; NULL: none */
    bool is_unsubscribed;  /* until somebody asks for a sync */
    struct stored_key *keys;
    size_t key_count;
};

/* A deep copy; an absent record (NULL) gives an empty one of that account. Owned
 * (stored_account_release). */
struct stored_account stored_account_copy(const struct stored_account *record, const char *account);

/* Wipes the keys. */
void stored_account_release(struct stored_account *record);

/* Both may be NULL. */
void stored_account_set_subscription(struct stored_account *record, const char *subscription_id,
                                     const char *webhook_url);

/* NULL: no key of that subscription. */
struct stored_key *stored_account_key(const struct stored_account *record,
                                      const char *subscription_id);

/* Sets the key of a subscription that stands. */
void stored_account_set_key(struct stored_account *record, const char *subscription_id,
                            const unsigned char key[SIGNATURE_KEY_SIZE]);

/* Removes the keys of subscriptions that went at or before `retired_ms`. */
void stored_account_drop_retired(struct stored_account *record, int64_t retired_ms);

#endif
