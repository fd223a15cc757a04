#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/close/close_subscription.h"
#include "bridge/close/pair_list.h"
#include "schemas/json_reader.h"

static char bytes[65536];

static struct text padded(const char *json)
{
    size_t size = strlen(json);

    assert_true(size + JSON_PADDING < sizeof(bytes));
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, json, size);
    return (struct text){bytes, size};
}

static struct text recorded(const char *name)
{
    char path[256];
    FILE *file;
    size_t size;

    snprintf(path, sizeof(path), TEST_DATA "/close/%s", name);
    file = fopen(path, "rb");
    assert_non_null(file);
    memset(bytes, 0, sizeof(bytes));
    size = fread(bytes, 1, sizeof(bytes) - JSON_PADDING, file);
    fclose(file);
    return (struct text){bytes, size};
}

static void a_recorded_list_is_read(void **state)
{
    struct close_subscriptions list = {0};
    const struct close_subscription *first;
    struct error err;
    bool has_more = true;

    (void)state;
    assert_int_equal(close_subscriptions_parse(recorded("recorded-GET-webhook-list.json"), &list,
                                               &has_more, &err),
                     0);
    assert_false(has_more);
    assert_int_equal(list.count, 3);
    first = close_subscriptions_find(&list, "whsub_0PUDxBrthWhqiuubhFvPiF");
    assert_ptr_equal(first, &list.items[0]);
    assert_string_equal(first->url, "https://webhook.site/12345678-abcd-efgh-ijkl-123456789012");
    assert_true(first->is_active);
    assert_false(first->verify_ssl);
    assert_false(first->has_key);
    assert_null(first->pause_reason);
    assert_string_equal(first->latest_error, "Exception name: HTTPError, Status code: 404");
    assert_int_equal(first->created_ms, INT64_C(1781870787849));
    assert_int_equal(first->pairs.count, 2);
    assert_string_equal(first->pairs.pairs[0].object_type, "contact");
    assert_string_equal(first->pairs.pairs[0].action, "updated");
    assert_null(first->pairs.pairs[0].extra_filter);
    /* Nothing has succeeded: it fails since the oldest error. */
    assert_int_equal(first->failures, 3);
    assert_int_equal(first->failing_since_ms, INT64_C(1781871067286));
    /* A success came after the error. */
    assert_int_equal(list.items[2].failures, 0);
    assert_int_equal(list.items[2].failing_since_ms, 0);
    /* The same page again adds nothing. */
    assert_int_equal(close_subscriptions_parse(recorded("recorded-GET-webhook-list.json"), &list,
                                               &has_more, &err),
                     0);
    assert_int_equal(list.count, 3);
    close_subscriptions_remove(&list, "whsub_0PUDxBrthWhqiuubhFvPiF");
    assert_int_equal(list.count, 2);
    assert_null(close_subscriptions_find(&list, "whsub_0PUDxBrthWhqiuubhFvPiF"));
    close_subscriptions_release(&list);
}

static void single_answers_are_read(void **state)
{
    static const unsigned char zeros[SIGNATURE_KEY_SIZE];
    struct close_subscription subscription;
    struct error err;

    (void)state;
    assert_int_equal(close_subscription_parse(recorded("recorded-POST-webhook-response.json"),
                                              &subscription, &err),
                     0);
    assert_true(subscription.has_key);
    assert_memory_equal(subscription.key, zeros, sizeof(zeros));
    assert_string_equal(subscription.counters, "{}");
    close_subscription_release(&subscription);
    assert_int_equal(
        close_subscription_parse(recorded("doc-PUT-webhook-paused-200.json"), &subscription, &err),
        0);
    assert_false(subscription.is_active);
    assert_string_equal(subscription.pause_reason, "api");
    assert_true(subscription.has_key);
    assert_int_equal(subscription.pairs.count, 5);
    close_subscription_release(&subscription);
    assert_int_equal(close_subscription_parse(recorded("doc-POST-webhook-withfilter-201.json"),
                                              &subscription, &err),
                     0);
    assert_non_null(strstr(subscription.pairs.pairs[0].extra_filter, "\"field\": \"user_id\""));
    close_subscription_release(&subscription);
}

