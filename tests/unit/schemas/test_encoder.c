#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/encoder.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"

static const char body[] =
    "{\"subscription_id\": \"whsub_1\",\n \"event\": {\"id\": \"ev_1\", \"object_type\": \"lead\", "
    "\"action\": \"updated\", \"object_id\": \"lead_\\u00e4\", \"organization_id\": \"orga_1\", "
    "\"date_created\": \"2025-09-04T07:27:17.674000\", \"date_updated\": "
    "\"2025-09-04T07:28:00.000001\", \"data\": {\"value\" : 1.50,  \"n\": 1e400}} }\n";

static const char object_json[] =
    "{\"id\": \"ev_1\", \"object_type\": \"lead\", "
    "\"action\": \"updated\", \"object_id\": \"lead_\\u00e4\", \"organization_id\": \"orga_1\", "
    "\"date_created\": \"2025-09-04T07:27:17.674000\", \"date_updated\": "
    "\"2025-09-04T07:28:00.000001\", \"data\": {\"value\" : 1.50,  \"n\": 1e400}}";

static struct event *new_event(void)
{
    struct event_origin origin = {
        .account = text_of("main"),
        .traceparent = text_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };
    struct event_parser *parser = event_parser_new(NULL);
    struct error err = {0};
    struct event *event;

    assert_non_null(parser);
    event = event_parse(parser, &origin, text_of(body), &err);
    event_parser_free(parser);
    if (!event)
        fail_msg("%s", err.message);
    return event;
}

static void assert_text(struct text actual, const char *expected)
{
    if (!text_equal_string(actual, expected))
        fail_msg("\n%.*s\nis not\n%s", (int)actual.size, actual.data, expected);
}

