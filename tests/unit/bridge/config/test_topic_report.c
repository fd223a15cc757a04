#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"
#include "schemas/catalog.h"
#include "schemas/json_reader.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define FILTER "extra_filter: {type: field_accessor, field: user_id, filter: {type: non_null}}"
#define OTHER_FILTER "extra_filter: {type: field_accessor, field: user_id, filter: {type: is_null}}"

struct fixture {
    struct config *config;
    struct topic_report *report;
};

/* The first entry is in line 4 of the file. */
static struct fixture open_report(const char *entries)
{
    struct fixture fixture;
    struct buf messages = {0};
    struct buf yaml = {0};

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY
               "]}, {name: second, signature_keys: [" KEY "]}]\n"
               "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: \"mqtt://m\"}}\n"
               "topic_map:\n%s",
               entries);
    fixture.config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!fixture.config)
        fail_msg("%s", messages.data);
    fixture.report = topic_report_make(fixture.config);
    buf_release(&messages);
    buf_release(&yaml);
    return fixture;
}

static void close_report(struct fixture *fixture)
{
    topic_report_free(fixture->report);
    config_free(fixture->config);
}

static void describe_row(const struct topic_report_row *row, struct buf *out)
{
    buf_printf(out, "%s:", row->account ? row->account : "*");
    for (size_t i = 0; i < row->count; i++) {
        const struct topic_report_destination *destination = &row->destinations[i];

        buf_printf(out, " %s=%s@%d%s", topic_report_publisher_name(destination->publisher),
                   destination->topic ? destination->topic : "(refused)", destination->entry->line,
                   destination->is_conditional ? "?" : "");
    }
    buf_append_char(out, '\n');
}

/* What the report says of a pair under these entries: a line for each of its rows. */
static void check_pair(const char *entries, const char *object_type, const char *action,
                       const char *expected)
{
    struct fixture fixture = open_report(entries);
    struct buf lines = {0};

    for (size_t i = 0; i < fixture.report->count; i++) {
        const struct topic_report_row *row = &fixture.report->rows[i];

        if (strcmp(row->object_type, object_type) == 0 && strcmp(row->action, action) == 0)
            describe_row(row, &lines);
    }
    assert_string_equal(lines.data ? lines.data : "", expected);
    buf_release(&lines);
    close_report(&fixture);
}

static void every_pair_of_the_catalog_has_its_row(void **state)
{
    struct fixture fixture = open_report("- {object_type: lead, kafka: {topic: t}}\n");
    size_t published = 0;

    (void)state;
    assert_int_equal(fixture.report->count, catalog_size);
    for (size_t i = 0; i < catalog_size; i++) {
        const struct topic_report_row *row = &fixture.report->rows[i];

        assert_ptr_equal(row->known, &catalog_pairs[i]);
        assert_string_equal(row->object_type, catalog_pairs[i].object_type);
        published += row->count;
        assert_int_equal(row->count > 0, strcmp(row->object_type, "lead") == 0);
        assert_int_equal(row->is_subscribed, row->count > 0);
    }
    assert_int_equal(published, 4);
    close_report(&fixture);
}

static void topics_are_those_of_the_pair(void **state)
{
    (void)state;
    check_pair("- {object_type: activity.*, kafka: {topic: 'a.{object_type}'},\n"
               "   mqtt: {topic: '{category}/{object_type}/{action}/{lead_id}/{object_id}'}}\n",
               "activity.note", "created",
               "*: kafka=a.activity.note@4 "
               "mqtt=note/activity/note/created/{lead_id}/{object_id}@4\n");
    check_pair("- {object_type: lead, kafka: {topic: t}}\n", "contact", "created", "*:\n");
}

