/*
 * Bodies that are no events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "tests/unit/schemas/event_parser_fixture.h"

static void append_nested(struct buf *body, int depth)
{
    struct buf members = {0};

    buf_append_string(&members, ", \"data\": ");
    for (int i = 0; i < depth; i++)
        buf_append_string(&members, i % 2 ? "[" : "{\"a\":");
    buf_append_string(&members, "1");
    for (int i = depth; i-- > 0;)
        buf_append_string(&members, i % 2 ? "]" : "}");
    fixture_with_members(body, members.data);
    buf_release(&members);
}

static void nesting_has_a_limit(void **state)
{
    struct buf body = {0};

    (void)state;
    append_nested(&body, 100);
    event_unref(fixture_accept(event_parse, buf_text(&body)));
    append_nested(&body, 1000);
    event_unref(fixture_accept(event_parse, buf_text(&body)));
    append_nested(&body, 2000);
    fixture_assert_refused(buf_text(&body), "nested deeper than 1024");
    append_nested(&body, 200000);
    fixture_assert_refused(buf_text(&body), "nested deeper than 1024");
    buf_release(&body);
}

static void what_is_not_json_is_refused(void **state)
{
    static const char *const endings[] = {
        ", \"data\": tru}}",
        ", \"data\": [1,2}}}",
        ", \"data\": \"\\ud83d\"}}",
        ", \"data\": \"\\ude00\"}}",
        ", \"data\": \"\\ud83d\\u0041\"}}",
        ", \"data\": {\"\\ud83d\": 1}}}",
        ", \"data\": \"\xff\"}}",
        ", \"data\": \"\xc0\xaf\"}}",
        ", \"data\": \"\xed\xa0\x80\"}}",
        ", \"data\": \"a\tb\"}}",
        ", \"data\": \"\\x\"}}",
        ", \"data\": \"\\u12g4\"}}",
        ", \"data\": 01}}",
        ", \"data\": +1}}",
        ", \"data\": 1.}}",
        ", \"data\": .5}}",
        ", \"data\": 0x10}}",
        ", \"data\": NaN}}",
        ", \"data\": -}}",
        ", \"data\": 1e}}",
        ", \"data\": [1e400, 01]}}",
        ", \"data\": [1e400, tru]}}",
        ", \"data\": [1e400 1]}}",
        ", \"data\": [1e400x]}}",
        ", \"data\": [1e400\"\"]}}",
        ", \"data\": [1e400, \"\\ud83d\"]}}",
        ", \"data\": [1,]}}",
        ", \"data\": {\"a\"}}}",
        ", \"data\": {\"a\":}}}",
        ", \"data\": {a: 1}}}",
        ", \"data\": 'a'}}",
        ", \"data\": /**/ 1}}",
        ",}}",
        "}",
        "",
        "}}}",
        "}} x",
        "}}{}",
        "}}\n{\"event\": {}}",
        "}},",
        "}}\"",
    };
    struct buf body = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        buf_clear(&body);
        buf_append_string(&body, "{\"event\": {\"id\": \"ev_1\", \"object_type\": \"lead\", "
                                 "\"action\": \"created\"");
        buf_append_string(&body, endings[i]);
        fixture_assert_refused(buf_text(&body), "the body is not JSON");
    }
    fixture_with_members(&body, "");
    buf_append_char(&body, '\0');
    fixture_assert_refused(buf_text(&body), "the body is not JSON");
    buf_release(&body);
    fixture_assert_refused(text_of(""), "not JSON");
    fixture_assert_refused(text_of(" \n"), "not JSON");
    fixture_assert_refused(text_of("\xef\xbb\xbf{\"event\":{\"id\":\"e\",\"object_type\":\"a\","
                                   "\"action\":\"b\"}}"),
                           "not JSON");
}

