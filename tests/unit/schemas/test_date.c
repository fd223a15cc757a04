#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "schemas/date.h"

static void dates_become_instants_in_utc(void **state)
{
    static const struct {
        const char *date;
        int64_t seconds;
        uint32_t nanoseconds;
        const char *formatted;
    } cases[] = {
        {"1970-01-01T00:00:00", 0, 0, "1970-01-01T00:00:00Z"},
        {"1969-12-31T23:59:59.999999", -1, 999999000, "1969-12-31T23:59:59.999999Z"},
        {"2025-09-04T07:27:17.674000", 1756970837, 674000000, "2025-09-04T07:27:17.674000Z"},
        {"2025-09-04T07:27:17.674000+00:00", 1756970837, 674000000, "2025-09-04T07:27:17.674000Z"},
        {"2025-09-04T07:27:17.674Z", 1756970837, 674000000, "2025-09-04T07:27:17.674Z"},
        {"2025-09-04T07:27:17-00:00", 1756970837, 0, "2025-09-04T07:27:17Z"},
        {"2025-09-04T09:27:17.5+02:00", 1756970837, 500000000, "2025-09-04T07:27:17.5Z"},
        {"2025-09-03T23:57:17-07:30", 1756970837, 0, "2025-09-04T07:27:17Z"},
        {"2025-01-15T10:30:00.000Z", 1736937000, 0, "2025-01-15T10:30:00.000Z"},
        {"2000-02-29T12:00:00", 951825600, 0, "2000-02-29T12:00:00Z"},
        {"2024-02-29T23:59:59.000000001", 1709251199, 1, "2024-02-29T23:59:59.000000001Z"},
        {"2024-03-01T00:30:00+01:00", 1709249400, 0, "2024-02-29T23:30:00Z"},
        {"2023-12-31T23:30:00-01:00", 1704069000, 0, "2024-01-01T00:30:00Z"},
        {"0001-01-01T00:00:00", -62135596800, 0, "0001-01-01T00:00:00Z"},
        {"9999-12-31T23:59:59", 253402300799, 0, "9999-12-31T23:59:59Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct instant instant;
        char formatted[DATE_MAX + 1];

        print_message("%s\n", cases[i].date);
        assert_true(date_parse(text_of(cases[i].date), &instant));
        assert_true(instant.seconds == cases[i].seconds);
        assert_int_equal(instant.nanoseconds, cases[i].nanoseconds);
        formatted[date_format(&instant, formatted)] = '\0';
        assert_string_equal(formatted, cases[i].formatted);
    }
}

static void every_day_agrees_with_the_system_library(void **state)
{
    (void)state;
    for (int64_t day = -719162; day < 2932897; day += 1) {
        struct instant instant = {day * 86400 + 45296, 0, 0};
        struct instant again;
        time_t seconds = (time_t)instant.seconds;
        char formatted[DATE_MAX + 1];
        struct tm utc;

        formatted[date_format(&instant, formatted)] = '\0';
        if (day % 7 == 0) {
            char expected[64];

            assert_non_null(gmtime_r(&seconds, &utc));
            snprintf(expected, sizeof(expected), "%04d-%02d-%02dT12:34:56Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday);
            assert_string_equal(formatted, expected);
        }
        assert_true(date_parse(text_of(formatted), &again));
        assert_true(again.seconds == instant.seconds);
    }
}

static void what_is_not_a_date_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "2025",
        "2025-09-04",
        "2025-09-04 07:27:17",
        "2025-09-04t07:27:17",
        "2025-09-04T07:27",
        "2025-09-04T07:27:17z",
        "2025-09-04T07:27:17.67400z",
        "2025-09-04T07:27:17Z+01:00",
        "2025-09-04T07:27:17ZZ",
        "2025-09-04T07:27:17.",
        "2025-09-04T07:27:17.Z",
        "2025-09-04T07:27:17.1234567890",
        "2025-09-04T07:27:17,5",
        "2025-09-04T07:27:17+0000",
        "2025-09-04T07:27:17+00",
        "2025-09-04T07:27:17+24:00",
        "2025-09-04T07:27:17+00:60",
        "2025-09-04T07:27:17+-1:00",
        "2025-09-04T07:27:17 ",
        " 2025-09-04T07:27:17",
        "2025-09-04T24:00:00",
        "2025-09-04T07:60:00",
        "2025-09-04T07:27:60",
        "2025-00-04T07:27:17",
        "2025-13-04T07:27:17",
        "2025-09-00T07:27:17",
        "2025-09-31T07:27:17",
        "2025-02-29T07:27:17",
        "1900-02-29T07:27:17",
        "2100-02-29T07:27:17",
        "2024-02-30T07:27:17",
        "0000-01-01T00:00:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "25-09-04T07:27:17",
        "12025-09-04T07:27:17",
        "+025-09-04T07:27:17",
        "20a5-09-04T07:27:17",
        "1756970837",
        "2025-W36-4T07:27:17",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct instant instant = {7, 7, 7};

        print_message("%s\n", cases[i]);
        assert_false(date_parse(text_of(cases[i]), &instant));
        assert_true(instant.seconds == 7);
    }
    assert_false(date_parse((struct text){NULL, 0}, &(struct instant){0}));
    assert_false(date_parse((struct text){"2025-09-04T07:27:17\0", 20}, &(struct instant){0}));
}

static void later_counts_every_digit(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        bool is_later;
    } cases[] = {
        {"2025-09-04T07:27:17.674001", "2025-09-04T07:27:17.674000", true},
        {"2025-09-04T07:27:17.674000", "2025-09-04T07:27:17.674001", false},
        {"2025-09-04T07:27:17.674", "2025-09-04T07:27:17.674000+00:00", false},
        {"2025-09-04T09:27:17+02:00", "2025-09-04T07:27:17", false},
        {"2025-09-04T09:27:18+02:00", "2025-09-04T07:27:17.9", true},
        {"2025-09-04T00:00:00+02:00", "2025-09-03T23:00:00", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct instant a;
        struct instant b;

        print_message("%s %s\n", cases[i].a, cases[i].b);
        assert_true(date_parse(text_of(cases[i].a), &a));
        assert_true(date_parse(text_of(cases[i].b), &b));
        assert_int_equal(date_is_later(&a, &b), cases[i].is_later);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_become_instants_in_utc),
        cmocka_unit_test(every_day_agrees_with_the_system_library),
        cmocka_unit_test(what_is_not_a_date_is_refused),
        cmocka_unit_test(later_counts_every_digit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
