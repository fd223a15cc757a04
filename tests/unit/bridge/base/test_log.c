#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/log.h"

static char line[4096];
static const int64_t moment_ms = 1767225599999; /* the last millisecond of 2025 */

/* What log_write() puts on standard error, without the time that it begins with. */
static const char *written(enum log_format format, struct text value)
{
    int ends[2];
    int saved = dup(STDERR_FILENO);
    ssize_t size;

    assert_int_equal(pipe(ends), 0);
    log_configure(LOG_INFO, format);
    dup2(ends[1], STDERR_FILENO);
    log_debug("test.left_out", log_i64("n", 1));
    log_warn("test.event", log_text("value", value), log_i64("n", -1), log_time("at", moment_ms));
    dup2(saved, STDERR_FILENO);
    close(ends[1]);
    size = read(ends[0], line, sizeof(line) - 1);
    assert_true(size > 0);
    line[size] = '\0';
    assert_int_equal(read(ends[0], line + size, 1), 0); /* one write() a line */
    close(ends[0]);
    close(saved);
    return format == LOG_JSON ? strstr(line, "\"level\"") : strstr(line, "level=");
}

#define BYTES(literal)                                                                             \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static void a_value_cannot_forge_a_line_or_a_field(void **state)
{
    static const struct {
        struct text value;
        const char *logfmt;
        const char *json;
    } cases[] = {
        {BYTES("plain"), "plain", "\"plain\""},
        {BYTES(""), "\"\"", "\"\""},
        {BYTES("a\r\ntime=now level=info"), "\"a\\u000d\\u000atime=now level=info\"",
         "\"a\\u000d\\u000atime=now level=info\""},
        {BYTES("a b=c"), "\"a b=c\"", "\"a b=c\""},
        {BYTES("a\" n=5 \\"), "\"a\\\" n=5 \\\\\"", "\"a\\\" n=5 \\\\\""},
        {BYTES("\x1b[2J\x07"), "\"\\u001b[2J\\u0007\"", "\"\\u001b[2J\\u0007\""},
        {BYTES("a\0b"), "\"a\\u0000b\"", "\"a\\u0000b\""},
        {BYTES("\x7f"), "\"\\u007f\"", "\"\\u007f\""},
        {BYTES("M\xc3\xbcller \xe2\x82\xac"), "\"M\xc3\xbcller \xe2\x82\xac\"",
         "\"M\xc3\xbcller \xe2\x82\xac\""},
        {BYTES("\xc2\x9b[2J"),
         "?"
         "?[2J",
         "\"?"
         "?[2J\""}, /* the same as ESC [ */
        {BYTES("a\xff\xfe"
               "b \xc3"),
         "\"a?"
         "?b ?\"",
         "\"a?"
         "?b ?\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[256];

        snprintf(expected, sizeof(expected),
                 "level=warn event=test.event value=%s n=-1 at=2025-12-31T23:59:59.999Z\n",
                 cases[i].logfmt);
        assert_string_equal(written(LOG_LOGFMT, cases[i].value), expected);
        snprintf(expected, sizeof(expected),
                 "\"level\":\"warn\",\"event\":\"test.event\",\"value\":%s,\"n\":-1,"
                 "\"at\":\"2025-12-31T23:59:59.999Z\"}\n",
                 cases[i].json);
        assert_string_equal(written(LOG_JSON, cases[i].value), expected);
    }
}

static void a_long_value_is_cut(void **state)
{
    static char value[2000];

    (void)state;
    memset(value, 'x', sizeof(value));
    assert_int_equal(
        strlen(written(LOG_LOGFMT, (struct text){value, sizeof(value)})),
        strlen("level=warn event=test.event value= n=-1 at=2025-12-31T23:59:59.999Z\n") + 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_cannot_forge_a_line_or_a_field),
        cmocka_unit_test(a_long_value_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
