#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_reader.h"
#include "schemas/msgpack_writer.h"

/* Expected bytes are written out, so that no reader of MessagePack has to be trusted. */
static void values_become_the_bytes_of_the_specification(void **state)
{
    static const struct {
        const char *json;
        const char *bytes;
        size_t size;
    } cases[] = {
        {"null", "\xc0", 1},
        {"true", "\xc3", 1},
        {"false", "\xc2", 1},
        {"0", "\x00", 1},
        {"127", "\x7f", 1},
        {"128", "\xcc\x80", 2},
        {"-1", "\xff", 1},
        {"-33", "\xd0\xdf", 2},
        {"9007199254740993", "\xcf\x00\x20\x00\x00\x00\x00\x00\x01", 9},
        {"9223372036854775808", "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", 9},
        {"18446744073709551615", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9},
        {"-9223372036854775808", "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9},
        {"1.5", "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 9},
        {"1.0", "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", 9},
        {"1e2", "\xcb\x40\x59\x00\x00\x00\x00\x00\x00", 9},
        {"1E+2", "\xcb\x40\x59\x00\x00\x00\x00\x00\x00", 9},
        {"-0", "\xcb\x80\x00\x00\x00\x00\x00\x00\x00", 9},
        {"0.0", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", 9},
        {"0e9", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", 9},
        {"1.7976931348623157e308", "\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", 9},
        {"5e-324", "\xcb\x00\x00\x00\x00\x00\x00\x00\x01", 9},
        {"\"\"", "\xa0", 1},
        {"\"a\\u00e4\\n\"",
         "\xa4"
         "a\xc3\xa4\n",
         5},
        {"\"\\u0000\"", "\xa1\x00", 2},
        {"\"\\uD83D\\uDE00\"", "\xa4\xf0\x9f\x98\x80", 5},
        {"\"{[,:]}\\\"\"", "\xa7{[,:]}\"", 8},
        {"[]", "\x90", 1},
        {"{}", "\x80", 1},
        {"[[],{},[1]]", "\x93\x90\x80\x91\x01", 5},
        {" { \"b\" : 1 , \"a\" : [ true , null ] } ",
         "\x82\xa1"
         "b\x01\xa1"
         "a\x92\xc3\xc0",
         9},
        {"{\"k\":1,\"k\":2}", "\x82\xa1k\x01\xa1k\x02", 7},
        {"{\"\\u006b\":{\"\":\"\"}}", "\x81\xa1k\x81\xa0\xa0", 6},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        struct error err = {0};

        print_message("%s\n", cases[i].json);
        assert_int_equal(msgpack_write_json(&out, text_of(cases[i].json), &err), 0);
        assert_int_equal(out.size, cases[i].size);
        assert_memory_equal(out.data, cases[i].bytes, out.size);
        buf_release(&out);
    }
}

static void numbers_beyond_all_types_keep_their_digits(void **state)
{
    static const char *const cases[] = {
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e400",
        "-1e400",
        "1E400",
        "1.7976931348623159e308",
        "1e-400",
        "-2.5e-4000",
        "0.1e-99999999999999999999",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t size = strlen(cases[i]);
        struct buf out = {0};

        print_message("%s\n", cases[i]);
        assert_true(size < 32);
        assert_int_equal(msgpack_write_json(&out, text_of(cases[i]), NULL), 0);
        assert_int_equal(out.size, size + 1);
        assert_int_equal((unsigned char)out.data[0], 0xa0 | size);
        assert_memory_equal(out.data + 1, cases[i], size);
        buf_release(&out);
    }
}

static void a_long_decimal_is_a_double(void **state)
{
    static const char third[] = "\xcb\x3f\xd5\x55\x55\x55\x55\x55\x55";
    struct buf json = {0};
    struct buf out = {0};

    (void)state;
    buf_append_string(&json, "0.");
    for (int i = 0; i < 1000; i++)
        buf_append_char(&json, '3');
    assert_int_equal(msgpack_write_json(&out, buf_text(&json), NULL), 0);
    assert_int_equal(out.size, 9);
    assert_memory_equal(out.data, third, 9);
    buf_release(&out);
    buf_release(&json);
}

static void append_times(struct buf *buf, const char *string, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_append_string(buf, string);
}

static void larger_sizes_have_their_own_heads(void **state)
{
    static const struct {
        const char *element;
        size_t count;
        const char *head;
        size_t head_size;
    } cases[] = {
        {"1", 15, "\x9f", 1},
        {"1", 16, "\xdc\x00\x10", 3},
        {"1", 65536, "\xdd\x00\x01\x00\x00", 5},
        {"\"k\":1", 15, "\x8f", 1},
        {"\"k\":1", 16, "\xde\x00\x10", 3},
        {"\"k\":1", 65536, "\xdf\x00\x01\x00\x00", 5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_map = cases[i].element[0] == '"';
        struct buf json = {0};
        struct buf out = {0};

        buf_append_char(&json, is_map ? '{' : '[');
        buf_append_string(&json, cases[i].element);
        for (size_t n = 1; n < cases[i].count; n++)
            buf_printf(&json, ",%s", cases[i].element);
        buf_append_char(&json, is_map ? '}' : ']');
        assert_int_equal(msgpack_write_json(&out, buf_text(&json), NULL), 0);
        assert_int_equal(out.size, cases[i].head_size + cases[i].count * (is_map ? 3 : 1));
        assert_memory_equal(out.data, cases[i].head, cases[i].head_size);
        buf_release(&out);
        buf_release(&json);
    }
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        struct buf json = {0};
        struct buf out = {0};
        struct error err = {0};
        int rc;

        append_times(&json, "[", depth);
        append_times(&json, "]", depth);
        rc = msgpack_write_json(&out, buf_text(&json), &err);
        if (depth <= JSON_MAX_DEPTH) {
            assert_int_equal(rc, 0);
            assert_int_equal(out.size, depth);
            assert_int_equal((unsigned char)out.data[depth - 1], 0x90);
        } else {
            assert_int_equal(rc, -1);
            assert_int_equal(err.kind, ERROR_INPUT);
            assert_non_null(strstr(err.message, "nested"));
        }
        buf_release(&out);
        buf_release(&json);
    }
}

static double seconds_of_cpu(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* A walk that begins anew in every level needs 2,000 times as long as one that does not. */
static void the_work_does_not_grow_with_the_depth(void **state)
{
    struct buf flat = {0};
    struct buf deep = {0};
    struct buf out = {0};
    double started;
    double flat_s;

    (void)state;
    append_times(&deep, "[", 1000);
    append_times(&flat, "[", 1);
    append_times(&flat, "\"0123456789\",", 100000);
    buf_append_text(&deep, (struct text){flat.data + 1, flat.size - 1});
    append_times(&flat, "1]", 1);
    append_times(&deep, "1", 1);
    append_times(&deep, "]", 1000);
    started = seconds_of_cpu();
    assert_int_equal(msgpack_write_json(&out, buf_text(&flat), NULL), 0);
    flat_s = seconds_of_cpu() - started;
    buf_clear(&out);
    started = seconds_of_cpu();
    assert_int_equal(msgpack_write_json(&out, buf_text(&deep), NULL), 0);
    assert_true(seconds_of_cpu() - started < 20 * flat_s + 0.2);
    buf_release(&out);
    buf_release(&deep);
    buf_release(&flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_become_the_bytes_of_the_specification),
        cmocka_unit_test(numbers_beyond_all_types_keep_their_digits),
        cmocka_unit_test(a_long_decimal_is_a_double),
        cmocka_unit_test(larger_sizes_have_their_own_heads),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(the_work_does_not_grow_with_the_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
