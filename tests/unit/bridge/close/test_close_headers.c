#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/close/close_headers.h"

static struct close_headers read_lines(const char *const *lines)
{
    struct close_headers headers = {0};

    for (; *lines; lines++)
        close_headers_read(&headers, text_of(*lines));
    return headers;
}

static void rate_limits_are_read_in_both_spellings(void **state)
{
    static const struct {
        const char *line;
        bool is_known;
        int64_t remaining;
        int64_t reset_ms;
    } cases[] = {
        {"RateLimit: limit=100, remaining=50, reset=5\r\n", true, 50, 5000},
        {"ratelimit: limit=160; remaining=159; reset=8", true, 159, 8000},
        {"RATELIMIT:remaining=0;reset=0.25", true, 0, 250},
        {"RateLimit: reset=1.0001, remaining=0", true, 0, 1001},
        {"RateLimit: limit=20,remaining=3", true, 3, -1},
        {"RateLimit: reset=99999999999", true, -1, CLOSE_WAIT_MAX_MS},
        {"RateLimit: remaining=-1, reset=-5", false, -1, -1},
        {"RateLimit: remaining=x, reset=1.", false, -1, -1},
        {"RateLimit: ", false, -1, -1},
        {"RateLimit-Policy: remaining=7, reset=1", false, 0, 0},
        {"X-Rate-Limit: remaining=7, reset=1", false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct close_headers headers = {0};

        close_headers_read(&headers, text_of(cases[i].line));
        assert_int_equal(headers.has_rate_limit, cases[i].is_known);
        assert_int_equal(headers.remaining, cases[i].remaining);
        assert_int_equal(headers.reset_ms, cases[i].reset_ms);
    }
}

static void dates_are_those_of_http(void **state)
{
    static const struct {
        const char *value;
        bool is_date;
        int64_t ms;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", true, INT64_C(784111777000)},
        {"Thu, 29 Feb 2024 23:59:59 GMT", true, INT64_C(1709251199000)},
        {"Thu, 30 Feb 2024 23:59:59 GMT", false, 0},
        {"Sun, 06 nov 1994 08:49:37 GMT", false, 0},
        {"Sun, 06 Nov 1994 08:49:37 UTC", false, 0},
        {"Sun, 06 Nov 1994 08:49:61 GMT", false, 0},
        {"Sunday, 06-Nov-94 08:49:37 GMT", false, 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", false, 0},
        {"", false, 0},
    };
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ms = 0;
        assert_int_equal(close_headers_date(text_of(cases[i].value), &ms), cases[i].is_date);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void the_wait_is_what_close_asks_for(void **state)
{
    static const struct {
        const char *lines[4];
        int64_t when_refused_ms;
        int64_t otherwise_ms;
    } cases[] = {
        {{NULL}, -1, -1},
        {{"Retry-After: 3", NULL}, 3000, 3000},
        {{"RateLimit: limit=9, remaining=0, reset=2.5", "retry-after: 3", NULL}, 3000, 3000},
        {{"RateLimit: limit=9, remaining=0, reset=2.5", NULL}, 2500, 2500},
        {{"RateLimit: limit=9, remaining=4, reset=2", NULL}, 2000, -1},
        {{"Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT",
          NULL},
         30000,
         30000},
        {{"Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:40:00 GMT",
          NULL},
         0,
         0},
        {{"Retry-After: Sun, 06 Nov 1994 08:50:07 GMT", NULL}, -1, -1},
        {{"Retry-After: soon", NULL}, -1, -1},
        {{"Retry-After: 9999999999", NULL}, CLOSE_WAIT_MAX_MS, CLOSE_WAIT_MAX_MS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct close_headers headers = read_lines(cases[i].lines);

        assert_int_equal(close_headers_wait_ms(&headers, true), cases[i].when_refused_ms);
        assert_int_equal(close_headers_wait_ms(&headers, false), cases[i].otherwise_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_limits_are_read_in_both_spellings),
        cmocka_unit_test(dates_are_those_of_http),
        cmocka_unit_test(the_wait_is_what_close_asks_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
