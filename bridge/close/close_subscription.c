#include "bridge/close/close_subscription.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/alloc.h"
#include "bridge/base/error.h"
#include "bridge/close/pair_list.h"
#include "schemas/date.h"
#include "schemas/json_compare.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

/* More of either is not Close's. */
enum { MAX_PAIRS = 2000, MAX_SUBSCRIPTIONS = 2000, MAX_COUNTERS = 4096 };

/* ---- values ---- */

static bool bool_member(struct text object, const char *name, bool otherwise)
{
    struct text value = json_member(object, name);

    return text_equal_string(value, "true") || (otherwise && !text_equal_string(value, "false"));
}

static int64_t date_member(struct text object, const char *name)
{
    struct text value = json_member(object, name);
    struct instant instant;

    if (!json_is_string(value) || !date_parse(json_string_inside(value), &instant))
        return 0;
    return instant.seconds * 1000 + instant.nanoseconds / 1000000;
}

bool close_id_is_good(struct text id)
{
    if (id.size == 0 || id.size > CLOSE_ID_MAX)
        return false;
    for (size_t i = 0; i < id.size; i++) {
        char c = id.data[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' &&
            c != '-')
            return false;
    }
    return true;
}

/* ---- members ---- */

static void read_pairs(struct text events, struct subscribed_pairs *pairs)
{
    struct json_cursor cursor;
    struct text event;

    if (!json_array_begin(&cursor, events))
        return;
    while (pairs->count < MAX_PAIRS && json_array_next(&cursor, &event)) {
        struct text filter = json_member(event, "extra_filter");
        struct subscribed_pair pair = {.object_type = json_string_member(event, "object_type"),
                                       .action = json_string_member(event, "action")};

        if (filter.data && !json_is_null(filter))
            pair.extra_filter = text_dup(filter);
        if (pair.object_type && pair.action)
            pair_list_put(pairs, &pair);
        free(pair.object_type);
        free(pair.action);
        free(pair.extra_filter);
    }
}

static int64_t latest_date(struct text list)
{
    struct json_cursor cursor;
    struct text entry;
    int64_t latest_ms = 0;

    if (!json_array_begin(&cursor, list))
        return 0;
    while (json_array_next(&cursor, &entry)) {
        int64_t ms = date_member(entry, "datetime");

        latest_ms = ms > latest_ms ? ms : latest_ms;
    }
    return latest_ms;
}

static void read_history(struct text history, struct close_subscription *subscription)
{
    int64_t success_ms = latest_date(json_member(history, "successes"));
    struct json_cursor cursor;
    struct text entry;

    if (!json_array_begin(&cursor, json_member(history, "errors")))
        return;
    while (json_array_next(&cursor, &entry)) {
        int64_t ms = date_member(entry, "datetime");

        if (ms <= success_ms)
            continue;
        subscription->failures++;
        if (!subscription->failing_since_ms || ms < subscription->failing_since_ms)
            subscription->failing_since_ms = ms;
    }
}

static void read_key(struct text object, struct close_subscription *subscription)
{
    struct text value = json_member(object, "signature_key");

    subscription->has_key =
        json_is_string(value) &&
        text_from_hex(json_string_inside(value), subscription->key, SIGNATURE_KEY_SIZE);
}

static int read_subscription(struct text object, struct close_subscription *subscription,
                             struct error *err)
{
    struct text counters = json_member(object, "counters");
    char *status = json_string_member(object, "status");

    *subscription = (struct close_subscription){
        .id = json_string_member(object, "id"),
        .url = json_string_member(object, "url"),
        .pause_reason = json_string_member(object, "pause_reason"),
        .latest_error = json_string_member(object, "latest_error"),
        .counters = counters.size > 0 && counters.size <= MAX_COUNTERS && counters.data[0] == '{'
                        ? text_dup(counters)
                        : NULL,
        .is_active = status && strcmp(status, "active") == 0,
        .verify_ssl = bool_member(object, "verify_ssl", true),
        .created_ms = date_member(object, "date_created"),
        .updated_ms = date_member(object, "date_updated"),
    };
    free(status);
    if (!subscription->id || !close_id_is_good(text_of(subscription->id))) {
        close_subscription_release(subscription);
        return error_set(err, ERROR_CONFIG,
                         "the answer has no subscription's id, which Close's has: check api_url");
    }
    if (!subscription->url)
        subscription->url = alloc_string("");
    read_pairs(json_member(object, "events"), &subscription->pairs);
    read_history(json_member(object, "history"), subscription);
    read_key(object, subscription);
    return 0;
}

