#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

static const struct event_origin origin = {.account = {"main", 4}, .received_ms = 1756970838008};

static struct event_parser *parser;

static int make_parser(void **state)
{
    (void)state;
    parser = event_parser_new(NULL);
    return parser ? 0 : -1;
}

static int free_parser(void **state)
{
    (void)state;
    event_parser_free(parser);
    return 0;
}

typedef struct event *parse_function(struct event_parser *, const struct event_origin *,
                                     struct text, struct error *);

/* From memory of exactly its size, so that a sanitizer sees what reads beyond it. */
static struct event *parse_exactly(parse_function *parse, struct text body, struct error *err)
{
    char *exact = malloc(body.size ? body.size : 1);
    struct event *event;

    assert_non_null(exact);
    if (body.size)
        memcpy(exact, body.data, body.size);
    event = parse(parser, &origin, (struct text){exact, body.size}, err);
    free(exact);
    return event;
}

static struct event *accept(parse_function *parse, struct text body)
{
    struct error err = {0};
    struct event *event = parse_exactly(parse, body, &err);

    if (!event)
        fail_msg("%.*s: %s", (int)body.size, body.data, err.message);
    return event;
}

static void assert_refused(struct text body, const char *reason)
{
    struct error err = {0};
    struct event *event = parse_exactly(event_parse, body, &err);

    if (event || err.kind != ERROR_INPUT || !strstr(err.message, reason))
        fail_msg("%.*s: \"%s\" is not \"... %s ...\"", (int)body.size, body.data,
                 event ? "accepted" : err.message, reason);
}

static void assert_field(const struct event *event, enum event_field field, const char *expected)
{
    struct text value = event_text(event, field);

    if (!text_equal_string(value, expected))
        fail_msg("field %d is \"%.*s\", not \"%s\"", (int)field, (int)value.size, value.data,
                 expected);
}

static struct text read_payload(const char *name, char *out, size_t capacity)
{
    char path[256];
    FILE *file;
    size_t size;

    snprintf(path, sizeof(path), TEST_DATA "/payloads/%s", name);
    file = fopen(path, "rb");
    assert_non_null(file);
    size = fread(out, 1, capacity, file);
    fclose(file);
    return (struct text){out, size};
}

/* ---- what is accepted ---- */

static void the_event_object_is_the_bytes_that_close_sent(void **state)
{
    char bytes[4096];
    struct text body = read_payload("real-lead.created-2025-09-04.wire.json", bytes, sizeof(bytes));
    struct event *event = accept(event_parse, body);
    struct text object = event_text(event, EVENT_OBJECT);
    const char *start = memmem(body.data, body.size, "{\"id\": \"ev_", 11);

    (void)state;
    assert_non_null(start);
    /* It is the last member: only the brace of the body follows. */
    assert_int_equal(object.size, (size_t)(body.data + body.size - 1 - start));
    assert_memory_equal(object.data, start, object.size);
    assert_true(text_equal(event_text(event, EVENT_BODY), body));
    assert_field(event, EVENT_ACCOUNT, "main");
    assert_field(event, EVENT_ID, "ev_70750rgrOVLfmED9y7ExRy");
    assert_field(event, EVENT_OBJECT_TYPE, "lead");
    assert_field(event, EVENT_ACTION, "created");
    assert_field(event, EVENT_OBJECT_ID, "lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z");
    assert_field(event, EVENT_LEAD_ID, "lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z");
    assert_field(event, EVENT_ORGANIZATION_ID, "orga_rq7EW7TTwnrAshSzIQ49jJUWzDxtTQUBBrA4VoRWElD");
    assert_field(event, EVENT_SUBSCRIPTION_ID, "whsub_1Lr0LeQ56WDreQtJNiuUAr");
    assert_field(event, EVENT_DATE_CREATED, "2025-09-04T07:27:17.674000");
    assert_field(event, EVENT_DATE_UPDATED, "2025-09-04T07:27:17.674000");
    assert_true(event->record->received_ms == origin.received_ms);
    event_unref(event);
}

