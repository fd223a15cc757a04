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
#include "schemas/envelope.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

static struct event *parsed(const struct event_origin *origin, struct text body)
{
    struct error err = {0};
    struct event_parser *parser = event_parser_new(&err);
    struct event *event;

    assert_non_null(parser);
    event = event_parse(parser, origin, body, &err);
    event_parser_free(parser);
    if (!event)
        fail_msg("%s", err.message);
    return event;
}

/* The members are put behind the required ones of the event object. */
static struct event *event_with(const char *members)
{
    static const struct event_origin origin = {.account = {"main", 4}};
    struct buf body = {0};
    struct event *event;

    buf_printf(&body,
               "{\"event\": {\"id\": \"ev_1\", \"object_type\": \"lead\", \"action\": "
               "\"updated\"%s}}",
               members);
    event = parsed(&origin, buf_text(&body));
    buf_release(&body);
    return event;
}

static const struct envelope_attribute *find(const struct envelope *envelope, const char *name)
{
    for (size_t i = 0; i < envelope->count; i++) {
        if (strcmp(envelope->attributes[i].name, name) == 0)
            return &envelope->attributes[i];
    }
    return NULL;
}

/* `expected` NULL: the attribute must not be there. */
static void assert_attribute(const struct envelope *envelope, const char *name,
                             const char *expected)
{
    const struct envelope_attribute *attribute = find(envelope, name);

    if (!expected) {
        assert_null(attribute);
        return;
    }
    assert_non_null(attribute);
    if (!text_equal_string(attribute->value, expected))
        fail_msg("%s is %.*s, not %s", name, (int)attribute->value.size, attribute->value.data,
                 expected);
}

static void assert_one(const char *members, const char *name, const char *expected)
{
    struct event *event = event_with(members);
    struct envelope envelope;

    print_message("%s: %s\n", name, members);
    envelope_build(&envelope, event, false);
    assert_attribute(&envelope, name, expected);
    event_unref(event);
}

static void a_real_delivery_has_these_attributes(void **state)
{
    static const char *const expected[][3] = {
        {"specversion", "ce_specversion", "1.0"},
        {"id", "ce_id", "ev_70750rgrOVLfmED9y7ExRy"},
        {"source", "ce_source", "/close/orga_rq7EW7TTwnrAshSzIQ49jJUWzDxtTQUBBrA4VoRWElD"},
        {"type", "ce_type", "com.close.lead.created"},
        {"subject", "ce_subject", "lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z"},
        {"time", "ce_time", "2025-09-04T07:27:17.674000Z"},
        {"closeeventid", "ce_closeeventid", "ev_70750rgrOVLfmED9y7ExRy"},
        {"closeaccount", "ce_closeaccount", "main"},
        {"closesubscription", "ce_closesubscription", "whsub_1Lr0LeQ56WDreQtJNiuUAr"},
        {"closedateupdated", "ce_closedateupdated", "2025-09-04T07:27:17.674000"},
        {"closeorigin", "ce_closeorigin", "webhook"},
        {"traceparent", "traceparent", "00-61a24e3effec455dbbdd7e64cd92ed34-9b19a5131ec8a33a-01"},
        {"tracestate", "tracestate", "a=b,c=d"},
    };
    static const struct event_origin origin = {
        .account = {"main", 4},
        .traceparent = {"00-61a24e3effec455dbbdd7e64cd92ed34-9b19a5131ec8a33a-01", 55},
        .tracestate = {"a=b,c=d", 7},
    };
    char body[4096];
    FILE *file = fopen(TEST_DATA "/payloads/real-lead.created-2025-09-04.wire.json", "rb");
    struct event *event;
    struct envelope envelope;

    (void)state;
    assert_non_null(file);
    event = parsed(&origin, (struct text){body, fread(body, 1, sizeof(body), file)});
    fclose(file);
    envelope_build(&envelope, event, false);
    assert_int_equal(envelope.count, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < envelope.count; i++) {
        assert_attribute(&envelope, expected[i][0], expected[i][2]);
        assert_string_equal(find(&envelope, expected[i][0])->kafka_name, expected[i][1]);
        assert_int_equal(find(&envelope, expected[i][0])->is_trace_context,
                         strncmp(expected[i][0], "trace", 5) == 0);
    }
    event_unref(event);
}

