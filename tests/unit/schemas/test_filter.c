#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "schemas/filter.h"

static struct filter *compiled(const char *json)
{
    struct error err = {0};
    struct filter *filter = filter_compile(text_of(json), &err);

    if (!filter)
        fail_msg("%s: %s", json, err.message);
    return filter;
}

static struct event *event_of(const char *action, const char *object)
{
    struct event_origin origin = {.account = text_of("main")};
    struct event *event = event_new(&origin, text_of("{}"), 0);

    assert_non_null(event);
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of("lead")));
    assert_true(event_add_field(event, EVENT_ACTION, text_of(action)));
    assert_true(event_add_field(event, EVENT_OBJECT, text_of(object)));
    return event;
}

static bool passes(const char *filter_json, const char *action, const char *object)
{
    struct filter *filter = compiled(filter_json);
    struct event *event = event_of(action, object);
    bool result = filter_matches(filter, event);

    event_unref(event);
    filter_free(filter);
    return result;
}

/* Applies the filter to a value, as the field "f" of the data. */
static bool value_passes(const char *filter_json, const char *value)
{
    struct buf filter = {0};
    struct buf object = {0};
    bool result;

    buf_printf(&filter, "{\"type\":\"field_accessor\",\"field\":\"f\",\"filter\":%s}", filter_json);
    buf_printf(&object, "{\"id\":\"ev_1\",\"data\":{\"e\":0,\"f\":%s,\"g\":0}}", value);
    print_message("%s of %s\n", filter_json, value);
    result = passes(filter.data, "updated", object.data);
    buf_release(&object);
    buf_release(&filter);
    return result;
}

static void equals_is_typed(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        bool equal;
    } cases[] = {
        {"1", "1", true},
        {"1", "1.0", true},
        {"100", "1e2", true},
        {"0.001", "1E-3", true},
        {"12.50", "1.25e+1", true},
        {"-1", "1", false},
        {"-0", "0", true},
        {"0", "0.000e5", true},
        {"1", "\"1\"", false},
        {"0", "false", false},
        {"1", "true", false},
        {"0", "null", false},
        {"\"\"", "null", false},
        {"[]", "null", false},
        {"{}", "[]", false},
        {"true", "true", true},
        {"true", "false", false},
        {"null", "null", true},
        {"9007199254740993", "9007199254740992", false},
        {"9007199254740993", "9007199254740993.0", true},
        {"1e20", "100000000000000000000", true},
        {"1e400", "10e399", true},
        {"1e400", "1e401", false},
        {"1e400", "-1e400", false},
        {"1e-400", "0", false},
        {"0.1", "0.10000000000000000001", false},
        {"1e99999999999999999999", "1", false},
        {"123456789012345678901234567890", "123456789012345678901234567891", false},
        {"123456789012345678901234567890123456789012345678901234567890123456789",
         "1.23456789012345678901234567890123456789012345678901234567890123456789e68", true},
        {"\"a\"", "\"a\"", true},
        {"\"a\"", "\"\\u0061\"", true},
        {"\"a\"", "\"A\"", false},
        {"\"a\"", "\"a \"", false},
        {"\"\xc3\xa4\\n\"", "\"\\u00e4\\u000a\"", true},
        {"[1,\"x\",null]", " [ 1.0 , \"x\" , null ] ", true},
        {"[1,2]", "[2,1]", false},
        {"[1]", "[1,1]", false},
        {"[]", "[0]", false},
        {"{\"a\":1,\"b\":[2]}", "{\"b\":[2.0],\"\\u0061\":1}", true},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":null}", "{}", false},
        {"{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2}", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int turn = 0; turn < 2; turn++) {
            const char *wanted = turn ? cases[i].a : cases[i].b;
            const char *value = turn ? cases[i].b : cases[i].a;
            struct buf filter = {0};

            buf_printf(&filter, "{\"type\":\"equals\",\"value\":%s}", wanted);
            assert_int_equal(value_passes(filter.data, value), cases[i].equal);
            buf_clear(&filter);
            buf_printf(&filter, "{\"type\":\"not_equals\",\"value\":%s}", wanted);
            assert_int_equal(value_passes(filter.data, value), !cases[i].equal);
            buf_release(&filter);
        }
    }
}

