#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"
#include "schemas/json_tokens.h"

static void strings_are_decoded(void **state)
{
    static const struct {
        const char *inside;
        const char *plain; /* NULL: not a string of JSON */
        size_t size;
    } cases[] = {
        {"", "", 0},
        {"plain", "plain", 5},
        {"a\\\"b\\\\c\\/d", "a\"b\\c/d", 7},
        {"\\b\\f\\n\\r\\t", "\b\f\n\r\t", 5},
        {"\\u0041\\u00e4\\u20AC\\uD83D\\uDE00", "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10},
        {"\\u0000", "\0", 1},
        {"\\\\u0041", "\\u0041", 6},
        {"\\", NULL, 0},
        {"\\x", NULL, 0},
        {"\\u004", NULL, 0},
        {"\\ud83d", NULL, 0},
        {"\\ud83d\\u0041", NULL, 0},
        {"\\ude00", NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        bool ok = json_unescape(text_of(cases[i].inside), &out);

        print_message("%s\n", cases[i].inside);
        assert_int_equal(ok, cases[i].plain != NULL);
        if (ok) {
            assert_int_equal(out.size, cases[i].size);
            if (out.size)
                assert_memory_equal(out.data, cases[i].plain, out.size);
        }
        buf_release(&out);
    }
}

static void blanked_numbers_keep_every_other_byte_in_its_place(void **state)
{
    static const struct {
        const char *json;
        const char *blanked;
    } cases[] = {
        {"{\"a1\":12.5e-3,\"b\":[0,-0,1e400]}", "{\"a1\":0      ,\"b\":[0,0 ,0    ]}"},
        {"\"12\\\"34\"", "\"12\\\"34\""},
        {"[true,null]", "[true,null]"},
        {"[01]", NULL},
        {"[-]", NULL},
        {"[1.]", NULL},
        {"[1e]", NULL},
        {"[1e+]", NULL},
        {"[.5]", "[.0]"}, /* the parser refuses that one */
        {"[1x]", NULL},
        {"[1\"\"]", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        bool ok = json_blank_numbers(text_of(cases[i].json), &out);

        print_message("%s\n", cases[i].json);
        assert_int_equal(ok, cases[i].blanked != NULL);
        if (ok)
            assert_string_equal(out.data, cases[i].blanked);
        buf_release(&out);
    }
}

/* Finds the member `name` of the document's object by both walks, which must agree. */
static void assert_member(const char *json, const char *name, const char *expected)
{
    size_t size = strlen(json);
    char *padded = calloc(1, size + JSON_PADDING);
    struct json_reader *reader = json_reader_new();
    struct text document;
    struct text key;
    struct text value;
    struct text scanned = {NULL, 0};
    struct json_cursor cursor;
    struct json_tokens tokens;
    struct json_member member;
    size_t token = 0;
    const char *found = NULL;

    assert_non_null(padded);
    assert_non_null(reader);
    memcpy(padded, json, size + 1);
    assert_int_equal(json_reader_check(reader, padded, size), JSON_VALID);
    document = json_document((struct text){padded, size});
    assert_true(json_object_begin(&cursor, document));
    while (json_object_next(&cursor, &key, &value)) {
        if (text_equal_string(key, name))
            scanned = value;
    }
    json_reader_tokens(reader, padded, &tokens);
    while (json_token_member(&tokens, &token, &member)) {
        if (!text_equal_string(member.key, name))
            continue;
        value = json_token_value(&tokens, member.value);
        found = value.data;
        assert_true(text_equal_string(value, expected));
    }
    assert_ptr_equal(found, scanned.data);
    assert_true(text_equal_string(scanned, expected));
    assert_true(text_equal(json_token_span(&tokens, 0, token), document));
    json_reader_free(reader);
    free(padded);
}

static void both_walks_find_the_bytes_of_a_member(void **state)
{
    (void)state;
    assert_member("{\"a\":1}", "a", "1");
    assert_member("{\"a\":1 , \"b\" : \"x\"}", "a", "1");
    assert_member(" \n{ \"a\" :\t-1.5e3\r\n}\n ", "a", "-1.5e3");
    assert_member("{\"x\":{\"a\":0},\"y\":[{\"a\":0},[]],\"a\":\"\"}", "a", "\"\"");
    assert_member("{\"x\":\"}],{[\\\"a\\\":1\\\\\",\"a\":true}", "a", "true");
    assert_member("{\"x\":{},\"a\":{}}", "a", "{}");
    assert_member("{\"a\": { \"b\" : [ ] } }", "a", "{ \"b\" : [ ] }");
    assert_member("{\"a\":[1,[2,{\"c\":3}]]}", "a", "[1,[2,{\"c\":3}]]");
    assert_member("{\"a\":\"  \"  }", "a", "\"  \"");
    assert_member("{\"a\":null}", "a", "null");
}

static void an_empty_object_has_no_members(void **state)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    (void)state;
    assert_true(json_object_begin(&cursor, text_of("{ }")));
    assert_false(json_object_next(&cursor, &key, &value));
    assert_false(json_object_begin(&cursor, text_of("[]")));
    assert_true(json_array_begin(&cursor, text_of("[]")));
    assert_false(json_array_next(&cursor, &value));
}

static void a_reader_survives_large_and_small_texts(void **state)
{
    static const size_t sizes[] = {2, 3000000, 20, 70000, 1 << 20, 5000000, 2};
    static const char piece[] = {'"', '"', ',', ' '};
    struct json_reader *reader = json_reader_new();
    char *json = malloc(5000000 + JSON_PADDING);

    (void)state;
    assert_non_null(reader);
    assert_non_null(json);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memset(json, ' ', sizes[i] + JSON_PADDING);
        for (size_t at = 1; at + 5 < sizes[i]; at += 4)
            memcpy(json + at, piece, sizeof(piece));
        json[0] = '[';
        if (sizes[i] > 2)
            json[sizes[i] - 2] = '7';
        json[sizes[i] - 1] = ']';
        assert_int_equal(json_reader_check(reader, json, sizes[i]), JSON_VALID);
    }
    json_reader_free(reader);
    free(json);
}

static void tokens_come_in_their_order(void **state)
{
    static const char *const expected[] = {"{",        "\"a,:\"", "[", "1",     "-2e3", "]",
                                           "\"\\\"\"", "{",       "}", "\"n\"", "null", "}"};
    struct json_cursor cursor;
    struct text token;

    (void)state;
    json_tokens_begin(&cursor, text_of(" {\"a,:\" : [1 ,-2e3], \"\\\"\":{},\n\"n\":null } "));
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(json_tokens_next(&cursor, &token));
        assert_true(text_equal_string(token, expected[i]));
    }
    assert_false(json_tokens_next(&cursor, &token));
    assert_false(json_tokens_next(&cursor, &token));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(blanked_numbers_keep_every_other_byte_in_its_place),
        cmocka_unit_test(both_walks_find_the_bytes_of_a_member),
        cmocka_unit_test(an_empty_object_has_no_members),
        cmocka_unit_test(a_reader_survives_large_and_small_texts),
        cmocka_unit_test(tokens_come_in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