static void accounts_that_differ_have_rows_of_their_own(void **state)
{
    static const char entries[] = "- {object_type: lead, account: second, kafka: {topic: t}}\n"
                                  "- {object_type: contact, kafka: {topic: 'c.{account}'}}\n"
                                  "- {object_type: opportunity, kafka: {topic: o}}\n";

    (void)state;
    check_pair(entries, "lead", "created", "main:\nsecond: kafka=t@4\n");
    check_pair(entries, "contact", "created", "main: kafka=c.main@5\nsecond: kafka=c.second@5\n");
    check_pair(entries, "opportunity", "created", "*: kafka=o@6\n");
}

static void named_pairs_outside_the_catalog_are_shown_once(void **state)
{
    static const char entries[] =
        "- {object_type: shiny, action: [made, lost], kafka: {topic: t}}\n"
        "- {object_type: shiny, action: made, kafka: {topic: u}}\n";
    struct fixture fixture = open_report(entries);

    (void)state;
    assert_int_equal(fixture.report->count, catalog_size + 2);
    assert_null(fixture.report->rows[catalog_size].known);
    assert_string_equal(topic_report_status(&fixture.report->rows[catalog_size]), "unlisted");
    assert_true(fixture.report->rows[catalog_size].is_subscribed);
    close_report(&fixture);
    check_pair(entries, "shiny", "made", "*: kafka=t@4 kafka=u@5\n");
    check_pair(entries, "shiny", "lost", "*: kafka=t@4\n");
}

static void a_fallback_is_there_when_something_may_be_left_for_it(void **state)
{
#define FALLBACK "- {object_type: '*', fallback: true, kafka: {topic: rest}}\n"
#define FILTERED_FALLBACK "- {object_type: '*', fallback: true, kafka: {topic: rest}, " FILTER "}\n"
    (void)state;
    check_pair(FALLBACK, "lead", "created", "*: kafka=rest@4\n");
    check_pair(FALLBACK "- {object_type: lead, kafka: {topic: t}}\n", "lead", "created",
               "*: kafka=t@5\n");
    check_pair(FALLBACK "- {object_type: lead, kafka: {topic: t}, " FILTER "}\n", "lead", "created",
               "*: kafka=rest@4? kafka=t@5?\n");
    check_pair(FILTERED_FALLBACK "- {object_type: lead, kafka: {topic: t}, " FILTER "}\n", "lead",
               "created", "*: kafka=t@5?\n");
    check_pair(FILTERED_FALLBACK "- {object_type: lead, kafka: {topic: t}, " OTHER_FILTER "}\n",
               "lead", "created", "*: kafka=rest@4? kafka=t@5?\n");
    check_pair(FALLBACK "- {object_type: lead, account: main, kafka: {topic: t}}\n", "lead",
               "created", "main: kafka=t@5\nsecond: kafka=rest@4\n");
#undef FALLBACK
#undef FILTERED_FALLBACK
}

static void a_name_that_is_refused_is_said(void **state)
{
    char entries[512];
    char literal[245];
    struct fixture fixture;

    (void)state;
    memset(literal, 'x', sizeof(literal) - 1);
    literal[sizeof(literal) - 1] = '\0';
    snprintf(entries, sizeof(entries), "- {object_type: '*', kafka: {topic: '%s.{action}'}}\n",
             literal);
    check_pair(entries, "lead", "completed", "");
    check_pair(entries, "task.lead", "completed", "*: kafka=(refused)@4\n");
    fixture = open_report(entries);
    for (size_t i = 0; i < fixture.report->count; i++) {
        const struct topic_report_row *row = &fixture.report->rows[i];

        if (strcmp(row->action, "completed") == 0)
            assert_string_equal(row->destinations[0].refusal,
                                "a Kafka topic has 1 to 249 bytes, this one has 254");
    }
    close_report(&fixture);
}

static const struct topic_report_row *row_of(const struct topic_report *report,
                                             const char *object_type, const char *action)
{
    for (size_t i = 0; i < report->count; i++) {
        if (strcmp(report->rows[i].object_type, object_type) == 0 &&
            strcmp(report->rows[i].action, action) == 0)
            return &report->rows[i];
    }
    fail_msg("no row of %s %s", object_type, action);
    return NULL;
}