static void every_known_payload_is_read(void **state)
{
    static const struct {
        const char *file;
        const char *id;
        const char *object_type;
        const char *action;
        const char *object_id;
        const char *lead_id;
        const char *subscription_id;
        const char *date_updated;
    } cases[] = {
        {"real-lead.created-2025-05-20.json", "ev_1ntH1vAE4G7DNjNZYkMeck", "lead", "created",
         "lead_niuYPXlw6vnFQIhwZCKDaaKv9XMQs9KA5NgxhNRBgaA",
         "lead_niuYPXlw6vnFQIhwZCKDaaKv9XMQs9KA5NgxhNRBgaA", "whsub_1zwvQVQOBPFqrH6xXJEvFJ",
         "2025-05-20T12:14:56.446000"},
        {"real-task.lead.created-apikey-2025-02-28.json", "ev_34bKnJcMX9UnRJmuGH5Jtr", "task.lead",
         "created", "task_CIRBr39mOsTfWAc3ErihkSt4cX0PlVBpTovHGNj939w",
         "lead_mtonPqjLkC0X93AW6evKVa1Sbpq7l8opyuaV5olT2Cf", "whsub_1vT2aEze4uUzQlqLIBExYl",
         "2025-02-28T19:20:45.507000"},
        {"anon-lead.deleted-rudder-2024-06-14.json", "ev_123", "lead", "deleted", "lead_123",
         "lead_123", "whsub_123", "2024-06-14T05:16:04.138000"},
        {"doc-opportunity.updated.json", "ev_2sYKRjcrA79yKxi3S4Crd7", "opportunity", "updated",
         "oppo_7H4sjNso7FyBFaeR3RXi5PMJbilfo0c6UPCxsJtEhCO",
         "lead_zwqYhEFwzPyfCErS8uQ77is2wFLvr9BgVi6cTfbFM68", "whsub_8AmjKCZYT3zI8eZoi4HhFC",
         "2019-01-15T12:48:23.395000"},
        {"legacy-lead.created.json", "ev_xxx", "lead", "created", "lead_xxx", "lead_xxx",
         "whsub_xxx", "2025-01-15T10:30:00.000Z"},
        {"legacy-opportunity.status_change.json", "ev_xxx", "activity.opportunity_status_change",
         "created", "oppo_xxx", "lead_xxx", "whsub_xxx", "2025-01-15T11:00:00.000Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char bytes[4096];
        struct event *event;

        print_message("%s\n", cases[i].file);
        event = accept(event_parse, read_payload(cases[i].file, bytes, sizeof(bytes)));
        assert_field(event, EVENT_ID, cases[i].id);
        assert_field(event, EVENT_OBJECT_TYPE, cases[i].object_type);
        assert_field(event, EVENT_ACTION, cases[i].action);
        assert_field(event, EVENT_OBJECT_ID, cases[i].object_id);
        assert_field(event, EVENT_LEAD_ID, cases[i].lead_id);
        assert_field(event, EVENT_SUBSCRIPTION_ID, cases[i].subscription_id);
        assert_field(event, EVENT_DATE_UPDATED, cases[i].date_updated);
        event_unref(event);
    }
}

static void a_payload_without_a_type_is_no_event(void **state)
{
    char bytes[4096];

    (void)state;
    assert_refused(read_payload("vector-A-thermondo.body.json", bytes, sizeof(bytes)),
                   "object_type is missing");
}

/* A body whose event has these members behind the required ones. */
static void with_members(struct buf *out, const char *members)
{
    buf_clear(out);
    buf_printf(out,
               "{\"event\": {\"id\": \"ev_1\", \"object_type\": \"lead\", \"action\": "
               "\"updated\"%s}}",
               members);
}

static void members_that_are_not_strings_are_absent(void **state)
{
    static const char *const cases[] = {
        "",
        ", \"lead_id\": null, \"object_id\": null, \"organization_id\": null, "
        "\"date_created\": null, \"date_updated\": null",
        ", \"lead_id\": 5, \"object_id\": [], \"organization_id\": {\"lead_id\": \"x\"}, "
        "\"date_created\": true, \"date_updated\": 1e400",
        ", \"lead_id\": \"\", \"object_id\": \"\", \"date_updated\": \"\"",
        ", \"data\": null, \"previous_data\": {}",
        ", \"data\": {\"lead_id\": \"x\", \"id\": \"y\", \"id\": \"z\"}, \"previous_data\": null",
        ", \"meta\": {}, \"changed_fields\": []",
    };
    struct buf body = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event *event;

        with_members(&body, cases[i]);
        event = accept(event_parse, buf_text(&body));
        assert_field(event, EVENT_ID, "ev_1");
        for (int field = EVENT_OBJECT_ID; field <= EVENT_TRACESTATE; field++)
            assert_field(event, (enum event_field)field, "");
        event_unref(event);
    }
    buf_release(&body);
}