static void formats_have_names_and_content_types(void **state)
{
    static const struct {
        const char *name;
        const char *kafka;
        const char *mqtt;
        enum format format;
        bool is_binary;
    } cases[] = {
        {"event", "application/json", "application/json", FORMAT_EVENT, true},
        {"raw", "application/json", "application/json", FORMAT_RAW, true},
        {"cloudevents", "application/cloudevents+json; charset=UTF-8",
         "application/cloudevents+json; charset=utf-8", FORMAT_CLOUDEVENTS, false},
        {"msgpack", "application/vnd.msgpack", "application/vnd.msgpack", FORMAT_MSGPACK, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum format format;

        assert_true(format_from_name(text_of(cases[i].name), &format));
        assert_int_equal(format, cases[i].format);
        assert_string_equal(format_name(format), cases[i].name);
        assert_string_equal(format_content_type(format, false), cases[i].kafka);
        assert_string_equal(format_content_type(format, true), cases[i].mqtt);
        assert_int_equal(format_is_binary_mode(format), cases[i].is_binary);
    }
}

static void other_names_are_no_formats(void **state)
{
    static const char *const names[] = {"", "Event", "events", "eve", "json", "avro"};
    enum format format = FORMAT_MSGPACK;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_false(format_from_name(text_of(names[i]), &format));
    assert_int_equal(format, FORMAT_MSGPACK);
}

static void event_and_raw_are_views_of_the_bytes_that_came(void **state)
{
    struct event *event = new_event();
    const char *begin = (const char *)event->record;
    struct buf scratch = {0};
    struct text value;

    (void)state;
    assert_int_equal(encoder_encode(FORMAT_EVENT, event, NULL, false, &scratch, &value, NULL), 0);
    assert_text(value, object_json);
    assert_true(value.data > begin && value.data < begin + event->record->size);
    assert_int_equal(encoder_encode(FORMAT_RAW, event, NULL, false, &scratch, &value, NULL), 0);
    assert_text(value, body);
    assert_true(value.data > begin && value.data < begin + event->record->size);
    assert_int_equal(scratch.capacity, 0);
    buf_release(&scratch);
    event_unref(event);
}

static void structured_mode_holds_the_attributes_and_the_bytes_that_came(void **state)
{
    struct event *event = new_event();
    struct buf expected = {0};
    struct buf scratch = {0};
    struct text value;
    size_t head;

    (void)state;
    buf_append_string(&scratch, "left over");
    assert_int_equal(encoder_encode(FORMAT_CLOUDEVENTS, event, NULL, false, &scratch, &value, NULL),
                     0);
    buf_append_string(&expected, "\"datacontenttype\":\"application/json\",\"data\":");
    buf_append_string(&expected, object_json);
    buf_append_char(&expected, '}');
    assert_true(value.size > expected.size);
    head = value.size - expected.size;
    assert_text((struct text){value.data + head, expected.size}, expected.data);
    assert_text((struct text){value.data, head},
                "{\"specversion\":\"1.0\",\"id\":\"ev_1/2025-09-04T07:28:00.000001\","
                "\"type\":\"com.close.lead.updated\",\"subject\":\"lead_\xc3\xa4\","
                "\"time\":\"2025-09-04T07:28:00.000001Z\",\"closeeventid\":\"ev_1\","
                "\"closesubscription\":\"whsub_1\","
                "\"closedateupdated\":\"2025-09-04T07:28:00.000001\","
                "\"source\":\"/close/orga_1\",\"closeaccount\":\"main\","
                "\"closeorigin\":\"webhook\","
                "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\",");
    buf_release(&scratch);
    buf_release(&expected);
    event_unref(event);
}

static void a_structured_replay_says_so(void **state)
{
    static const char mark[] = "\"closereplay\":\"true\"";
    struct event *event = new_event();
    struct buf scratch = {0};
    struct text value;

    (void)state;
    assert_int_equal(encoder_encode(FORMAT_CLOUDEVENTS, event, NULL, false, &scratch, &value, NULL),
                     0);
    assert_null(memmem(value.data, value.size, mark, strlen(mark)));
    assert_int_equal(encoder_encode(FORMAT_CLOUDEVENTS, event, NULL, true, &scratch, &value, NULL),
                     0);
    assert_non_null(memmem(value.data, value.size, mark, strlen(mark)));
    buf_release(&scratch);
    event_unref(event);
}

static void messagepack_is_of_the_event_object(void **state)
{
    static const char head[] = "\x88\xa2id\xa4"
                               "ev_1";
    static const char tail[] = "\xa4"
                               "data\x82\xa5"
                               "value\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1n\xa5"
                               "1e400";
    struct event *event = new_event();
    struct buf scratch = {0};
    struct text value;

    (void)state;
    buf_append_string(&scratch, "left over");
    assert_int_equal(encoder_encode(FORMAT_MSGPACK, event, NULL, false, &scratch, &value, NULL), 0);
    assert_true(value.size > sizeof(head) + sizeof(tail));
    assert_memory_equal(value.data, head, sizeof(head) - 1);
    assert_memory_equal(value.data + value.size - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
    buf_release(&scratch);
    event_unref(event);
}

static void what_is_no_event_is_only_raw(void **state)
{
    static const enum format others[] = {FORMAT_EVENT, FORMAT_CLOUDEVENTS, FORMAT_MSGPACK};
    struct event_origin origin = {.account = text_of("main")};
    struct event *event = event_opaque(&origin, text_of("no JSON"));
    struct buf scratch = {0};
    struct text value = {NULL, 0};

    (void)state;
    assert_non_null(event);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct error err = {0};

        assert_int_equal(encoder_encode(others[i], event, NULL, false, &scratch, &value, &err), -1);
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_null(value.data);
    }
    assert_int_equal(encoder_encode(FORMAT_RAW, event, NULL, false, &scratch, &value, NULL), 0);
    assert_text(value, "no JSON");
    buf_release(&scratch);
    event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_have_names_and_content_types),
        cmocka_unit_test(other_names_are_no_formats),
        cmocka_unit_test(event_and_raw_are_views_of_the_bytes_that_came),
        cmocka_unit_test(structured_mode_holds_the_attributes_and_the_bytes_that_came),
        cmocka_unit_test(a_structured_replay_says_so),
        cmocka_unit_test(messagepack_is_of_the_event_object),
        cmocka_unit_test(what_is_no_event_is_only_raw),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