static void json_that_is_no_event_is_refused(void **state)
{
    static const struct {
        const char *body;
        const char *reason;
    } cases[] = {
        {"[]", "not a JSON object"},
        {"null", "not a JSON object"},
        {"1e400", "not a JSON object"},
        {"\"event\"", "not a JSON object"},
        {"[{\"event\":{\"id\":\"e\",\"object_type\":\"a\",\"action\":\"b\"}}]",
         "not a JSON object"},
        {"{}", "has no event"},
        {"{\"Event\":{\"id\":\"e\",\"object_type\":\"a\",\"action\":\"b\"}}", "has no event"},
        {"{\"event\":null}", "neither an object nor a name"},
        {"{\"event\":[]}", "neither an object nor a name"},
        {"{\"event\":5}", "neither an object nor a name"},
        {"{\"event\":{}}", "has no id"},
        {"{\"event\":{\"object_type\":\"a\",\"action\":\"b\"}}", "has no id"},
        {"{\"event\":{\"id\":null,\"object_type\":\"a\",\"action\":\"b\"}}", "has no id"},
        {"{\"event\":{\"id\":5,\"object_type\":\"a\",\"action\":\"b\"}}", "has no id"},
        {"{\"event\":{\"id\":\"\",\"object_type\":\"a\",\"action\":\"b\"}}", "has no id"},
        {"{\"event\":{\"id\":\"e\",\"action\":\"b\"}}", "object_type is missing"},
        {"{\"event\":{\"id\":\"e\",\"object_type\":\"a\"}}", "action is missing"},
        {"{\"event\":{\"id\":\"e\",\"object_type\":[\"a\"],\"action\":\"b\"}}",
         "object_type is missing"},
        {"{\"event\":\"created\",\"id\":\"e\"}", "no object type before a dot"},
        {"{\"event\":\"\",\"id\":\"e\"}", "no object type before a dot"},
        {"{\"event\":\".created\",\"id\":\"e\"}", "not an object type and an action"},
        {"{\"event\":\"lead.\",\"id\":\"e\"}", "not an object type and an action"},
        {"{\"event\":\"lead..created\",\"id\":\"e\"}", "not an object type and an action"},
        {"{\"event\":\"le\\u0000ad.created\",\"id\":\"e\"}", "not an object type and an action"},
        {"{\"event\":\"lead.created\"}", "has no id"},
        {"{\"event\":\"lead.created\",\"id\":7}", "has no id"},
        {"{\"event\":\"lead.created\",\"id\":\"\"}", "has no id"},
        {"{\"event\":\"lead.created\",\"id\":\"\\u0000\"}", "control characters"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        fixture_assert_refused(text_of(cases[i].body), cases[i].reason);
}

static void hostile_ids_and_names_are_refused(void **state)
{
    static const char *const ids[] = {"\\u0000", "a\\u0000b", "a\\u001fb", "a\\u007f",   "a\x7f",
                                      "\\r\\n",  "a\\tb",     "a\\u0085",  "a\xc2\x9fz", "\\uffff"};
    static const char *const names[] = {
        "",    "../x",     "$SYS/x",   "a+b",       "#",     "+",     "a/b",
        "a b", "a\\r\\nb", "a\\u0000", "\\u0000",   ".",     "..",    "a.",
        ".a",  "a..b",     "a{b}",     "a\xc3\xa4", "a%2fb", "\\\"",  "a\\\\b",
        "a,b", "a:b",      "*",        "a.*",       " lead", "lead ", "lead\\u000a",
    };
    char long_text[301];
    char body[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"%s\",\"object_type\":\"a\",\"action\":\"b\"}}", ids[i]);
        fixture_assert_refused(text_of(body), "control characters");
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"e\",\"object_type\":\"%s\",\"action\":\"b\"}}", names[i]);
        fixture_assert_refused(text_of(body), "object_type is missing or not of letters");
        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"e\",\"object_type\":\"a\",\"action\":\"%s\"}}", names[i]);
        fixture_assert_refused(text_of(body), "action is missing or not of letters");
    }
    memset(long_text, 'a', 300);
    long_text[300] = '\0';
    snprintf(body, sizeof(body),
             "{\"event\":{\"id\":\"e\",\"object_type\":\"%s\",\"action\":\"b\"}}", long_text);
    fixture_assert_refused(text_of(body), "at most 128");
    snprintf(body, sizeof(body),
             "{\"event\":{\"id\":\"%s\",\"object_type\":\"a\",\"action\":\"b\"}}", long_text);
    fixture_assert_refused(text_of(body), "longer than 256 bytes");
    snprintf(body, sizeof(body), "{\"event\":\"%s.b\",\"id\":\"e\"}", long_text);
    fixture_assert_refused(text_of(body), "not an object type and an action");
}