static void large_numbers_and_deep_values_are_json(void **state)
{
    static const char *const cases[] = {
        "123456789012345678901234567890",
        "-123456789012345678901234567890",
        "1e400",
        "-1E+400",
        "1e-400",
        "-0",
        "0.0000000000000000000000000000000000000000000000000000000000000001",
        "18446744073709551616",
        "[1e400, {\"a\": \"1e999 \\\" 01 \", \"b\": [9e999 , -0.5e+12 ]}]",
        "\"\\ud83d\\ude00 \\u0000\"",
    };
    struct buf body = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char members[256];
        struct event *event;

        snprintf(members, sizeof(members), ", \"data\": {\"n\": %s }, \"lead_id\": \"lead_1\"",
                 cases[i]);
        with_members(&body, members);
        event = accept(event_parse, buf_text(&body));
        assert_field(event, EVENT_LEAD_ID, "lead_1");
        assert_true(memmem(event_text(event, EVENT_OBJECT).data,
                           event_text(event, EVENT_OBJECT).size, cases[i], strlen(cases[i])));
        assert_int_equal(event_text(event, EVENT_OBJECT).size, body.size - strlen("{\"event\": }"));
        event_unref(event);
    }
    buf_release(&body);
}

static void append_nested(struct buf *body, int depth)
{
    struct buf members = {0};

    buf_append_string(&members, ", \"data\": ");
    for (int i = 0; i < depth; i++)
        buf_append_string(&members, i % 2 ? "[" : "{\"a\":");
    buf_append_string(&members, "1");
    for (int i = depth; i-- > 0;)
        buf_append_string(&members, i % 2 ? "]" : "}");
    with_members(body, members.data);
    buf_release(&members);
}

static void nesting_has_a_limit(void **state)
{
    struct buf body = {0};

    (void)state;
    append_nested(&body, 100);
    event_unref(accept(event_parse, buf_text(&body)));
    append_nested(&body, 1000);
    event_unref(accept(event_parse, buf_text(&body)));
    append_nested(&body, 2000);
    assert_refused(buf_text(&body), "nested deeper than 1024");
    append_nested(&body, 200000);
    assert_refused(buf_text(&body), "nested deeper than 1024");
    buf_release(&body);
}

static void escaped_names_and_values_are_understood(void **state)
{
    struct event *event = accept(
        event_parse,
        text_of("{\"\\u0065vent\" : { \"\\u0069d\" : \"ev\\u005f1\\ud83d\\ude00\\/\" ,\n"
                "\"object\\u005ftype\":\"activity\\u002Enote\", \"action\" :\"cre\\u0061ted\","
                "\"lead_id\":\"a\\\"b\\\\c\\n\", \"object_id\":\"plain\" } , "
                "\"subscription\\u005fid\":\"wh\\u0073ub\" }\r\n "));

    (void)state;
    assert_field(event, EVENT_ID, "ev_1\xf0\x9f\x98\x80/");
    assert_field(event, EVENT_OBJECT_TYPE, "activity.note");
    assert_field(event, EVENT_ACTION, "created");
    assert_field(event, EVENT_LEAD_ID, "a\"b\\c\n");
    assert_field(event, EVENT_OBJECT_ID, "plain");
    assert_field(event, EVENT_SUBSCRIPTION_ID, "whsub");
    assert_true(text_starts_with(event_text(event, EVENT_OBJECT), "{ \"\\u0069d\""));
    assert_int_equal(event_text(event, EVENT_OBJECT).data[event_text(event, EVENT_OBJECT).size - 1],
                     '}');
    event_unref(event);
}

