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
#include "bridge/base/text.h"
#include "bridge/config/config.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define FILTER "extra_filter: {type: field_accessor, field: user_id, filter: {type: non_null}}"
#define OTHER_FILTER "extra_filter: {type: field_accessor, field: user_id, filter: {type: is_null}}"

/* What is said of a map of these entries, which is served all the same; the first is in line 4. */
static void check_warnings_with(const char *sections, const char *entries, const char *expected)
{
    struct buf messages = {0};
    struct buf yaml = {0};
    struct config *config;

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY
               "]}, {name: second, signature_keys: [" KEY "]}]\n"
               "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: \"mqtt://m\"}}\n"
               "topic_map:\n%s"
               "- {object_type: lead, action: merged, kafka: {topic: k}, mqtt: {topic: m}}\n%s",
               entries, sections);
    config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!config || strcmp(messages.data ? messages.data : "", expected) != 0)
        print_error("%s", entries);
    assert_string_equal(messages.data ? messages.data : "", expected);
    assert_non_null(config);
    config_free(config);
    buf_release(&messages);
    buf_release(&yaml);
}

static void check_warnings(const char *entries, const char *expected)
{
    check_warnings_with("", entries, expected);
}

static void an_entry_that_subscribes_to_nothing_is_said(void **state)
{
#define NOTHING(line, entry)                                                                       \
    "c.yaml:" line ": warning: topic_map[" entry "]: subscribes to nothing at Close: a wildcard "  \
    "stands for documented pairs only, and here is none; name the actions\n"
    (void)state;
    check_warnings("- {object_type: activity.lead_merge, kafka: {topic: t}}\n", NOTHING("4", "0"));
    check_warnings("- {object_type: lead, action: created, kafka: {topic: t}}\n"
                   "- {object_type: activity.created, kafka: {topic: t}}\n",
                   NOTHING("5", "1"));
    check_warnings("- {object_type: activity.lead_merge, action: [created, updated], kafka: "
                   "{topic: t}}\n",
                   "");
    check_warnings("- {object_type: activity.email, kafka: {topic: t}}\n", "");
    check_warnings("- {category: call, kafka: {topic: t}}\n", "");
#undef NOTHING
}

static void a_fallback_that_is_never_reached_is_said(void **state)
{
#define NEVER(line, entry)                                                                         \
    "c.yaml:" line ": warning: topic_map[" entry "].fallback: is never reached: other entries "    \
    "take every event that it could get\n"
#define REST "- {object_type: lead, fallback: true, kafka: {topic: rest}}\n"
    (void)state;
    check_warnings("- {object_type: lead, kafka: {topic: t}}\n" REST, NEVER("5", "1"));
    check_warnings(REST "- {object_type: '*', kafka: {topic: t}}\n", NEVER("4", "0"));
    check_warnings("- {object_type: '*', kafka: {topic: t}}\n"
                   "- {object_type: '*', fallback: true, kafka: {topic: rest}}\n",
                   NEVER("5", "1"));
    check_warnings(
        "- {object_type: activity.*, action: created, kafka: {topic: t}}\n"
        "- {object_type: activity.*, action: created, fallback: true, mqtt: {topic: r}}\n",
        NEVER("5", "1"));
    check_warnings(
        "- {category: lead, kafka: {topic: t}}\n"
        "- {category: lead, labels: [Lead Created], fallback: true, kafka: {topic: r}}\n",
        NEVER("5", "1"));
    check_warnings("- {object_type: lead, account: main, kafka: {topic: t}}\n"
                   "- {object_type: lead, account: second, kafka: {topic: u}}\n" REST,
                   NEVER("6", "2"));
    check_warnings("- {object_type: lead, kafka: {topic: t}, " FILTER "}\n"
                   "- {object_type: lead, fallback: true, kafka: {topic: rest}, " FILTER "}\n",
                   NEVER("5", "1"));
    check_warnings("- {object_type: shiny, action: made, kafka: {topic: t}}\n"
                   "- {object_type: shiny, action: made, fallback: true, kafka: {topic: r}}\n",
                   "c.yaml:4: warning: topic_map[0].object_type: not in Close's catalog\n"
                   "c.yaml:5: warning: topic_map[1].object_type: not in Close's "
                   "catalog\n" NEVER("5", "1"));
#undef NEVER
}

static void a_fallback_that_may_be_reached_is_fine(void **state)
{
    static const char *const others[] = {
        "- {object_type: lead, kafka: {topic: t}, " FILTER "}\n",
        "- {object_type: lead, account: main, kafka: {topic: t}}\n",
        "- {object_type: lead, action: [created, updated, deleted], kafka: {topic: t}}\n",
        "- {object_type: contact, kafka: {topic: t}}\n",
        /* actions that the catalog does not have */
        "- {category: lead, kafka: {topic: t}}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct buf entries = {0};

        buf_printf(&entries, "%s" REST, others[i]);
        check_warnings(entries.data, "");
        buf_release(&entries);
    }
    /* Of pairs that nobody knows. */
    check_warnings("- {object_type: 'activity.*', kafka: {topic: t}}\n"
                   "- {object_type: activity.note, fallback: true, kafka: {topic: rest}}\n"
                   "- {object_type: '*', fallback: true, kafka: {topic: rest}}\n",
                   "c.yaml:5: warning: topic_map[1].fallback: is never reached: other entries take "
                   "every event that it could get\n");
    check_warnings("- {object_type: lead, kafka: {topic: t}, " OTHER_FILTER "}\n"
                   "- {object_type: lead, fallback: true, kafka: {topic: rest}, " FILTER "}\n",
                   "");
#undef REST
}