/* ---- documents ---- */

static int check_json(struct text json, struct error *err)
{
    struct json_reader *reader = json_reader_new();
    enum json_verdict verdict =
        reader ? json_reader_check(reader, json.data, json.size) : JSON_NO_MEMORY;

    json_reader_free(reader);
    if (verdict == JSON_VALID)
        return 0;
    if (verdict == JSON_NO_MEMORY)
        return error_set(err, ERROR_FATAL, "an answer of Close's API: out of memory");
    return error_set(err, ERROR_CONFIG,
                     "the answer is not JSON, which Close's is: check api_url, and what stands "
                     "between here and Close");
}

int close_subscription_parse(struct text json, struct close_subscription *out_subscription,
                             struct error *err)
{
    struct close_subscription subscription;

    if (check_json(json, err) < 0 || read_subscription(json_document(json), &subscription, err) < 0)
        return -1;
    *out_subscription = subscription;
    return 0;
}

void close_subscription_release(struct close_subscription *subscription)
{
    free(subscription->id);
    free(subscription->url);
    free(subscription->pause_reason);
    free(subscription->latest_error);
    free(subscription->counters);
    subscribed_pairs_release(&subscription->pairs);
    OPENSSL_cleanse(subscription->key, sizeof(subscription->key));
    *subscription = (struct close_subscription){0};
}

int close_subscriptions_parse(struct text json, struct close_subscriptions *list, bool *out_more,
                              struct error *err)
{
    struct json_cursor cursor;
    struct text item;

    if (check_json(json, err) < 0)
        return -1;
    if (!json_array_begin(&cursor, json_member(json_document(json), "data")))
        return error_set(err, ERROR_CONFIG,
                         "the answer is no list of subscriptions, which Close's is: check api_url");
    while (json_array_next(&cursor, &item)) {
        struct close_subscription subscription;

        if (list->count == MAX_SUBSCRIPTIONS)
            return error_set(err, ERROR_CONFIG,
                             "the answer lists more than %d subscriptions, which Close's cannot: "
                             "check api_url",
                             MAX_SUBSCRIPTIONS);
        if (read_subscription(item, &subscription, err) < 0)
            return -1;
        if (close_subscriptions_find(list, subscription.id))
            close_subscription_release(&subscription);
        else
            close_subscriptions_add(list, &subscription);
    }
    *out_more = bool_member(json_document(json), "has_more", false);
    return 0;
}

void close_subscriptions_release(struct close_subscriptions *list)
{
    for (size_t i = 0; i < list->count; i++)
        close_subscription_release(&list->items[i]);
    free(list->items);
    *list = (struct close_subscriptions){0};
}

struct close_subscription *close_subscriptions_add(struct close_subscriptions *list,
                                                   struct close_subscription *subscription)
{
    struct close_subscription *items = alloc_zeroed(list->count + 1, sizeof(*items));

    if (list->count) {
        memcpy(items, list->items, list->count * sizeof(*items));
        OPENSSL_cleanse(list->items, list->count * sizeof(*items));
    }
    items[list->count] = *subscription;
    OPENSSL_cleanse(subscription, sizeof(*subscription));
    free(list->items);
    list->items = items;
    return &list->items[list->count++];
}

void close_subscriptions_remove(struct close_subscriptions *list, const char *id)
{
    struct close_subscription *found = close_subscriptions_find(list, id);
    size_t index;

    if (!found)
        return;
    index = (size_t)(found - list->items);
    close_subscription_release(found);
    list->count--;
    memmove(found, found + 1, (list->count - index) * sizeof(*found));
    OPENSSL_cleanse(&list->items[list->count], sizeof(*found));
}

struct close_subscription *close_subscriptions_find(const struct close_subscriptions *list,
                                                    const char *id)
{
    for (size_t i = 0; id && i < list->count; i++) {
        if (strcmp(list->items[i].id, id) == 0)
            return &list->items[i];
    }
    return NULL;
}
