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
#include "schemas/field_policy.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"

/* The only entry is in line 4; `rest` is what it has besides the object type. */
static struct config *parse(const char *rest, const char *sections, struct buf *messages)
{
    struct buf yaml = {0};
    struct config *config;

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
               "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: \"mqtt://m\"}}\n"
               "topic_map:\n"
               "- {object_type: lead, kafka: {topic: k}, mqtt: {topic: m}, %s}\n%s",
               rest, sections);
    config = config_parse("c.yaml", buf_text(&yaml), messages);
    buf_release(&yaml);
    return config;
}

static void both_destinations_have_the_policy_of_their_entry(void **state)
{
    static const struct {
        const char *rest;
        const char *policy;
    } cases[] = {
        {"fields: {drop: [data.emails, meta]}", "{\"drop\":[\"data.emails\",\"meta\"]}"},
        {"fields: {drop: data.emails}", "{\"drop\":[\"data.emails\"]}"},
        {"fields: {keep: [data.name, data.custom]}", "{\"keep\":[\"data.name\",\"data.custom\"]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf messages = {0};
        struct buf json = {0};
        struct config *config = parse(cases[i].rest, "", &messages);

        assert_string_equal(messages.data ? messages.data : "", "");
        assert_non_null(config->entries[0].fields);
        field_policy_append_json(config->entries[0].fields, &json);
        assert_string_equal(json.data, cases[i].policy);
        assert_ptr_equal(config->entries[0].kafka.fields, config->entries[0].fields);
        assert_ptr_equal(config->entries[0].mqtt.fields, config->entries[0].fields);
        buf_release(&json);
        config_free(config);
        buf_release(&messages);
    }
}

static void mistakes_are_named(void **state)
{
#define AT "c.yaml:4: topic_map[0].fields"
    static const struct {
        const char *rest;
        const char *messages;
    } cases[] = {
        {"fields: [data.emails]", AT ": expected a mapping, found a list\n"},
        {"fields: {}", AT ": has neither drop nor keep\n"},
        {"fields: {drop: data.a, keep: data.b}", AT ": only one of drop and keep can be used\n"},
        {"fields: {drp: data.a}",
         AT ": has neither drop nor keep\n" AT ".drp: unknown key; did you mean drop?\n"},
        {"fields: {drop: []}", AT ".drop: expected a list of paths such as data.emails, found "
                                  "none\n"},
        {"fields: {drop: {data: emails}}", AT ".drop: expected a list of paths such as "
                                              "data.emails, found a mapping\n"},
        {"fields: {drop: [data.a, emails]}",
         AT ".drop[1]: emails is not in an event; the fields of the record are under data, as "
            "data.emails\n"},
        {"fields: {drop: [data.a, data.a]}", AT ".drop[1]: data.a is in the list already\n"},
        {"fields: {drop: [[data.a]]}", AT ".drop[0]: expected a value, found a list\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf messages = {0};
        struct config *config = parse(cases[i].rest, "", &messages);

        print_message("%s\n", cases[i].rest);
        assert_string_equal(messages.data ? messages.data : "", cases[i].messages);
        assert_null(config);
        buf_release(&messages);
    }
#undef AT
}

static void raw_cannot_be_cut(void **state)
{
#define RAW(publisher, member)                                                                     \
    "c.yaml:3: topic_map[0]." publisher member " is raw, the whole body byte for byte: nothing "   \
    "can be cut out of it; with fields use event, cloudevents or msgpack\n"
    static const struct {
        const char *targets;
        const char *messages;
    } cases[] = {
        {"kafka: {topic: k, format: raw}", RAW("kafka", ".format:")},
        {"kafka: {topic: k}, mqtt: {topic: m, format: raw}", RAW("mqtt", ".format:")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf messages = {0};
        struct buf yaml = {0};

        buf_printf(&yaml,
                   "accounts: [{name: main, signature_keys: [" KEY "]}]\n"
                   "publishers: {kafka: {bootstrap.servers: k}, mqtt: {url: \"mqtt://m\"}}\n"
                   "topic_map: [{object_type: lead, fields: {drop: data.a}, %s},\n"
                   "  {object_type: contact, mqtt: {topic: m, format: raw}, kafka: {topic: k}}]\n",
                   cases[i].targets);
        assert_null(config_parse("c.yaml", buf_text(&yaml), &messages));
        assert_string_equal(messages.data, cases[i].messages);
        buf_release(&yaml);
        buf_release(&messages);
    }
#undef RAW
}

static void what_broker_mode_copies_whole_is_said(void **state)
{
#define BROKER "journal: {acknowledge: broker}\ndead_letters: {kafka: {topic: dead}}\n"
    static const struct {
        const char *rest;
        const char *sections;
        const char *messages;
    } cases[] = {
        {"fields: {drop: data.a}", BROKER,
         "c.yaml:6: warning: dead_letters.kafka: gets what is not an event whole, whatever the "
         "fields of topic_map, for with acknowledge: broker nothing else keeps it\n"},
        {"fallback: true", BROKER, ""},
        {"fields: {drop: data.a}", "dead_letters: {kafka: {topic: dead}}\n", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf messages = {0};
        struct config *config = parse(cases[i].rest, cases[i].sections, &messages);

        assert_string_equal(messages.data ? messages.data : "", cases[i].messages);
        assert_non_null(config);
        config_free(config);
        buf_release(&messages);
    }
#undef BROKER
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_destinations_have_the_policy_of_their_entry),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(raw_cannot_be_cut),
        cmocka_unit_test(what_broker_mode_copies_whole_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
