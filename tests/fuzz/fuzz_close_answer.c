/*
 * The body of an answer of Close's API, taken for a subscription, a list of them, and an error:
 * what is read can be written again, and an error's reason is one short clean line.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/close/close_refusal.h"
#include "bridge/close/close_subscription.h"
#include "bridge/close/pair_list.h"
#include "schemas/json_reader.h"
#include "tests/fuzz/fuzz.h"

static void check_subscription(const struct close_subscription *subscription)
{
    struct json_reader *reader = json_reader_new();
    struct subscribed_pairs copy = {0};
    struct buf json = {0};

    MUST(close_id_is_good(text_of(subscription->id)) && subscription->url);
    pair_list_append_events(&subscription->pairs, &json);
    buf_append(&json, (char[JSON_PADDING]){0}, JSON_PADDING);
    MUST(json_reader_check(reader, json.data, json.size - JSON_PADDING) == JSON_VALID);
    pair_list_copy(&copy, &subscription->pairs);
    MUST(pair_list_equal(&copy, &subscription->pairs, true));
    subscribed_pairs_release(&copy);
    buf_release(&json);
    json_reader_free(reader);
}

static void check_reason(struct text body)
{
    struct buf reason = {0};

    close_refusal_reason(body, &reason);
    MUST(reason.size <= CLOSE_REASON_MAX && !text_has_control(buf_text(&reason)));
    buf_release(&reason);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *padded = fuzz_copy(data, size, JSON_PADDING);
    struct text body = {padded, size};
    struct close_subscription subscription;
    struct close_subscriptions list = {0};
    struct error err;
    bool has_more;

    if (close_subscription_parse(body, &subscription, &err) == 0) {
        check_subscription(&subscription);
        close_subscription_release(&subscription);
    }
    if (close_subscriptions_parse(body, &list, &has_more, &err) == 0) {
        for (size_t i = 0; i < list.count; i++)
            check_subscription(&list.items[i]);
    }
    close_subscriptions_release(&list);
    check_reason(body);
    free(padded);
    return 0;
}
