#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "tests/unit/schemas/event_parser_fixture.h"

/* ---- what is accepted ---- */

static void the_event_object_is_the_bytes_that_close_sent(void **state)
{
    char bytes[4096];
    struct text body =
        fixture_read_payload("real-lead.created-2025-09-04.wire.json", bytes, sizeof(bytes));
    struct event *event = fixture_accept(event_parse, body);
    struct text object = event_text(event, EVENT_OBJECT);
    const char *start = memmem(body.data, body.size, "{\"id\": \"ev_", 11);

    (void)state;
    assert_non_null(start);
    /* It is the last member: only the brace of the body follows. */
    assert_int_equal(object.size, (size_t)(body.data + body.size - 1 - start));
    assert_memory_equal(object.data, start, object.size);
    assert_true(text_equal(event_text(event, EVENT_BODY), body));
    fixture_assert_field(event, EVENT_ACCOUNT, "main");
    fixture_assert_field(event, EVENT_ID, "ev_70750rgrOVLfmED9y7ExRy");
    fixture_assert_field(event, EVENT_OBJECT_TYPE, "lead");
    fixture_assert_field(event, EVENT_ACTION, "created");
    fixture_assert_field(event, EVENT_OBJECT_ID,
                         "lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z");
    fixture_assert_field(event, EVENT_LEAD_ID, "lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z");
    fixture_assert_field(event, EVENT_ORGANIZATION_ID,
                         "orga_rq7EW7TTwnrAshSzIQ49jJUWzDxtTQUBBrA4VoRWElD");
    fixture_assert_field(event, EVENT_SUBSCRIPTION_ID, "whsub_1Lr0LeQ56WDreQtJNiuUAr");
    fixture_assert_field(event, EVENT_DATE_CREATED, "2025-09-04T07:27:17.674000");
    fixture_assert_field(event, EVENT_DATE_UPDATED, "2025-09-04T07:27:17.674000");
    assert_true(event->record->received_ms == fixture_origin.received_ms);
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
        event =
            fixture_accept(event_parse, fixture_read_payload(cases[i].file, bytes, sizeof(bytes)));
        fixture_assert_field(event, EVENT_ID, cases[i].id);
        fixture_assert_field(event, EVENT_OBJECT_TYPE, cases[i].object_type);
        fixture_assert_field(event, EVENT_ACTION, cases[i].action);
        fixture_assert_field(event, EVENT_OBJECT_ID, cases[i].object_id);
        fixture_assert_field(event, EVENT_LEAD_ID, cases[i].lead_id);
        fixture_assert_field(event, EVENT_SUBSCRIPTION_ID, cases[i].subscription_id);
        fixture_assert_field(event, EVENT_DATE_UPDATED, cases[i].date_updated);
        event_unref(event);
    }
}

static void a_payload_without_a_type_is_no_event(void **state)
{
    char bytes[4096];

    (void)state;
    fixture_assert_refused(
        fixture_read_payload("vector-A-thermondo.body.json", bytes, sizeof(bytes)),
        "object_type is missing");
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

        fixture_with_members(&body, cases[i]);
        event = fixture_accept(event_parse, buf_text(&body));
        fixture_assert_field(event, EVENT_ID, "ev_1");
        for (int field = EVENT_OBJECT_ID; field <= EVENT_TRACESTATE; field++)
            fixture_assert_field(event, (enum event_field)field, "");
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
        fixture_with_members(&body, members);
        event = fixture_accept(event_parse, buf_text(&body));
        fixture_assert_field(event, EVENT_LEAD_ID, "lead_1");
        assert_true(memmem(event_text(event, EVENT_OBJECT).data,
                           event_text(event, EVENT_OBJECT).size, cases[i], strlen(cases[i])));
        assert_int_equal(event_text(event, EVENT_OBJECT).size, body.size - strlen("{\"event\": }"));
        event_unref(event);
    }
    buf_release(&body);
}

