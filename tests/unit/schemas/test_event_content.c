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
#include "schemas/event.h"
#include "schemas/event_content.h"
#include "schemas/event_parser.h"

/* What every event must have. */
#define HEAD "\"id\":\"ev_1\",\"object_type\":\"lead\",\"action\":\"updated\""

static struct event *parse_object(const char *object)
{
    struct event_origin origin = {.account = text_of("main"), .flags = EVENT_FROM_LOG};
    struct event_parser *parser = event_parser_new(NULL);
    struct error err = {0};
    struct event *event = event_parse_object(parser, &origin, text_of(object), &err);

    event_parser_free(parser);
    if (!event)
        fail_msg("%s: %s", err.message, object);
    return event;
}

static bool are_equal(const char *a, const char *b)
{
    struct event *left = parse_object(a);
    struct event *right = parse_object(b);
    bool equal = event_content_equal(left, right);

    assert_true(event_content_equal(left, left));
    assert_int_equal(event_content_equal(right, left), equal);
    event_unref(left);
    event_unref(right);
    return equal;
}

static void other_spellings_say_the_same(void **state)
{
    static const char *const cases[][2] = {
        {"{" HEAD ",\"data\":{\"a\":1,\"b\":[true,null,\"x\"]}}",
         "{ \"data\" : {\"b\": [ true , null , \"x\" ],\n\"a\": 1 },\"action\":\"updated\","
         "\"object_type\":\"lead\",\"id\":\"ev_1\"}"},
        {"{" HEAD ",\"data\":{\"n\":1.50e2}}", "{" HEAD ",\"data\":{\"n\":150}}"},
        {"{" HEAD ",\"data\":{\"n\":-0.0}}", "{" HEAD ",\"data\":{\"n\":0}}"},
        {"{" HEAD ",\"data\":{\"t\":\"M\\u00fcller \\u0026\"}}",
         "{" HEAD ",\"data\":{\"\\u0074\":\"Müller &\"}}"},
        {"{" HEAD ",\"data\":{\"d\":\"2025-09-04T07:27:17.672000+00:00\"}}",
         "{" HEAD ",\"data\":{\"d\":\"2025-09-04T07:27:17.672Z\"}}"},
        {"{" HEAD ",\"data\":{\"d\":\"2025-09-04T07:27:17\"}}",
         "{" HEAD ",\"data\":{\"d\":\"2025-09-04T09:27:17.000+02:00\"}}"},
        {"{" HEAD ",\"data\":null,\"previous_data\":{\"a\":1}}",
         "{" HEAD ",\"data\":{},\"previous_data\":{\"a\":1}}"},
        {"{" HEAD ",\"data\":{\"a\":1,\"b\":null,\"c\":{\"d\":null}}}",
         "{" HEAD ",\"data\":{\"c\":{},\"a\":1}}"},
        {"{" HEAD ",\"changed_fields\":[\"a\",\"b\"]}",
         "{" HEAD ",\"changed_fields\":[\"b\",\"a\"]}"},
        {"{" HEAD ",\"changed_fields\":[]}", "{" HEAD ",\"changed_fields\":null}"},
        /* who and how, and what one of them lacks */
        {"{" HEAD ",\"data\":{\"a\":1},\"api_key_id\":null,\"oauth_client_id\":\"oa2client_1\","
         "\"oauth_scope\":\"all\",\"request_id\":\"req_1\",\"meta\":{\"request_path\":\"/a/\"}}",
         "{" HEAD ",\"data\":{\"a\":1},\"meta\":{}}"},
        {"{\"id\":\"ev_1\",\"object_type\":\"activity.note\",\"action\":\"created\"}",
         "{\"id\":\"ev_1\",\"object_type\":\"note\",\"action\":\"created\"}"},
        {"{" HEAD ",\"data\":{\"a\":1},\"previous_data\":{\"a\":0}}", "{" HEAD "}"},
        {"{" HEAD ",\"lead_id\":\"lead_1\"}", "{" HEAD ",\"lead_id\":null}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        print_message("%s\n", cases[i][0]);
        assert_true(are_equal(cases[i][0], cases[i][1]));
    }
}

static void other_content_is_found(void **state)
{
    static const char *const cases[][2] = {
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":{\"a\":2}}"},
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":{\"a\":\"1\"}}"},
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":{\"b\":1}}"},
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":{\"a\":1,\"b\":false}}"},
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":{}}"},
        {"{" HEAD ",\"data\":{\"a\":1}}", "{" HEAD ",\"data\":null}"},
        {"{" HEAD ",\"data\":{\"a\":[1,2]}}", "{" HEAD ",\"data\":{\"a\":[2,1]}}"},
        {"{" HEAD ",\"data\":{\"a\":[1,[2]]}}", "{" HEAD ",\"data\":{\"a\":[[1],2]}}"},
        {"{" HEAD ",\"data\":{\"a\":[]}}", "{" HEAD ",\"data\":{\"a\":{}}}"},
        {"{" HEAD ",\"data\":{\"a\":[null]}}", "{" HEAD ",\"data\":{\"a\":[]}}"},
        {"{" HEAD ",\"data\":{\"a\":{\"b\":1},\"c\":{\"d\":2}}}",
         "{" HEAD ",\"data\":{\"a\":{\"d\":2},\"c\":{\"b\":1}}}"},
        {"{" HEAD ",\"data\":{\"a\":\"x\",\"b\":\"y\"}}",
         "{" HEAD ",\"data\":{\"a\":\"y\",\"b\":\"x\"}}"},
        {"{" HEAD ",\"data\":{\"n\":12}}", "{" HEAD ",\"data\":{\"n\":1.2}}"},
        {"{" HEAD ",\"data\":{\"n\":-1}}", "{" HEAD ",\"data\":{\"n\":1}}"},
        {"{" HEAD ",\"data\":{\"d\":\"2025-09-04T07:27:17.672000+00:00\"}}",
         "{" HEAD ",\"data\":{\"d\":\"2025-09-04T07:27:17.673000+00:00\"}}"},
        {"{" HEAD ",\"data\":{\"b\":true}}", "{" HEAD ",\"data\":{\"b\":false}}"},
        {"{" HEAD ",\"previous_data\":{\"a\":1}}", "{" HEAD ",\"previous_data\":{\"a\":2}}"},
        {"{" HEAD ",\"changed_fields\":[\"a\"]}", "{" HEAD ",\"changed_fields\":[\"a\",\"b\"]}"},
        {"{" HEAD ",\"lead_id\":\"lead_1\"}", "{" HEAD ",\"lead_id\":\"lead_2\"}"},
        {"{" HEAD ",\"object_id\":\"a\"}", "{" HEAD ",\"object_id\":\"b\"}"},
        {"{\"id\":\"ev_1\",\"object_type\":\"lead\",\"action\":\"created\"}",
         "{\"id\":\"ev_1\",\"object_type\":\"lead\",\"action\":\"deleted\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        print_message("%s | %s\n", cases[i][0], cases[i][1]);
        assert_false(are_equal(cases[i][0], cases[i][1]));
    }
}