static void flags_and_replays_show(void **state)
{
    static const struct event_origin origin = {.account = {"main", 4},
                                               .flags = EVENT_IS_TEST | EVENT_FROM_LOG};
    struct event *event = parsed(&origin, text_of("{\"event\": \"lead.created\", \"id\": \"e\"}"));
    struct envelope envelope;

    (void)state;
    envelope_build(&envelope, event, true);
    assert_attribute(&envelope, "closetest", "true");
    assert_attribute(&envelope, "closereplay", "true");
    assert_attribute(&envelope, "closeorigin", "event_log");
    envelope_build(&envelope, event, false);
    assert_attribute(&envelope, "closereplay", NULL);
    event_unref(event);
}

static void an_update_that_was_consolidated_has_an_id_of_its_own(void **state)
{
    static const struct {
        const char *members;
        const char *id;
    } cases[] = {
        {"", "ev_1"},
        {", \"date_created\": \"2025-09-04T07:27:17.674000\", "
         "\"date_updated\": \"2025-09-04T07:27:17.674000\"",
         "ev_1"},
        {", \"date_created\": \"2025-09-04T07:27:17.674000\", "
         "\"date_updated\": \"2025-09-04T07:27:17.674001\"",
         "ev_1/2025-09-04T07:27:17.674001"},
        {", \"date_created\": \"2025-09-04T07:27:17\", "
         "\"date_updated\": \"2025-09-04T09:27:17.000+02:00\"",
         "ev_1"},
        {", \"date_created\": \"2025-09-04T07:27:17Z\", "
         "\"date_updated\": \"2025-09-04T07:28:00+00:00\"",
         "ev_1/2025-09-04T07:28:00+00:00"},
        {", \"date_created\": \"2025-09-05T07:27:17\", \"date_updated\": "
         "\"2025-09-04T07:27:17\"",
         "ev_1"},
        {", \"date_updated\": \"2025-09-04T07:27:17\"", "ev_1"},
        {", \"date_created\": \"2025-09-04T07:27:17\", \"date_updated\": \"tomorrow\"", "ev_1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_one(cases[i].members, "id", cases[i].id);
}

static void time_is_utc_and_only_of_a_date(void **state)
{
    static const struct {
        const char *members;
        const char *time;
        const char *as_written;
    } cases[] = {
        {"", NULL, NULL},
        {", \"date_updated\": null", NULL, NULL},
        {", \"date_updated\": 1756970837", NULL, NULL},
        {", \"date_updated\": \"2025-02-29T00:00:00\"", NULL, "2025-02-29T00:00:00"},
        {", \"date_updated\": \"2025-01-15T10:30:00.000Z\"", "2025-01-15T10:30:00.000Z",
         "2025-01-15T10:30:00.000Z"},
        {", \"date_updated\": \"2025-01-01T00:30:00.5+01:00\"", "2024-12-31T23:30:00.5Z",
         "2025-01-01T00:30:00.5+01:00"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_one(cases[i].members, "time", cases[i].time);
        assert_one(cases[i].members, "closedateupdated", cases[i].as_written);
    }
}

static void the_source_is_an_encoded_path(void **state)
{
    static const struct {
        const char *members;
        const char *source;
    } cases[] = {
        {"", "/close/unknown"},
        {", \"organization_id\": null", "/close/unknown"},
        {", \"organization_id\": \"\"", "/close/unknown"},
        {", \"organization_id\": \"orga_1-.~\"", "/close/orga_1-.~"},
        {", \"organization_id\": \"../a b%?#\"", "/close/..%2Fa%20b%25%3F%23"},
        {", \"organization_id\": \"\\u0000\\n\xc3\xa4\"", "/close/%00%0A%C3%A4"},
    };
    char members[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_one(cases[i].members, "source", cases[i].source);
    snprintf(members, sizeof(members), ", \"organization_id\": \"%0129d\"", 0);
    assert_one(members, "source", "/close/unknown"); /* not the beginning of it */
}

static void what_must_not_be_sent_is_left_out(void **state)
{
    static const struct {
        const char *object_id;
        const char *subject;
    } cases[] = {
        {"lead_1", "lead_1"},
        {"", NULL},
        {"a\\u0000b", NULL},
        {"a\\r\\nce_id: x", NULL},
        {"a\x7f", NULL},
        {"a\xc2\x85", NULL}, /* U+0085, a C1 control */
        {"a\\ufffe", NULL},  /* noncharacters */
        {"\xef\xb7\x90", NULL},
        {"\xf0\x9f\xbf\xbf", NULL},
        {"\xc3\xa4 \xf0\x9f\x98\x80", "\xc3\xa4 \xf0\x9f\x98\x80"},
        {"a/+#$\\\"", "a/+#$\""},
    };
    char members[2048];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(members, sizeof(members), ", \"object_id\": \"%s\"", cases[i].object_id);
        assert_one(members, "subject", cases[i].subject);
    }
    snprintf(members, sizeof(members), ", \"object_id\": \"%01025d\"", 0);
    assert_one(members, "subject", NULL);
}

static void the_longest_event_fits(void **state)
{
    static const struct event_origin origin = {.account = {"main", 4}};
    struct buf body = {0};
    struct event *event;
    struct envelope envelope;
    char organization[128 * 6 + 1] = "";
    char type[300];

    (void)state;
    for (int i = 0; i < 128; i++)
        snprintf(organization + 6 * i, 7, "\\u00%02x", i % 32);
    buf_printf(&body,
               "{\"event\": {\"id\": \"%0256d\", \"object_type\": \"%0128d\", \"action\": "
               "\"%0128d\", \"organization_id\": \"%s\", \"date_created\": "
               "\"2025-01-01T00:00:00\", \"date_updated\": "
               "\"2025-01-01T00:00:00.123456789+00:00\"}}",
               1, 2, 3, organization);
    event = parsed(&origin, buf_text(&body));
    buf_release(&body);
    envelope_build(&envelope, event, true);
    snprintf(type, sizeof(type), "com.close.%0128d.%0128d", 2, 3);
    assert_attribute(&envelope, "type", type);
    assert_int_equal(find(&envelope, "id")->value.size, 256 + 1 + 35);
    assert_int_equal(find(&envelope, "source")->value.size, 7 + 3 * 128);
    assert_attribute(&envelope, "time", "2025-01-01T00:00:00.123456789Z");
    event_unref(event);
}

static void what_is_not_an_event_is_no_cloudevent(void **state)
{
    static const char *const names[] = {"source", "closeaccount", "closeorigin"};
    static const struct event_origin origin = {.account = {"main", 4}};
    struct event *event = event_opaque(&origin, text_of("hello"));
    struct envelope envelope = {0};

    (void)state;
    assert_non_null(event);
    envelope_build(&envelope, event, false);
    assert_int_equal(envelope.count, 3);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_non_null(find(&envelope, names[i]));
    assert_attribute(&envelope, "source", "/close/unknown");
    event_unref(event);
}

static void dates_count_in_milliseconds(void **state)
{
    int64_t ms = 0;

    (void)state;
    assert_true(envelope_parse_date(text_of("2025-09-04T07:27:17.674999"), &ms));
    assert_true(ms == 1756970837674);
    assert_true(envelope_parse_date(text_of("1969-12-31T23:59:59.5"), &ms));
    assert_true(ms == -500);
    assert_false(envelope_parse_date(text_of("2025-09-04"), &ms));
    assert_true(ms == -500);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_delivery_has_these_attributes),
        cmocka_unit_test(flags_and_replays_show),
        cmocka_unit_test(an_update_that_was_consolidated_has_an_id_of_its_own),
        cmocka_unit_test(time_is_utc_and_only_of_a_date),
        cmocka_unit_test(the_source_is_an_encoded_path),
        cmocka_unit_test(what_must_not_be_sent_is_left_out),
        cmocka_unit_test(the_longest_event_fits),
        cmocka_unit_test(what_is_not_an_event_is_no_cloudevent),
        cmocka_unit_test(dates_count_in_milliseconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