static void events_that_come_to_one_topic_twice_are_said(void **state)
{
#define TWICE(key, pairs)                                                                          \
    "c.yaml:5: warning: topic_map[1]." key ": gets events twice: the entry in line 4 sends " pairs \
    " to the same topic\n"
    (void)state;
    check_warnings("- {object_type: lead, action: created, kafka: {topic: t}}\n"
                   "- {object_type: lead, kafka: {topic: t}}\n",
                   TWICE("kafka.topic", "lead/created"));
    check_warnings(
        "- {object_type: activity.note, mqtt: {topic: 'a/note/{lead_id}'}}\n"
        "- {object_type: activity.*, mqtt: {topic: 'a/{category}/{lead_id}', format: msgpack}}\n",
        TWICE("mqtt.topic", "activity.note/created and 2 more"));
    check_warnings("- {object_type: lead, kafka: {topic: t}, " FILTER "}\n"
                   "- {object_type: lead, action: created, account: main, kafka: {topic: t}}\n",
                   TWICE("kafka.topic", "lead/created"));
    check_warnings("- {object_type: lead, fallback: true, kafka: {topic: t}}\n"
                   "- {object_type: '*', fallback: true, kafka: {topic: t}}\n",
                   TWICE("kafka.topic", "lead/created and 2 more"));
#undef TWICE
}

static void events_that_come_once_are_not(void **state)
{
    static const char *const maps[] = {
        "- {object_type: lead, kafka: {topic: t}}\n- {object_type: contact, kafka: {topic: t}}\n",
        "- {object_type: lead, kafka: {topic: t}, mqtt: {topic: t}}\n",
        "- {object_type: lead, account: main, kafka: {topic: t}}\n"
        "- {object_type: lead, account: second, kafka: {topic: t}}\n",
        "- {object_type: lead, kafka: {topic: t}, " FILTER "}\n"
        "- {object_type: lead, kafka: {topic: t}, " OTHER_FILTER "}\n",
        "- {object_type: lead, kafka: {topic: t}, " FILTER "}\n"
        "- {object_type: lead, fallback: true, kafka: {topic: t}}\n",
        "- {object_type: '*', kafka: {topic: 'a.{object_type}'}}\n"
        "- {object_type: '*', kafka: {topic: 'b.{object_type}'}}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
        check_warnings(maps[i], "");
}

static void pairs_without_a_name_are_said(void **state)
{
    char entries[512];
    char literal[245];

    (void)state;
    memset(literal, 'x', sizeof(literal) - 1);
    literal[sizeof(literal) - 1] = '\0';
    snprintf(entries, sizeof(entries),
             "- {object_type: task.lead, kafka: {topic: '%s.{action}'}}\n", literal);
    check_warnings(entries,
                   "c.yaml:4: warning: topic_map[0].kafka.topic: has no name for "
                   "task.lead/created, whose events become dead letters: a Kafka topic has 1 to "
                   "249 bytes, this one has 252\n");
}

static void a_topic_of_dead_letters_and_events_is_said(void **state)
{
    static const char entries[] = "- {object_type: group, kafka: {topic: dead}}\n"
                                  "- {object_type: contact, kafka: {topic: 'c.{object_type}'},\n"
                                  "   mqtt: {topic: letters}}\n";

    (void)state;
    check_warnings_with("dead_letters: {kafka: {topic: letters}}\n", entries, "");
    check_warnings_with(
        "dead_letters: {kafka: {topic: c.contact}}\n", entries,
        "c.yaml:8: warning: dead_letters.kafka.topic: is a topic of the entry in "
        "line 5 too: its consumers cannot tell dead letters but by their headers\n");
}

/* As many entries as there may be, each for its own topic. */
static void the_largest_map_is_checked_in_time(void **state)
{
    struct buf entries = {0};
    time_t before = time(NULL);

    (void)state;
    for (int i = 0; i < 4000; i++)
        buf_printf(&entries, "- {object_type: '*', kafka: {topic: t%d}}\n", i);
    check_warnings(entries.data, "");
    assert_true(time(NULL) - before < 60);
    buf_release(&entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_that_subscribes_to_nothing_is_said),
        cmocka_unit_test(a_fallback_that_is_never_reached_is_said),
        cmocka_unit_test(a_fallback_that_may_be_reached_is_fine),
        cmocka_unit_test(events_that_come_to_one_topic_twice_are_said),
        cmocka_unit_test(events_that_come_once_are_not),
        cmocka_unit_test(pairs_without_a_name_are_said),
        cmocka_unit_test(a_topic_of_dead_letters_and_events_is_said),
        cmocka_unit_test(the_largest_map_is_checked_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
