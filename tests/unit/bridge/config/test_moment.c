#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/config/moment.h"

static const int64_t now_ms = INT64_C(1756970837674); /* 2025-09-04T07:27:17.674Z */

static void dates_days_and_times_ago_are_read(void **state)
{
    static const struct {
        const char *written;
        int64_t ms;
    } cases[] = {
        {"2025-09-04T07:27:17Z", INT64_C(1756970837000)},
        {"2025-09-04T07:27:17.674", INT64_C(1756970837674)},
        {"2025-09-04T09:27:17.674999+02:00", INT64_C(1756970837674)},
        {"2025-09-04t07:27:17z", INT64_C(1756970837000)},
        {"2025-09-04 07:27:17", INT64_C(1756970837000)},
        {"2025-09-04T07:27", INT64_C(1756970820000)},
        {"2025-09-04 07:27Z", INT64_C(1756970820000)},
        {"2025-09-04T00:27-07:00", INT64_C(1756970820000)},
        {"2025-09-04", INT64_C(1756944000000)},
        {"1970-01-01", 0},
        {"1969-12-31T23:59:59", 0},
        {"72h", INT64_C(1756970837674) - 72 * 3600000},
        {"3d", INT64_C(1756970837674) - 72 * 3600000},
        {"15m", INT64_C(1756970837674) - 900000},
        {"1500ms", INT64_C(1756970837674) - 1500},
        {"0", INT64_C(1756970837674)},
        {"100000d", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        int64_t ms = -1;

        print_message("%s\n", cases[i].written);
        assert_int_equal(moment_parse(text_of(cases[i].written), now_ms, &ms, &err), 0);
        assert_true(ms == cases[i].ms);
    }
}

static void what_is_no_point_in_time_is_explained(void **state)
{
    static const char *const cases[] = {
        "",
        "yesterday",
        "72",
        "-3h",
        "2025-09-31",
        "2025-9-4",
        "2025-09-04T",
        "2025-09-04T07",
        "2025-09-04T07:27:",
        "2025-09-04T25:00",
        "2025-09-04T07:27:17 Z",
        "2025-09-04T07:27+",
        "2025-09-04T07:27:17.674000000000000000000000000Z",
        "99999999999999999999h",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        int64_t ms = -1;

        print_message("%s\n", cases[i]);
        assert_int_equal(moment_parse(text_of(cases[i]), now_ms, &ms, &err), -1);
        assert_true(ms == -1);
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_string_equal(err.message,
                            "is not a point in time: write 2026-01-31T12:00:00Z, a day such as "
                            "2026-01-31 (UTC), or how long ago, such as 72h");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_days_and_times_ago_are_read),
        cmocka_unit_test(what_is_no_point_in_time_is_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