static void limits_are_reached_but_not_passed(void **state)
{
    static const struct {
        int id;
        int type;
        int action;
        bool ok;
    } cases[] = {{256, 128, 128, true}, {257, 1, 1, false}, {1, 129, 1, false}, {1, 1, 129, false}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[1024];
        struct event *event;

        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"%0*d\",\"object_type\":\"%0*d\",\"action\":\"%0*d\"}}",
                 cases[i].id, 1, cases[i].type, 1, cases[i].action, 1);
        event = fixture_parse_exactly(event_parse, text_of(body), NULL);
        assert_int_equal(event != NULL, cases[i].ok);
        event_unref(event);
    }
}

static void repeated_members_are_ambiguous(void **state)
{
    static const char *const event_keys[] = {"id",           "object_type",    "action",
                                             "object_id",    "lead_id",        "date_updated",
                                             "date_created", "organization_id"};
    static const struct {
        const char *body;
        const char *reason;
    } bodies[] = {
        {"{\"event\":{\"id\":\"e\",\"object_type\":\"a\",\"action\":\"b\"},\"event\":null}",
         "the member event occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"\\u0065vent\":{\"id\":\"e\",\"object_type\":\"a\","
         "\"action\":\"b\"}}",
         "the member event occurs twice"},
        {"{\"subscription_id\":null,\"subscription_id\":\"w\",\"event\":{\"id\":\"e\","
         "\"object_type\":\"a\",\"action\":\"b\"}}",
         "the member subscription_id occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"id\":\"e\"}", "the member id occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"data\":1,\"data\":{}}", "the member data occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"timestamp\":1,\"timestamp\":2}",
         "the member timestamp occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"data\":{\"id\":1,\"id\":2}}",
         "the member id occurs twice"},
        {"{\"event\":\"a.b\",\"id\":\"e\",\"data\":{\"lead_id\":1,\"le\\u0061d_id\":2}}",
         "the member lead_id occurs twice"},
    };
    struct buf body = {0};
    char members[128];
    char reason[128];

    (void)state;
    for (size_t i = 0; i < sizeof(event_keys) / sizeof(event_keys[0]); i++) {
        const char *key = event_keys[i];

        snprintf(reason, sizeof(reason), "the member %s occurs twice", key);
        snprintf(members, sizeof(members), ", \"%s\": \"x\", \"%s\": \"x\"", key, key);
        fixture_with_members(&body, members);
        fixture_assert_refused(buf_text(&body), reason);
        snprintf(members, sizeof(members), ", \"%s\": null, \"\\u00%02x%s\": 1", key,
                 (unsigned)key[0], key + 1);
        fixture_with_members(&body, members);
        fixture_assert_refused(buf_text(&body), reason);
    }
    buf_release(&body);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        fixture_assert_refused(text_of(bodies[i].body), bodies[i].reason);
}

static void no_error_holds_bytes_of_the_body(void **state)
{
    static const char *const bodies[] = {
        "{\"event\":{\"id\":\"sesame\\u0000\",\"object_type\":\"sesame\",\"action\":\"sesame\"}}",
        "{\"event\":{\"id\":\"sesame\",\"object_type\":\"sesame/\",\"action\":\"sesame\"}}",
        "{\"event\":\"sesame\",\"id\":\"sesame\"}",
        "{\"event\":\"sesame.\",\"id\":\"sesame\"}",
        "{\"sesame\": sesame}",
        "{\"sesame\": \"sesame\"}",
        "{\"sesame\": 1, \"event\": {\"sesame\": 1, \"id\": 1, \"id\": 2}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct error err = {0};

        assert_null(fixture_parse_exactly(event_parse, text_of(bodies[i]), &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_null(strstr(err.message, "sesame"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(json_that_is_no_event_is_refused),
        cmocka_unit_test(hostile_ids_and_names_are_refused),
        cmocka_unit_test(limits_are_reached_but_not_passed),
        cmocka_unit_test(repeated_members_are_ambiguous),
        cmocka_unit_test(no_error_holds_bytes_of_the_body),
        cmocka_unit_test(nesting_has_a_limit),
    };

    return cmocka_run_group_tests(tests, fixture_make_parser, fixture_free_parser);
}