static void what_close_is_asked_for_is_shown(void **state)
{
    struct fixture fixture = open_report(
        "- {object_type: '*', kafka: {topic: t}}\n"
        "- {object_type: activity.email, action: updated, kafka: {topic: u}, " FILTER "}\n");

    (void)state;
    assert_true(row_of(fixture.report, "lead", "created")->is_subscribed);
    assert_null(row_of(fixture.report, "lead", "created")->extra_filter);
    /* It comes in by nobody's asking, yet it goes where the wildcard says. */
    assert_false(row_of(fixture.report, "activity.created", "created")->is_subscribed);
    assert_int_equal(row_of(fixture.report, "activity.created", "created")->count, 1);
    assert_string_equal(row_of(fixture.report, "activity.email", "updated")->extra_filter,
                        "{\"type\":\"field_accessor\",\"field\":\"user_id\",\"filter\":"
                        "{\"type\":\"non_null\"}}");
    close_report(&fixture);
}

static void as_json_it_is_whole(void **state)
{
    struct fixture fixture =
        open_report("- {object_type: lead, action: created, fields: {drop: data.a}, "
                    "kafka: {topic: t, key: '{account}\"', "
                    "timestamp: event}}\n"
                    "- {object_type: lead, action: created, fallback: true, " FILTER
                    ", mqtt: {topic: m, qos: 2, retain: true, format: msgpack}}\n"
                    "- {object_type: lead, action: merged, " FILTER
                    ", mqtt: {topic: m, qos: 2, retain: true, format: msgpack}}\n");
    struct json_reader *reader = json_reader_new();
    struct buf json = {0};
    size_t size;

    (void)state;
    topic_report_append_json(fixture.report, &json);
    assert_non_null(strstr(
        json.data,
        " {\"object_type\":\"lead\",\"action\":\"created\",\"category\":\"lead\","
        "\"label\":\"Lead Created\",\"group\":\"\",\"status\":\"documented\",\"account\":null,"
        "\"subscribed\":true,\"extra_filter\":null,\"destinations\":[{\"publisher\":\"kafka\","
        "\"topic\":\"t\",\"format\":\"event\",\"key\":\"{account}\\\"\",\"timestamp\":\"event\","
        "\"tombstone\":false,\"conditional\":false,\"fallback\":false,\"filter\":null,"
        "\"fields\":{\"drop\":[\"data.a\"]},\"line\":4}]},\n"));
    assert_non_null(strstr(
        json.data, "\"destinations\":[{\"publisher\":\"mqtt\",\"topic\":\"m\",\"format\":"
                   "\"msgpack\",\"qos\":2,\"retain\":true,\"conditional\":true,\"fallback\":false,"
                   "\"filter\":{\"type\":\"field_accessor\",\"field\":\"user_id\",\"filter\":"
                   "{\"type\":\"non_null\"}},\"fields\":null,\"line\":6}]},\n"));
    assert_non_null(strstr(json.data, "\"destinations\":[]}"));
    size = json.size;
    assert_true(buf_reserve(&json, JSON_PADDING));
    memset(json.data + size, 0, JSON_PADDING);
    assert_int_equal(json_reader_check(reader, json.data, size), JSON_VALID);
    json_reader_free(reader);
    buf_release(&json);
    close_report(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_the_catalog_has_its_row),
        cmocka_unit_test(topics_are_those_of_the_pair),
        cmocka_unit_test(accounts_that_differ_have_rows_of_their_own),
        cmocka_unit_test(named_pairs_outside_the_catalog_are_shown_once),
        cmocka_unit_test(a_fallback_is_there_when_something_may_be_left_for_it),
        cmocka_unit_test(a_name_that_is_refused_is_said),
        cmocka_unit_test(what_close_is_asked_for_is_shown),
        cmocka_unit_test(as_json_it_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