#define EQUALS(value) "{\"type\":\"equals\",\"value\":" value "}"
#define FIELD(field, filter)                                                                       \
    "{\"type\":\"field_accessor\",\"field\":\"" field "\",\"filter\":" filter "}"

static void operators_do_what_close_documents(void **state)
{
    static const struct {
        const char *filter;
        const char *value;
        bool passes;
    } cases[] = {
        {"{\"type\":\"is_null\"}", "null", true},
        {"{\"type\":\"is_null\"}", "0", false},
        {"{\"type\":\"is_null\"}", "\"null\"", false},
        {"{\"type\":\"non_null\"}", "null", false},
        {"{\"type\":\"non_null\"}", "false", true},
        {"{\"type\":\"non_null\"}", "[]", true},
        {"{\"type\":\"contains\",\"value\":\"b\"}", "[\"a\",\"b\"]", true},
        {"{\"type\":\"contains\",\"value\":\"b\"}", "[\"abc\"]", false},
        {"{\"type\":\"contains\",\"value\":1}", "[2,1.0]", true},
        {"{\"type\":\"contains\",\"value\":1}", "[\"1\"]", false},
        {"{\"type\":\"contains\",\"value\":[1]}", "[[1]]", true},
        {"{\"type\":\"contains\",\"value\":[1]}", "[1]", false},
        {"{\"type\":\"contains\",\"value\":null}", "[null]", true},
        {"{\"type\":\"contains\",\"value\":\"x\"}", "[]", false},
        {"{\"type\":\"contains\",\"value\":\"rav\"}", "\"Travel\"", true},
        {"{\"type\":\"contains\",\"value\":\"RAV\"}", "\"Travel\"", false},
        {"{\"type\":\"contains\",\"value\":\"\"}", "\"\"", true},
        {"{\"type\":\"contains\",\"value\":\"\\u00e4\"}", "\"\xc3\xa4\"", true},
        {"{\"type\":\"contains\",\"value\":\"n\"}", "\"\\n\"", false},
        {"{\"type\":\"contains\",\"value\":1}", "\"1\"", false},
        {"{\"type\":\"contains\",\"value\":1}", "1", false},
        {"{\"type\":\"contains\",\"value\":\"a\"}", "{\"a\":1}", false},
        {"{\"type\":\"contains\",\"value\":\"a\"}", "null", false},
        {"{\"type\":\"and\",\"filters\":[" EQUALS("1") ",{\"type\":\"non_null\"}]}", "1", true},
        {"{\"type\":\"and\",\"filters\":[" EQUALS("1") "," EQUALS("2") "]}", "1", false},
        {"{\"type\":\"and\",\"filters\":[" EQUALS("2") "," EQUALS("1") "]}", "1", false},
        {"{\"type\":\"or\",\"filters\":[" EQUALS("2") "," EQUALS("1") "]}", "1", true},
        {"{\"type\":\"or\",\"filters\":[" EQUALS("2") "," EQUALS("3") "]}", "1", false},
        {"{\"type\":\"not\",\"filter\":" EQUALS("1") "}", "1", false},
        {"{\"type\":\"not\",\"filter\":" EQUALS("1") "}", "2", true},
        {"{\"type\":\"any_array_value\",\"filter\":" EQUALS("1") "}", "[0,1]", true},
        {"{\"type\":\"any_array_value\",\"filter\":" EQUALS("1") "}", "[0,2]", false},
        {"{\"type\":\"any_array_value\",\"filter\":" EQUALS("1") "}", "[]", false},
        {"{\"type\":\"any_array_value\",\"filter\":" EQUALS("1") "}", "1", false},
        {"{\"type\":\"any_array_value\",\"filter\":" EQUALS("1") "}", "{\"a\":1}", false},
        {"{\"type\":\"any_array_value\",\"filter\":{\"type\":\"and\",\"filters\":[" FIELD(
             "state", EQUALS("\"MD\"")) "," FIELD("country", EQUALS("\"US\"")) "]}}",
         "[{\"state\":\"MD\",\"country\":\"DE\"},{\"state\":\"CA\",\"country\":\"US\"}]", false},
        {"{\"type\":\"any_array_value\",\"filter\":{\"type\":\"and\",\"filters\":[" FIELD(
             "state", EQUALS("\"MD\"")) "," FIELD("country", EQUALS("\"US\"")) "]}}",
         "[{\"state\":\"CA\",\"country\":\"US\"},{\"state\":\"MD\",\"country\":\"US\"}]", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(value_passes(cases[i].filter, cases[i].value), cases[i].passes);
}

static void fields_are_found(void **state)
{
    static const char object[] =
        "{\"id\":\"ev_1\",\"user_id\":\"user_e\",\"request_id\":null,\"changed_fields\":[\"name\"],"
        "\"meta\":{\"path\":\"/x\",\"none\":null},\"data\":{\"user_id\":\"user_d\",\"request_id\":"
        "\"req\",\"name\":\"Bluth\",\"custom.cf_x\":\"flat\",\"custom\":{\"cf_x\":\"nested\","
        "\"cf_y\":\"nested\"},\"list\":[{\"name\":1}],\"nothing\":null,\"quo\\\"te\":\"q\","
        "\"meta\":{\"none\":1}},\"previous_data\":{\"name\":\"Old\"}}";
    static const struct {
        const char *field;
        const char *expected; /* JSON */
    } cases[] = {
        {"name", "\"Bluth\""},
        {"custom.cf_x", "\"flat\""},
        {"custom.cf_y", "\"nested\""},
        {"custom.cf_z", "null"},
        {"custom.cf_x.more", "null"},
        {"missing", "null"},
        {"nothing", "null"},
        {"nothing.at.all", "null"},
        {"name.first", "null"},
        {"list.name", "null"},
        {"quo\\\"te", "\"q\""},
        /* As at Close the event's own members come first; Close reads no others. */
        {"user_id", "\"user_e\""},
        {"request_id", "null"},
        {"changed_fields", "[\"name\"]"},
        {"meta.path", "\"/x\""},
        {"meta.none", "null"},
        {"data.user_id", "\"user_d\""},
        {"data.custom.cf_x", "\"flat\""},
        {"previous_data.name", "\"Old\""},
        {".", "null"},
        {"..", "null"},
        {"name.", "null"},
        {".name", "null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf filter = {0};

        print_message("%s\n", cases[i].field);
        buf_printf(&filter, FIELD("%s", "{\"type\":\"equals\",\"value\":%s}"), cases[i].field,
                   cases[i].expected);
        assert_true(passes(filter.data, "updated", object));
        buf_release(&filter);
    }
}

static void a_deletion_is_judged_by_what_was_there(void **state)
{
    static const char object[] =
        "{\"data\":{\"name\":\"new\"},\"previous_data\":{\"name\":\"old\"}}";

    (void)state;
    assert_true(passes(FIELD("name", EQUALS("\"old\"")), "deleted", object));
    assert_false(passes(FIELD("name", EQUALS("\"new\"")), "deleted", object));
    assert_true(passes(FIELD("name", EQUALS("\"new\"")), "updated", object));
    assert_true(
        passes(FIELD("previous_data", FIELD("name", EQUALS("\"old\""))), "deleted", object));
}

static void data_that_is_missing_or_null_has_only_null_fields(void **state)
{
    static const char *const objects[] = {"{\"id\":\"ev_1\"}", "{\"id\":\"ev_1\",\"data\":null}",
                                          "{\"id\":\"ev_1\",\"data\":[]}",
                                          "{\"id\":\"ev_1\",\"data\":\"name\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        assert_true(passes(FIELD("name", "{\"type\":\"is_null\"}"), "updated", objects[i]));
        assert_true(passes(FIELD("id", EQUALS("\"ev_1\"")), "updated", objects[i]));
    }
}

static void what_is_no_event_passes_no_filter(void **state)
{
    struct event_origin origin = {.account = text_of("main")};
    struct event *event = event_opaque(&origin, text_of("no JSON"));
    struct filter *filter = compiled(FIELD("name", "{\"type\":\"is_null\"}"));

    (void)state;
    assert_non_null(event);
    assert_false(filter_matches(filter, event));
    filter_free(filter);
    event_unref(event);
}

static void a_filter_serves_many_events(void **state)
{
    struct filter *filter = compiled(FIELD("n", EQUALS("2")));
    struct event *two = event_of("updated", "{\"data\":{\"n\":2}}");
    struct event *three = event_of("updated", "{\"data\":{\"n\":3}}");

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(filter_matches(filter, two));
        assert_false(filter_matches(filter, three));
    }
    event_unref(two);
    event_unref(three);
    filter_free(filter);
}

