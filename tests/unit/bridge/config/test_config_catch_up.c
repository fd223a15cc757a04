#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/bridge/config/config_fixture.h"

#define WITH(account) PUBLISHERS TOPIC_MAP "accounts: [{name: a, " account "}]\n"

static void what_would_come_twice_or_be_left_out_is_a_mistake(void **state)
{
    static const struct said cases[] = {
        {WITH("api_key: k, catch_up: {interval: 4d}"),
         "c.yaml:3: accounts[0].catch_up: interval, overlap and settle together must be below "
         "journal.dedupe_window (96h), else events would be published twice\n"},
        {WITH("api_key: k, catch_up: {interval: 1h, max_age: 1h}"),
         "c.yaml:3: accounts[0].catch_up: max_age must not be below interval, overlap and settle "
         "together, else events would be left out\n"},
        {WITH("api_key: k, catch_up: {interval: 30s, settle: 1d, max_age: 1d}"),
         "c.yaml:3: accounts[0].catch_up: max_age must not be below interval, overlap and settle "
         "together, else events would be left out\n"},
    };

    (void)state;
    SAID(cases, false);
}

static void a_short_interval_is_a_warning(void **state)
{
    static const struct said cases[] = {
        {WITH("api_key: k, catch_up: {interval: 1s}"),
         "c.yaml:3: warning: accounts[0].catch_up.interval: 1s is short: every run reads the last "
         "5m again and counts against Close's rate limit; 1m is enough, for by then Close "
         "itself repeats what failed\n"},
        {WITH("oauth_token: t, catch_up: {interval: 59s, overlap: 1h}"),
         "c.yaml:3: warning: accounts[0].catch_up.interval: 59s is short: every run reads the last "
         "1h again and counts against Close's rate limit; 1m is enough, for by then Close "
         "itself repeats what failed\n"},
        {WITH("api_key: k, catch_up: {interval: 1m}"), ""},
        {WITH("api_key: k, catch_up: {interval: 0}"), ""},
        {WITH("api_key: k"), ""},
        {WITH("signature_keys: " KEY ", catch_up: {interval: 1s}"), ""},
    };

    (void)state;
    SAID(cases, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_come_twice_or_be_left_out_is_a_mistake),
        cmocka_unit_test(a_short_interval_is_a_warning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