static void custom_activity_is_resolved(void **state)
{
    struct event *event =
        accept(event_parse, text_of("{\"event\":{\"id\":\"e\",\"object_type\":\"custom_activity\","
                                    "\"action\":\"created\"}}"));

    (void)state;
    assert_field(event, EVENT_OBJECT_TYPE, "activity.custom_activity");
    assert_field(event, EVENT_OBJECT,
                 "{\"id\":\"e\",\"object_type\":\"custom_activity\",\"action\":\"created\"}");
    event_unref(event);
}

static void only_in_the_older_shape_do_its_members_route(void **state)
{
    (void)state;
    event_unref(accept(event_parse,
                       text_of("{\"id\":1,\"id\":2,\"data\":1,\"data\":2,\"timestamp\":1,"
                               "\"timestamp\":2,\"event\":{\"id\":\"e\",\"object_type\":\"lead\","
                               "\"action\":\"created\",\"meta\":1,\"meta\":2}}")));
}

/* ---- the older shape ---- */

static void the_older_shape_becomes_an_event_object(void **state)
{
    static const struct {
        const char *body;
        const char *object;
    } cases[] = {
        {"{\"event\":\"lead.created\",\"data\":{\"id\":\"lead_1\",\"n\":1e400},"
         "\"timestamp\":\"2025-01-15T10:30:00.000Z\",\"id\":\"ev_1\"}",
         "{\"id\": \"ev_1\", \"date_created\": \"2025-01-15T10:30:00.000Z\", \"date_updated\": "
         "\"2025-01-15T10:30:00.000Z\", \"object_type\": \"lead\", \"object_id\": \"lead_1\", "
         "\"lead_id\": \"lead_1\", \"action\": \"created\", \"data\": "
         "{\"id\":\"lead_1\",\"n\":1e400}}"},
        {"{\"event\":\"contact.updated\",\"data\":{\"id\":\"cont_1\",\"lead_id\":\"lead_1\"},"
         "\"id\":\"ev_1\"}",
         "{\"id\": \"ev_1\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"contact\", \"object_id\": \"cont_1\", \"lead_id\": \"lead_1\", \"action\": "
         "\"updated\", \"data\": {\"id\":\"cont_1\",\"lead_id\":\"lead_1\"}}"},
        {"{\"event\":\"lead.status_change\",\"data\":{\"id\":\"x\",\"lead_id\":\"lead_1\"},"
         "\"id\":\"e\\\"v\"}",
         "{\"id\": \"e\\\"v\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"activity.lead_status_change\", \"object_id\": \"x\", \"lead_id\": \"lead_1\", "
         "\"action\": \"created\", \"data\": {\"id\":\"x\",\"lead_id\":\"lead_1\"}}"},
        {"{\"event\":\"lead.status_change\",\"data\":{\"id\":\"lead_1\"},\"id\":\"ev_1\"}",
         "{\"id\": \"ev_1\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"activity.lead_status_change\", \"object_id\": \"lead_1\", \"lead_id\": \"lead_1\", "
         "\"action\": \"created\", \"data\": {\"id\":\"lead_1\"}}"},
        {"{\"event\":\"custom_activity.created\",\"id\":\"ev_1\"}",
         "{\"id\": \"ev_1\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"activity.custom_activity\", \"object_id\": null, \"lead_id\": null, \"action\": "
         "\"created\", \"data\": null}"},
        {"{\"event\":\"a.b.c\\u002ed\",\"id\":\"ev_1\",\"data\":[\"id\"],\"timestamp\":17}",
         "{\"id\": \"ev_1\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"a.b.c\", \"object_id\": null, \"lead_id\": null, \"action\": \"d\", \"data\": "
         "[\"id\"]}"},
        {"{\"event\":\"lead.deleted\",\"id\":\"ev_1\",\"data\":{\"id\":5,\"lead_id\":{}}}",
         "{\"id\": \"ev_1\", \"date_created\": null, \"date_updated\": null, \"object_type\": "
         "\"lead\", \"object_id\": null, \"lead_id\": null, \"action\": \"deleted\", \"data\": "
         "{\"id\":5,\"lead_id\":{}}}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event *event = accept(event_parse, text_of(cases[i].body));
        struct event *again;

        assert_field(event, EVENT_OBJECT, cases[i].object);
        assert_field(event, EVENT_BODY, cases[i].body);
        again = accept(event_parse_object, event_text(event, EVENT_OBJECT));
        for (int field = EVENT_ID; field <= EVENT_DATE_UPDATED; field++) {
            if (field != EVENT_SUBSCRIPTION_ID)
                assert_true(text_equal(event_text(event, (enum event_field)field),
                                       event_text(again, (enum event_field)field)));
        }
        event_unref(again);
        event_unref(event);
    }
}

/* ---- what is refused ---- */

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
        assert_refused(buf_text(&body), "the body is not JSON");
    }
    with_members(&body, "");
    buf_append_char(&body, '\0');
    assert_refused(buf_text(&body), "the body is not JSON");
    buf_release(&body);
    assert_refused(text_of(""), "not JSON");
    assert_refused(text_of(" \n"), "not JSON");
    assert_refused(text_of("\xef\xbb\xbf{\"event\":{\"id\":\"e\",\"object_type\":\"a\","
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
        assert_refused(text_of(cases[i].body), cases[i].reason);
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
        assert_refused(text_of(body), "control characters");
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"e\",\"object_type\":\"%s\",\"action\":\"b\"}}", names[i]);
        assert_refused(text_of(body), "object_type is missing or not of letters");
        snprintf(body, sizeof(body),
                 "{\"event\":{\"id\":\"e\",\"object_type\":\"a\",\"action\":\"%s\"}}", names[i]);
        assert_refused(text_of(body), "action is missing or not of letters");
    }
    memset(long_text, 'a', 300);
    long_text[300] = '\0';
    snprintf(body, sizeof(body),
             "{\"event\":{\"id\":\"e\",\"object_type\":\"%s\",\"action\":\"b\"}}", long_text);
    assert_refused(text_of(body), "at most 128");
    snprintf(body, sizeof(body),
             "{\"event\":{\"id\":\"%s\",\"object_type\":\"a\",\"action\":\"b\"}}", long_text);
    assert_refused(text_of(body), "longer than 256 bytes");
    snprintf(body, sizeof(body), "{\"event\":\"%s.b\",\"id\":\"e\"}", long_text);
    assert_refused(text_of(body), "not an object type and an action");
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
        event = parse_exactly(event_parse, text_of(body), NULL);
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
        with_members(&body, members);
        assert_refused(buf_text(&body), reason);
        snprintf(members, sizeof(members), ", \"%s\": null, \"\\u00%02x%s\": 1", key,
                 (unsigned)key[0], key + 1);
        with_members(&body, members);
        assert_refused(buf_text(&body), reason);
    }
    buf_release(&body);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        assert_refused(text_of(bodies[i].body), bodies[i].reason);
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

        assert_null(parse_exactly(event_parse, text_of(bodies[i]), &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_null(strstr(err.message, "sesame"));
    }
}