static void what_is_no_event_has_no_content(void **state)
{
    struct event_origin origin = {.account = text_of("main")};
    struct event *opaque = event_opaque(&origin, text_of("{}"));

    (void)state;
    assert_non_null(opaque);
    assert_false(event_content_equal(opaque, opaque));
    event_unref(opaque);
}

/* A delivery by webhook, with the log's order of keys and without what its examples lack. */
static void a_real_delivery_is_known_again_in_the_spelling_of_the_log(void **state)
{
    static const char wire[] = TEST_DATA "/payloads/real-lead.created-2025-09-04.wire.json";
    struct event_origin origin = {.account = text_of("main")};
    struct event_parser *parser = event_parser_new(NULL);
    char body[8192];
    FILE *file = fopen(wire, "r");
    size_t size;
    struct event *event;
    struct event *again;

    (void)state;
    assert_non_null(file);
    size = fread(body, 1, sizeof(body), file);
    fclose(file);
    event = event_parse(parser, &origin, (struct text){body, size}, NULL);
    assert_non_null(event);
    again = parse_object(
        "{\"action\":\"created\",\"changed_fields\":[],\"data\":{\"addresses\":[],"
        "\"contact_ids\":[\"cont_VFH15IJgy9GxEvRNK3VcuZnxR24hb4PJo0COMVKdZ0Q\"],"
        "\"created_by\":\"user_RoWq89U2oZOlTTfJScR9pTREnX3AAeNdKnw4YOOcYwG\","
        "\"created_by_name\":\"REDACTED PERSON QQ\","
        "\"custom.cf_7ZWtXzOYPfLduhXb8fCM0m6L2KawUuubVHq12dKgvI9\":\"_______________________\","
        "\"custom.cf_DeLLGkRULjyldwA4CA5umg5YrhOT6y0Ex44eycTadS2\":\"13386968\","
        "\"custom.cf_am3UgCUhyM5iNDtAPL84enDjUrZx1JsyVZ9uD9TbYwG\":\"YT DE ACADEMY Direct VSL\","
        "\"custom.cf_jr2d8YqWeVF2GF8UqYTLjnOhCF9N61vUOnTTHrwPcPz\":\"62330063\","
        "\"custom.cf_rCyWUZqqs1zp8gS8fk5GTPFgzLBCt6WQhmrSn9tnJMo\":\"Arizona\","
        "\"date_created\":\"2025-09-04T07:27:17.642Z\",\"date_updated\":\"2025-09-04T07:27:17."
        "672Z\","
        "\"description\":\"\",\"display_name\":\"REDACTED NAMEA\","
        "\"id\":\"lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z\",\"name\":\"\","
        "\"organization_id\":\"orga_rq7EW7TTwnrAshSzIQ49jJUWzDxtTQUBBrA4VoRWElD\","
        "\"status_id\":\"stat_w883GIAbRCWhns1gvURwAaImLfsmA4SwN5HYLsToMOY\","
        "\"status_label\":\"Potential\","
        "\"updated_by\":\"user_RoWq89U2oZOlTTfJScR9pTREnX3AAeNdKnw4YOOcYwG\","
        "\"updated_by_name\":\"REDACTED PERSON QQ\",\"url\":null},"
        "\"date_created\":\"2025-09-04T07:27:17.674000\",\"date_updated\":\"2025-09-04T07:27:17."
        "674000\","
        "\"id\":\"ev_70750rgrOVLfmED9y7ExRy\","
        "\"lead_id\":\"lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z\","
        "\"meta\":{\"request_method\":\"POST\",\"request_path\":\"/api/v1/lead/\"},"
        "\"object_id\":\"lead_Q6uqUbqVS4NYyHGJnfxpfNKpZ0roxEDCdD9oIAaMJ4z\",\"object_type\":"
        "\"lead\","
        "\"previous_data\":{}}");
    assert_true(event_content_equal(event, again));
    event_unref(event);
    event_unref(again);
    event_parser_free(parser);
}