static void what_is_not_closes_is_refused(void **state)
{
    static const struct {
        const char *json;
        const char *says;
    } cases[] = {
        {"", "not JSON"},
        {"<html>", "not JSON"},
        {"{\"id\":\"whsub_1\"", "not JSON"},
        {"[]", "no subscription's id"},
        {"{\"id\":7}", "no subscription's id"},
        {"{\"id\":\"../event\"}", "no subscription's id"},
        {"{\"id\":\"a/b\"}", "no subscription's id"},
        {"{\"id\":\"\"}", "no subscription's id"},
        {"{\"id\":\"a\\u0000b\"}", "no subscription's id"},
    };
    struct close_subscription subscription;
    struct close_subscriptions list = {0};
    struct error err;
    bool has_more;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(close_subscription_parse(padded(cases[i].json), &subscription, &err), -1);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    assert_int_equal(close_subscriptions_parse(padded("{}"), &list, &has_more, &err), -1);
    assert_non_null(strstr(err.message, "no list of subscriptions"));
}

static void members_of_other_types_count_as_absent(void **state)
{
    struct close_subscription subscription;
    struct error err;

    (void)state;
    assert_int_equal(
        close_subscription_parse(
            padded("{\"id\":\"whsub_1\",\"url\":null,\"events\":[1,{},{\"object_type\":\"lead\","
                   "\"action\":\"created\"},null],\"status\":1,\"signature_key\":\"zz\","
                   "\"history\":[],\"counters\":[],\"date_created\":\"yesterday\"}"),
            &subscription, &err),
        0);
    assert_string_equal(subscription.url, "");
    assert_int_equal(subscription.pairs.count, 1);
    assert_false(subscription.is_active);
    assert_true(subscription.verify_ssl);
    assert_false(subscription.has_key);
    assert_null(subscription.counters);
    assert_int_equal(subscription.created_ms, 0);
    close_subscription_release(&subscription);
}

static void lists_of_pairs_are_compared_by_meaning(void **state)
{
    struct subscribed_pair ab[] = {{"a", "x", "{\"type\":\"equals\",\"value\":1}"},
                                   {"b", "y", NULL}};
    struct subscribed_pair ba[] = {{"b", "y", NULL},
                                   {"a", "x", "{ \"value\": 1.0, \"type\": \"equals\"}"}};
    struct subscribed_pair unfiltered[] = {{"a", "x", NULL}, {"b", "y", NULL}};
    const struct subscribed_pairs one = {ab, 2};
    const struct subscribed_pairs two = {ba, 2};
    const struct subscribed_pairs three = {unfiltered, 2};
    const struct subscribed_pairs four = {ab, 1};
    struct buf json = {0};

    (void)state;
    assert_true(pair_list_equal(&one, &two, true));
    assert_false(pair_list_equal(&one, &three, true));
    assert_true(pair_list_equal(&one, &three, false));
    assert_false(pair_list_equal(&one, &four, false));
    pair_list_append_difference(&one, &four, &json);
    assert_string_equal(json.data, "[[\"b\",\"y\"]]");
    buf_clear(&json);
    pair_list_append_events(&one, &json);
    assert_string_equal(json.data,
                        "[{\"object_type\":\"a\",\"action\":\"x\",\"extra_filter\":{\"type\":"
                        "\"equals\",\"value\":1}},{\"object_type\":\"b\",\"action\":\"y\"}]");
    buf_release(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recorded_list_is_read),
        cmocka_unit_test(single_answers_are_read),
        cmocka_unit_test(what_is_not_closes_is_refused),
        cmocka_unit_test(members_of_other_types_count_as_absent),
        cmocka_unit_test(lists_of_pairs_are_compared_by_meaning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
