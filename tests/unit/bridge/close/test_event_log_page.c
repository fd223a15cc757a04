#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/close/event_log_page.h"
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

static struct text documented(void)
{
    FILE *file = fopen(TEST_DATA "/close/doc-GET-event-list-200.json", "rb");
    size_t size;

    assert_non_null(file);
    memset(bytes, 0, sizeof(bytes));
    size = fread(bytes, 1, sizeof(bytes) - JSON_PADDING, file);
    fclose(file);
    return (struct text){bytes, size};
}

static void the_documented_page_is_read(void **state)
{
    struct log_page page;
    struct error err;

    (void)state;
    assert_int_equal(event_log_page_parse(documented(), &page, &err), 0);
    assert_int_equal(page.count, 0);
    assert_string_equal(page.cursor_next, "cursor2");
    event_log_page_release(&page);
}

static void entries_are_slices_in_the_order_of_the_page(void **state)
{
    struct log_page page;
    struct error err;

    (void)state;
    assert_int_equal(event_log_page_parse(
                         padded("{\"data\": [ {\"id\":\"ev_2\", \"n\": 1e400, "
                                "\"date_updated\":\"2025-09-04T07:27:17.674000\", \"data\": null} ,"
                                "{\"id\":\"ev_1\",\"date_updated\":\"2025-09-04T09:27:17.5+02:00\","
                                "\"previous_data\":{}},"
                                "{\"id\":\"ev_0\",\"date_updated\":7}, [], \"x\"],"
                                "\"cursor_next\":\"a\\u002fb\",\"cursor_previous\":null}"),
                         &page, &err),
                     0);
    assert_int_equal(page.count, 5);
    assert_string_equal(page.cursor_next, "a/b");
    assert_true(page.entries[0].has_date && page.entries[0].has_data);
    assert_int_equal(page.entries[0].date_ms, INT64_C(1756970837674));
    assert_memory_equal(page.entries[0].json.data, "{\"id\":\"ev_2\", \"n\": 1e400", 24);
    assert_int_equal(page.entries[0].json.data[page.entries[0].json.size - 1], '}');
    assert_int_equal(page.entries[1].date_ms, INT64_C(1756970837500));
    assert_true(page.entries[1].has_data);
    assert_false(page.entries[2].has_date || page.entries[2].has_data);
    assert_false(page.entries[3].has_date);
    assert_memory_equal(page.entries[4].json.data, "\"x\"", 3);
    event_log_page_release(&page);
}

static void the_last_page_has_no_cursor(void **state)
{
    static const char *const pages[] = {
        "{\"data\":[]}", "{\"data\":[],\"cursor_next\":null}",
        "{\"data\":[],\"cursor_next\":null,\"cursor_previous\":\"x\"}"};
    struct log_page page;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        assert_int_equal(event_log_page_parse(padded(pages[i]), &page, &err), 0);
        assert_null(page.cursor_next);
        event_log_page_release(&page);
    }
}

static void what_is_no_page_is_refused(void **state)
{
    static const struct {
        const char *json;
        enum error_kind kind;
    } cases[] = {
        {"", ERROR_TRANSIENT},
        {"<html>", ERROR_TRANSIENT},
        {"{\"data\":[{\"id\":\"ev_1\"", ERROR_TRANSIENT},
        {"{\"data\":[1e400,x]}", ERROR_TRANSIENT},
        {"[]", ERROR_CONFIG},
        {"{}", ERROR_CONFIG},
        {"{\"data\":{}}", ERROR_CONFIG},
        {"{\"data\":[],\"cursor_next\":\"\"}", ERROR_CONFIG},
        {"{\"data\":[],\"cursor_next\":\"a\\u0000b\"}", ERROR_CONFIG},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct log_page page;
        struct error err = {0};

        assert_int_equal(event_log_page_parse(padded(cases[i].json), &page, &err), -1);
        assert_int_equal(err.kind, cases[i].kind);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_page_is_read),
        cmocka_unit_test(entries_are_slices_in_the_order_of_the_page),
        cmocka_unit_test(the_last_page_has_no_cursor),
        cmocka_unit_test(what_is_no_page_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