static void append_levels(struct buf *json, int levels, const char *innermost)
{
    buf_append_string(json, "{" HEAD ",\"data\":");
    for (int i = 0; i < levels; i++)
        buf_append_string(json, i % 2 ? "[" : "{\"a\":");
    buf_append_string(json, innermost);
    for (int i = levels; i > 0; i--)
        buf_append_char(json, (i - 1) % 2 ? ']' : '}');
    buf_append_char(json, '}');
}

static void depth_and_size_cost_no_more_than_their_bytes(void **state)
{
    struct buf deep[2] = {{0}, {0}};
    struct buf wide[2] = {{0}, {0}};

    (void)state;
    append_levels(&deep[0], 1000, "1");
    append_levels(&deep[1], 1000, "2");
    assert_false(are_equal(deep[0].data, deep[1].data));
    for (int w = 0; w < 2; w++) {
        buf_append_string(&wide[w], "{" HEAD ",\"data\":{\"k\":0");
        for (int i = 0; i < 200000; i++)
            buf_printf(&wide[w], ",\"k%d\":%d", w ? i : 199999 - i, w ? i : 199999 - i);
        buf_append_string(&wide[w], "}}");
    }
    assert_true(are_equal(wide[0].data, wide[1].data));
    for (int i = 0; i < 2; i++) {
        buf_release(&deep[i]);
        buf_release(&wide[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_spellings_say_the_same),
        cmocka_unit_test(other_content_is_found),
        cmocka_unit_test(what_is_no_event_has_no_content),
        cmocka_unit_test(a_real_delivery_is_known_again_in_the_spelling_of_the_log),
        cmocka_unit_test(depth_and_size_cost_no_more_than_their_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