static void escaped_names_and_values_are_understood(void **state)
{
    struct event *event = fixture_accept(
        event_parse,
        text_of("{\"\\u0065vent\" : { \"\\u0069d\" : \"ev\\u005f1\\ud83d\\ude00\\/\" ,\n"
                "\"object\\u005ftype\":\"activity\\u002Enote\", \"action\" :\"cre\\u0061ted\","
                "\"lead_id\":\"a\\\"b\\\\c\\n\", \"object_id\":\"plain\" } , "
                "\"subscription\\u005fid\":\"wh\\u0073ub\" }\r\n "));

    (void)state;
    fixture_assert_field(event, EVENT_ID, "ev_1\xf0\x9f\x98\x80/");
    fixture_assert_field(event, EVENT_OBJECT_TYPE, "activity.note");
    fixture_assert_field(event, EVENT_ACTION, "created");
    fixture_assert_field(event, EVENT_LEAD_ID, "a\"b\\c\n");
    fixture_assert_field(event, EVENT_OBJECT_ID, "plain");
    fixture_assert_field(event, EVENT_SUBSCRIPTION_ID, "whsub");
    assert_true(text_starts_with(event_text(event, EVENT_OBJECT), "{ \"\\u0069d\""));
    assert_int_equal(event_text(event, EVENT_OBJECT).data[event_text(event, EVENT_OBJECT).size - 1],
                     '}');
    event_unref(event);
}

static void custom_activity_is_resolved(void **state)
{
    struct event *event = fixture_accept(
        event_parse, text_of("{\"event\":{\"id\":\"e\",\"object_type\":\"custom_activity\","
                             "\"action\":\"created\"}}"));

    (void)state;
    fixture_assert_field(event, EVENT_OBJECT_TYPE, "activity.custom_activity");
    fixture_assert_field(
        event, EVENT_OBJECT,
        "{\"id\":\"e\",\"object_type\":\"custom_activity\",\"action\":\"created\"}");
    event_unref(event);
}

static void only_in_the_older_shape_do_its_members_route(void **state)
{
    (void)state;
    event_unref(fixture_accept(
        event_parse, text_of("{\"id\":1,\"id\":2,\"data\":1,\"data\":2,\"timestamp\":1,"
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
        struct event *event = fixture_accept(event_parse, text_of(cases[i].body));
        struct event *again;

        fixture_assert_field(event, EVENT_OBJECT, cases[i].object);
        fixture_assert_field(event, EVENT_BODY, cases[i].body);
        again = fixture_accept(event_parse_object, event_text(event, EVENT_OBJECT));
        for (int field = EVENT_ID; field <= EVENT_DATE_UPDATED; field++) {
            if (field != EVENT_SUBSCRIPTION_ID)
                assert_true(text_equal(event_text(event, (enum event_field)field),
                                       event_text(again, (enum event_field)field)));
        }
        event_unref(again);
        event_unref(event);
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
        event = fixture_accept(event_parse_object, text_of(object));
        fixture_assert_field(event, EVENT_OBJECT_TYPE, cases[i].resolved);
        assert_true(event_has(event, EVENT_FROM_LOG));
        fixture_assert_field(event, EVENT_BODY, object);
        assert_int_equal(event_text(event, EVENT_OBJECT).size, strlen(object) - 2);
        assert_int_equal(event_text(event, EVENT_OBJECT).data[0], '{');
        event_unref(event);
    }
}

static void a_webhook_keeps_bare_names(void **state)
{
    struct event *event =
        fixture_accept(event_parse, text_of("{\"event\":{\"id\":\"e\",\"object_type\":\"note\","
                                            "\"action\":\"created\"}}"));

    (void)state;
    fixture_assert_field(event, EVENT_OBJECT_TYPE, "note");
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
    fixture_assert_field(event, EVENT_ACCOUNT, "main");
    assert_true(event->record->received_ms == 5);
    assert_true(text_equal(event_text(event, EVENT_BODY), (struct text){"\0{\xff", 3}));
    for (int field = EVENT_ID; field <= EVENT_OBJECT; field++)
        fixture_assert_field(event, (enum event_field)field, "");
    event_unref(event);
}

static void a_parser_goes_on_after_a_refusal(void **state)
{
    struct buf body = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        fixture_with_members(&body, ", \"lead_id\": \"le\\u0061d_1\"");
        event_unref(fixture_accept(event_parse, buf_text(&body)));
        fixture_assert_refused(text_of("{\"event\":[1e400, tru"), "not JSON");
        fixture_assert_refused(text_of("{\"event\":1e400}"), "neither");
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
        cmocka_unit_test(escaped_names_and_values_are_understood),
        cmocka_unit_test(custom_activity_is_resolved),
        cmocka_unit_test(only_in_the_older_shape_do_its_members_route),
        cmocka_unit_test(the_older_shape_becomes_an_event_object),
        cmocka_unit_test(a_log_entry_has_its_documented_type),
        cmocka_unit_test(a_webhook_keeps_bare_names),
        cmocka_unit_test(an_opaque_event_keeps_the_body_only),
        cmocka_unit_test(a_parser_goes_on_after_a_refusal),
    };

    return cmocka_run_group_tests(tests, fixture_make_parser, fixture_free_parser);
}