/* ---- the Event Log, and bodies that are no events ---- */

static void a_log_entry_has_its_documented_type(void **state)
{
    static const struct {
        const char *object_type;
        const char *action;
        const char *resolved;
    } cases[] = {
        {"note", "created", "activity.note"},
        {"call", "updated", "activity.call"},
        {"lead_status_change", "created", "activity.lead_status_change"},
        {"custom_activity", "updated", "activity.custom_activity"},
        {"custom_activity", "unheard_of", "activity.custom_activity"},
        {"activity.note", "created", "activity.note"},
        {"lead", "created", "lead"},
        {"task.lead", "created", "task.lead"},
        {"status_change.lead", "created", "activity.lead_status_change"},
        {"status_change.opportunity", "created", "activity.opportunity_status_change"},
        {"status_change.contact", "created", "status_change.contact"},
        {"note", "unheard_of", "note"},
        {"unheard_of", "created", "unheard_of"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char object[256];
        struct event *event;

        snprintf(object, sizeof(object),
                 " {\"id\": \"ev_1\", \"object_type\": \"%s\", \"action\": \"%s\", \"n\": 1e400} ",
                 cases[i].object_type, cases[i].action);
        event = accept(event_parse_object, text_of(object));
        assert_field(event, EVENT_OBJECT_TYPE, cases[i].resolved);
        assert_true(event_has(event, EVENT_FROM_LOG));
        assert_field(event, EVENT_BODY, object);
        assert_int_equal(event_text(event, EVENT_OBJECT).size, strlen(object) - 2);
        assert_int_equal(event_text(event, EVENT_OBJECT).data[0], '{');
        event_unref(event);
    }
}

static void a_webhook_keeps_bare_names(void **state)
{
    struct event *event =
        accept(event_parse, text_of("{\"event\":{\"id\":\"e\",\"object_type\":\"note\","
                                    "\"action\":\"created\"}}"));

    (void)state;
    assert_field(event, EVENT_OBJECT_TYPE, "note");
    assert_false(event_has(event, EVENT_FROM_LOG));
    event_unref(event);
}

static void an_opaque_event_keeps_the_body_only(void **state)
{
    static const struct event_origin traced = {.account = {"main", 4},
                                               .received_ms = 5,
                                               .traceparent = {"00-1", 4},
                                               .tracestate = {"a=b", 3}};
    struct event *event = event_opaque(&traced, (struct text){"\0{\xff", 3});

    (void)state;
    assert_non_null(event);
    assert_true(event_has(event, EVENT_IS_OPAQUE));
    assert_field(event, EVENT_ACCOUNT, "main");
    assert_true(event->record->received_ms == 5);
    assert_true(text_equal(event_text(event, EVENT_BODY), (struct text){"\0{\xff", 3}));
    for (int field = EVENT_ID; field <= EVENT_OBJECT; field++)
        assert_field(event, (enum event_field)field, "");
    event_unref(event);
}

static void a_parser_goes_on_after_a_refusal(void **state)
{
    struct buf body = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        with_members(&body, ", \"lead_id\": \"le\\u0061d_1\"");
        event_unref(accept(event_parse, buf_text(&body)));
        assert_refused(text_of("{\"event\":[1e400, tru"), "not JSON");
        assert_refused(text_of("{\"event\":1e400}"), "neither");
    }
    buf_release(&body);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_event_object_is_the_bytes_that_close_sent),
        cmocka_unit_test(every_known_payload_is_read),
        cmocka_unit_test(a_payload_without_a_type_is_no_event),
        cmocka_unit_test(members_that_are_not_strings_are_absent),
        cmocka_unit_test(large_numbers_and_deep_values_are_json),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(escaped_names_and_values_are_understood),
        cmocka_unit_test(custom_activity_is_resolved),
        cmocka_unit_test(only_in_the_older_shape_do_its_members_route),
        cmocka_unit_test(the_older_shape_becomes_an_event_object),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(json_that_is_no_event_is_refused),
        cmocka_unit_test(hostile_ids_and_names_are_refused),
        cmocka_unit_test(limits_are_reached_but_not_passed),
        cmocka_unit_test(repeated_members_are_ambiguous),
        cmocka_unit_test(no_error_holds_bytes_of_the_body),
        cmocka_unit_test(a_log_entry_has_its_documented_type),
        cmocka_unit_test(a_webhook_keeps_bare_names),
        cmocka_unit_test(an_opaque_event_keeps_the_body_only),
        cmocka_unit_test(a_parser_goes_on_after_a_refusal),
    };

    return cmocka_run_group_tests(tests, make_parser, free_parser);
}
