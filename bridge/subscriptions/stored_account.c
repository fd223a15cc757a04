#include "bridge/subscriptions/stored_account.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"

static char *copy_string(const char *string)
{
    return string ? alloc_string(string) : NULL;
}

struct stored_account stored_account_copy(const struct stored_account *record, const char *account)
{
    struct stored_account copy = {.account = alloc_string(account)};

    if (!record)
        return copy;
    stored_account_set_subscription(&copy, record->subscription_id, record->webhook_url);
    copy.is_unsubscribed = record->is_unsubscribed;
    for (size_t i = 0; i < record->key_count; i++) {
        stored_account_set_key(&copy, record->keys[i].subscription_id, record->keys[i].key);
        copy.keys[copy.key_count - 1].retired_ms = record->keys[i].retired_ms;
    }
    return copy;
}

static void free_key(struct stored_key *key)
{
    free(key->subscription_id);
    OPENSSL_cleanse(key, sizeof(*key));
}

void stored_account_release(struct stored_account *record)
{
    for (size_t i = 0; i < record->key_count; i++)
        free_key(&record->keys[i]);
    free(record->keys);
    free(record->account);
    free(record->subscription_id);
    free(record->webhook_url);
    *record = (struct stored_account){0};
}

void stored_account_set_subscription(struct stored_account *record, const char *subscription_id,
                                     const char *webhook_url)
{
    char *id = copy_string(subscription_id);
    char *url = copy_string(webhook_url);

    free(record->subscription_id);
    free(record->webhook_url);
    record->subscription_id = id;
    record->webhook_url = url;
}

struct stored_key *stored_account_key(const struct stored_account *record,
                                      const char *subscription_id)
{
    for (size_t i = 0; i < record->key_count; i++) {
        if (strcmp(record->keys[i].subscription_id, subscription_id) == 0)
            return &record->keys[i];
    }
    return NULL;
}

static struct stored_key *add_key(struct stored_account *record, const char *subscription_id)
{
    struct stored_key *keys = alloc_zeroed(record->key_count + 1, sizeof(*keys));

    if (record->key_count) {
        memcpy(keys, record->keys, record->key_count * sizeof(*keys));
        OPENSSL_cleanse(record->keys, record->key_count * sizeof(*keys));
    }
    free(record->keys);
    record->keys = keys;
    keys[record->key_count].subscription_id = alloc_string(subscription_id);
    return &keys[record->key_count++];
}

void stored_account_set_key(struct stored_account *record, const char *subscription_id,
                            const unsigned char key[SIGNATURE_KEY_SIZE])
{
    struct stored_key *entry = stored_account_key(record, subscription_id);

    if (!entry)
        entry = add_key(record, subscription_id);
    memcpy(entry->key, key, SIGNATURE_KEY_SIZE);
    entry->retired_ms = 0;
}

void stored_account_drop_retired(struct stored_account *record, int64_t retired_ms)
{
    size_t kept = 0;

    for (size_t i = 0; i < record->key_count; i++) {
        struct stored_key *key = &record->keys[i];

        if (key->retired_ms && key->retired_ms <= retired_ms)
            free_key(key);
        else
            record->keys[kept++] = *key;
    }
    if (kept < record->key_count)
        OPENSSL_cleanse(&record->keys[kept], (record->key_count - kept) * sizeof(*record->keys));
    record->key_count = kept;
}
