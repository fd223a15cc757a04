#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_names.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"

static void check_names(const char *sections, const char *expected)
{
    struct buf messages = {0};
    struct buf yaml = {0};
    struct buf found = {0};
    struct topic_names names;
    struct config *config;

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY "]},\n"
               "           {name: second, signature_keys: [" KEY "]}]\n%s",
               sections);
    config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!config)
        fail_msg("%s", messages.data);
    names = topic_names_of(config);
    config_free(config);
    for (size_t i = 0; i < names.count; i++)
        buf_printf(&found, "%s%s", i ? " " : "", names.names[i]);
    assert_string_equal(found.data ? found.data : "", expected);
    topic_names_release(&names);
    buf_release(&found);
    buf_release(&messages);
    buf_release(&yaml);
}

#define KAFKA "publishers: {kafka: {bootstrap.servers: \"a:1\"}, mqtt: {url: \"mqtt://a\"}}\n"

static void names_of_templates_are_those_of_their_pairs(void **state)
{
    (void)state;
    check_names(KAFKA "topic_map:\n"
                      "- {object_type: lead, action: [updated, created],\n"
                      "   kafka: {topic: \"crm.{object_type}.{action}\"}}\n"
                      "- {object_type: status.lead, account: second,\n"
                      "   kafka: {topic: \"{account}.{object_type}\"}}\n"
                      "- {category: call, kafka: {topic: \"{account}.{category}\"}}\n",
                "crm.lead.created crm.lead.updated main.call second.call second.status.lead");
}

static void each_name_is_there_once_with_the_topic_of_dead_letters(void **state)
{
    (void)state;
    check_names(KAFKA "dead_letters: {kafka: {topic: dead}}\n"
                      "topic_map:\n"
                      "- {object_type: lead, kafka: {topic: all}}\n"
                      "- {object_type: contact, kafka: {topic: all}, mqtt: {topic: nothing/here}}\n"
                      "- {object_type: shiny, action: made, kafka: {topic: \"{object_type}\"}}\n"
                      "- {object_type: \"*\", fallback: true, kafka: {topic: rest}}\n",
                "all dead rest shiny");
}

static void without_kafka_there_are_none(void **state)
{
    (void)state;
    check_names("publishers: {mqtt: {url: \"mqtt://a\"}}\n"
                "topic_map: [{object_type: lead, mqtt: {topic: leads}}]\n",
                "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_templates_are_those_of_their_pairs),
        cmocka_unit_test(each_name_is_there_once_with_the_topic_of_dead_letters),
        cmocka_unit_test(without_kafka_there_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