static void close_gets_one_accessor_for_each_key(void **state)
{
    static const struct {
        const char *filter;
        bool is_deletion;
        const char *for_close;
    } cases[] = {
        /* members of the event */
        {FIELD("user_id", EQUALS("1")), false, FIELD("user_id", EQUALS("1"))},
        {FIELD("user_id", EQUALS("1")), true, FIELD("user_id", EQUALS("1"))},
        {FIELD("data", FIELD("name", EQUALS("1"))), true,
         FIELD("data", FIELD("name", EQUALS("1")))},
        /* of data, or previous_data */
        {FIELD("name", EQUALS("1")), false, FIELD("data", FIELD("name", EQUALS("1")))},
        {FIELD("name", EQUALS("1")), true, FIELD("previous_data", FIELD("name", EQUALS("1")))},
        {FIELD("name", FIELD("name", EQUALS("1"))), false,
         FIELD("data", FIELD("name", FIELD("name", EQUALS("1"))))},
        {FIELD("name", FIELD("user_id", EQUALS("1"))), false,
         FIELD("data", FIELD("name", FIELD("user_id", EQUALS("1"))))},
        /* paths, and keys with a dot */
        {FIELD("data.name", EQUALS("1")), false, FIELD("data", FIELD("name", EQUALS("1")))},
        {FIELD("custom.cf_x", EQUALS("1")), false,
         FIELD("data", FIELD("custom.cf_x", EQUALS("1")))},
        {FIELD("data.custom.cf_x", EQUALS("1")), false,
         FIELD("data", FIELD("custom.cf_x", EQUALS("1")))},
        {FIELD("a.b.c", EQUALS("1")), false,
         FIELD("data", FIELD("a", FIELD("b", FIELD("c", EQUALS("1")))))},
        {FIELD("data", FIELD("a.b", EQUALS("1"))), false,
         FIELD("data", FIELD("a", FIELD("b", EQUALS("1"))))},
        {FIELD("customer", EQUALS("1")), false, FIELD("data", FIELD("customer", EQUALS("1")))},
        {FIELD("a\\\"b", EQUALS("1")), false, FIELD("data", FIELD("a\\\"b", EQUALS("1")))},
        /* what stays at the root, and what leaves it */
        {"{\"type\":\"not\",\"filter\":{\"type\":\"and\",\"filters\":[" FIELD(
             "name", EQUALS("1")) "," FIELD("user_id", EQUALS("[1]")) "]}}",
         false,
         "{\"type\":\"not\",\"filter\":{\"type\":\"and\",\"filters\":[" FIELD(
             "data", FIELD("name", EQUALS("1"))) "," FIELD("user_id", EQUALS("[1]")) "]}}"},
        {FIELD("list", "{\"type\":\"any_array_value\",\"filter\":" FIELD("name", EQUALS("1")) "}"),
         false,
         FIELD("data", FIELD("list", "{\"type\":\"any_array_value\",\"filter\":" FIELD(
                                         "name", EQUALS("1")) "}"))},
        {FIELD("changed_fields", "{\"type\":\"contains\",\"value\":\"status\"}"), false,
         FIELD("changed_fields", "{\"type\":\"contains\",\"value\":\"status\"}")},
        {"{\"type\":\"non_null\"}", false, "{\"type\":\"non_null\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct filter *filter = compiled(cases[i].filter);
        struct buf json = {0};

        filter_append_for_close(filter, cases[i].is_deletion, &json);
        assert_string_equal(json.data, cases[i].for_close);
        filter_free(compiled(json.data));
        buf_release(&json);
        filter_free(filter);
    }
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *json;
        const char *says; /* part of the message */
    } cases[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"{\"type\":tru}", "not JSON"},
        {"{\"type\":\"is_null\"} x", "not JSON"},
        {"null", "mapping"},
        {"[]", "mapping"},
        {"\"equals\"", "mapping"},
        {"{}", "needs a type"},
        {"{\"type\":1}", "needs a type"},
        {"{\"type\":\"equal\",\"value\":1}", "\"equal\"; there are equals, not_equals"},
        {"{\"type\":\"EQUALS\",\"value\":1}", "\"EQUALS\""},
        {"{\"type\":\"equals\"}", "equals needs a value"},
        {"{\"type\":\"contains\"}", "contains needs a value"},
        {"{\"type\":\"and\"}", "and needs filters"},
        {"{\"type\":\"and\",\"filters\":{}}", "and needs filters"},
        {"{\"type\":\"or\",\"filters\":[]}", "or needs at least one"},
        {"{\"type\":\"or\",\"filters\":[1]}", "mapping"},
        {"{\"type\":\"not\"}", "not needs a filter"},
        {"{\"type\":\"not\",\"filter\":{\"type\":\"nor\"}}", "\"nor\""},
        {"{\"type\":\"any_array_value\"}", "any_array_value needs a filter"},
        {"{\"type\":\"field_accessor\",\"field\":\"a\"}", "field_accessor needs a filter"},
        {"{\"type\":\"field_accessor\",\"filter\":" EQUALS("1") "}", "needs a field"},
        {FIELD("", EQUALS("1")), "needs a field"},
        {FIELD("a\\u0000b", EQUALS("1")), "NUL"},
        {"{\"type\":\"field_accessor\",\"field\":1,\"filter\":" EQUALS("1") "}", "needs a field"},
        {"{\"type\":\"equals\",\"value\":1,\"values\":[]}", "\"values\""},
        {"{\"type\":\"is_null\",\"value\":1}", "is_null has no member \"value\""},
        {"{\"type\":\"equals\",\"value\":1,\"field\":\"a\"}", "equals has no member \"field\""},
        {"{\"type\":\"not\",\"filters\":[" EQUALS("1") "]}", "not has no member \"filters\""},
        {"{\"type\":\"equals\",\"value\":1,\"value\":2}", "\"value\" twice"},
        {"{\"type\":\"equals\",\"value\":1,\"\\u0076alue\":2}", "\"value\" twice"},
        {"{\"type\":\"equals\",\"value\":01}", "not JSON"},
        {"{\"type\":\"equals\",\"value\":[1e400,tru]}", "not JSON"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};

        print_message("%s\n", cases[i].json);
        assert_null(filter_compile(text_of(cases[i].json), &err));
        assert_int_equal(err.kind, ERROR_CONFIG);
        if (!strstr(err.message, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
    }
}

static struct filter *nested(size_t depth, const char *begin, const char *middle, const char *end,
                             struct error *err)
{
    struct buf json = {0};
    struct filter *filter;

    for (size_t i = 0; i < depth; i++)
        buf_append_string(&json, begin);
    buf_append_string(&json, middle);
    for (size_t i = 0; i < depth; i++)
        buf_append_string(&json, end);
    filter = filter_compile(buf_text(&json), err);
    buf_release(&json);
    return filter;
}

static void depth_and_size_are_bounded(void **state)
{
    static const char not_[] = "{\"type\":\"not\",\"filter\":";
    struct buf large = {0};
    struct error err = {0};
    struct filter *filter;

    (void)state;
    filter = nested(32, not_, EQUALS("1"), "}", &err);
    assert_non_null(filter);
    filter_free(filter);
    assert_null(nested(33, not_, EQUALS("1"), "}", &err));
    assert_non_null(strstr(err.message, "nested"));
    assert_null(nested(500, not_, EQUALS("1"), "}", &err));
    err = (struct error){0};
    assert_null(nested(2000, not_, EQUALS("1"), "}", &err));
    assert_non_null(strstr(err.message, "nested"));

    filter = nested(1, "{\"type\":\"equals\",\"value\":[[[[[[[[[[1", "]]]]]]]]]]", "}", &err);
    assert_non_null(filter);
    filter_free(filter);
    err = (struct error){0};
    assert_null(nested(1, "{\"type\":\"equals\",\"value\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1",
                       "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "}", &err));
    assert_int_equal(err.kind, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "nested"));

    buf_append_string(&large, EQUALS("1"));
    while (large.size < (size_t)64 * 1024)
        buf_append_char(&large, ' ');
    filter = filter_compile(buf_text(&large), &err);
    assert_non_null(filter);
    filter_free(filter);
    buf_append_char(&large, ' ');
    assert_null(filter_compile(buf_text(&large), &err));
    assert_non_null(strstr(err.message, "65536 bytes"));
    buf_release(&large);
}

static void the_text_for_close_is_normal(void **state)
{
    static const struct {
        const char *json;
        const char *normal;
    } cases[] = {
        {" { \"type\" : \"is_null\" } ", "{\"type\":\"is_null\"}"},
        {"{\"value\": \"a\\u0062\\n\\/\\ud83d\\ude00\", \"type\": \"equals\"}",
         "{\"type\":\"equals\",\"value\":\"ab\\u000a/\xf0\x9f\x98\x80\"}"},
        {"{\"\\u0074ype\":\"equals\",\"value\":{\"b\" : [1.50, true , null], \"a\":\"x y\"}}",
         "{\"type\":\"equals\",\"value\":{\"b\":[1.50,true,null],\"a\":\"x y\"}}"},
        {"{\"filter\": {\"value\":1 ,\"type\":\"not_equals\"}, \"field\":\"a \\\"b\", \"type\":"
         "\"field_accessor\"}",
         FIELD("a \\\"b", "{\"type\":\"not_equals\",\"value\":1}")},
        {"{\"type\":\"and\",\n\"filters\":[ " EQUALS(
             "1") " , {\"type\":\"not\",\"filter\":"
                  "{\"type\":\"any_array_value\", \"filter\":{\"type\":\"non_null\"}}}]}",
         "{\"type\":\"and\",\"filters\":[" EQUALS(
             "1") ",{\"type\":\"not\",\"filter\":"
                  "{\"type\":\"any_array_value\",\"filter\":{\"type\":\"non_null\"}}}]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct filter *filter = compiled(cases[i].json);
        struct text json = filter_json(filter);
        struct filter *again;

        if (!text_equal_string(json, cases[i].normal))
            fail_msg("%.*s is not %s", (int)json.size, json.data, cases[i].normal);
        again = filter_compile(json, NULL);
        assert_non_null(again);
        assert_true(text_equal(filter_json(again), json));
        filter_free(again);
        filter_free(filter);
    }
    filter_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_is_typed),
        cmocka_unit_test(operators_do_what_close_documents),
        cmocka_unit_test(fields_are_found),
        cmocka_unit_test(a_deletion_is_judged_by_what_was_there),
        cmocka_unit_test(data_that_is_missing_or_null_has_only_null_fields),
        cmocka_unit_test(what_is_no_event_passes_no_filter),
        cmocka_unit_test(a_filter_serves_many_events),
        cmocka_unit_test(close_gets_one_accessor_for_each_key),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(the_text_for_close_is_normal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
