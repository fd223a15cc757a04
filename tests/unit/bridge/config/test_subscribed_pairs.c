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
#include "bridge/config/subscribed_pairs.h"
#include "schemas/catalog.h"

#define KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"

#define FIELD(field, filter)                                                                       \
    "{\"type\":\"field_accessor\",\"field\":\"" field "\",\"filter\":" filter "}"
#define EQUALS(value) "{\"type\":\"equals\",\"value\":\"" value "\"}"

/* The pairs of the account `main` under a topic map of these entries, in YAML. */
static struct subscribed_pairs pairs_of(const char *entries)
{
    struct subscribed_pairs pairs = {0};
    struct buf messages = {0};
    struct buf yaml = {0};
    struct config *config;

    buf_printf(&yaml,
               "accounts: [{name: main, signature_keys: [" KEY
               "]}, {name: second, signature_keys: [" KEY "]}]\n"
               "publishers: {kafka: {bootstrap.servers: \"localhost:9092\"}}\n"
               "topic_map:\n%s",
               entries);
    config = config_parse("c.yaml", buf_text(&yaml), &messages);
    if (!config)
        fail_msg("%s", messages.data);
    assert_int_equal(subscribed_pairs_list(config, "main", &pairs, NULL), 0);
    config_free(config);
    buf_release(&messages);
    buf_release(&yaml);
    return pairs;
}

static const struct subscribed_pair *find(const struct subscribed_pairs *pairs,
                                          const char *object_type, const char *action)
{
    const struct subscribed_pair *found = NULL;

    for (size_t i = 0; i < pairs->count; i++) {
        if (strcmp(pairs->pairs[i].object_type, object_type) != 0 ||
            strcmp(pairs->pairs[i].action, action) != 0)
            continue;
        assert_null(found); /* Close refuses a pair that stands there twice */
        found = &pairs->pairs[i];
    }
    return found;
}

/* All pairs with their filters, one a line. */
static void check_pairs(const char *entries, const char *expected)
{
    struct subscribed_pairs pairs = pairs_of(entries);
    struct buf lines = {0};

    for (size_t i = 0; i < pairs.count; i++) {
        const struct subscribed_pair *pair = &pairs.pairs[i];

        buf_printf(&lines, "%s %s", pair->object_type, pair->action);
        if (pair->extra_filter)
            buf_printf(&lines, " %s", pair->extra_filter);
        buf_append_char(&lines, '\n');
    }
    assert_string_equal(lines.size ? lines.data : "", expected);
    buf_release(&lines);
    subscribed_pairs_release(&pairs);
}

static void wildcards_stand_for_every_documented_pair(void **state)
{
    struct subscribed_pairs pairs = pairs_of("- {object_type: \"*\", kafka: {topic: all}}\n");
    size_t documented = 0;

    (void)state;
    for (size_t i = 0; i < catalog_size; i++) {
        bool is_documented = catalog_pairs[i].status == CATALOG_DOCUMENTED;

        documented += is_documented;
        assert_int_equal(find(&pairs, catalog_pairs[i].object_type, catalog_pairs[i].action) !=
                             NULL,
                         is_documented);
    }
    assert_int_equal(pairs.count, documented);
    assert_true(documented > 150);
    subscribed_pairs_release(&pairs);
}

static void what_is_not_documented_must_be_named(void **state)
{
    (void)state;
    check_pairs("- {object_type: activity.email, kafka: {topic: mails}}\n",
                "activity.email created\nactivity.email deleted\nactivity.email sent\n");
    check_pairs("- {object_type: activity.email, action: updated, kafka: {topic: mails}}\n",
                "activity.email updated\n");
    check_pairs("- {category: call, labels: [Call Updated], kafka: {topic: calls}}\n",
                "activity.call updated\n");
    check_pairs("- {object_type: activity.created, action: created, kafka: {topic: t}}\n",
                "activity.created created\n");
    check_pairs("- {object_type: saved_search, action: [created, deleted], kafka: {topic: t}}\n",
                "saved_search created\nsaved_search deleted\n");
}

static void pairs_outside_the_catalog_are_there_once_when_named(void **state)
{
    (void)state;
    check_pairs("- {object_type: shiny, action: [made, lost], kafka: {topic: t}}\n"
                "- {object_type: shiny, action: made, kafka: {topic: u}}\n"
                "- {object_type: lead, action: [merged, cloned], kafka: {topic: v}}\n",
                "lead merged\nshiny made\nshiny lost\nlead cloned\n");
    check_pairs("- {object_type: shiny, kafka: {topic: t}}\n", "");
    check_pairs("- {object_type: custom_activity, action: created, kafka: {topic: t}}\n",
                "activity.custom_activity created\n");
}

static void categories_labels_and_groups_choose(void **state)
{
    (void)state;
    check_pairs("- {category: bulk_action, labels: [Bulk Action Created], kafka: {topic: t}}\n",
                "bulk_action.delete created\nbulk_action.edit created\n"
                "bulk_action.email created\nbulk_action.sequence_subscription created\n");
    check_pairs("- {category: close_account_setup, group: Statuses, kafka: {topic: t}}\n",
                "status.lead created\nstatus.lead updated\nstatus.lead deleted\n"
                "status.opportunity created\nstatus.opportunity updated\n"
                "status.opportunity deleted\n");
}

static void entries_of_another_account_do_not_count(void **state)
{
    (void)state;
    check_pairs("- {object_type: lead, action: created, account: second, kafka: {topic: t}}\n"
                "- {object_type: lead, action: updated, account: main, kafka: {topic: t}}\n",
                "lead updated\n");
}

static void a_pair_is_filtered_when_all_its_entries_are(void **state)
{
    (void)state;
    check_pairs("- {object_type: lead, action: created, kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: equals, value: user_1}}}\n",
                "lead created " FIELD("user_id", EQUALS("user_1")) "\n");
    check_pairs("- {object_type: lead, action: [created, updated], kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: equals, value: user_1}}}\n"
                "- {object_type: lead, action: created, kafka: {topic: u}}\n",
                "lead created\nlead updated " FIELD("user_id", EQUALS("user_1")) "\n");
}

static void several_filters_become_one_or_with_each_once(void **state)
{
    (void)state;
    check_pairs("- {object_type: lead, action: created, kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: equals, value: user_1}}}\n"
                "- {object_type: lead, action: created, kafka: {topic: u},\n"
                "   extra_filter: {type: field_accessor, field: lead_id,\n"
                "                  filter: {type: equals, value: lead_1}}}\n"
                "- {object_type: lead, action: created, kafka: {topic: v},\n"
                "   extra_filter: {field: user_id, type: field_accessor,\n"
                "                  filter: {value: user_1, type: equals}}}\n",
                "lead created {\"type\":\"or\",\"filters\":[" FIELD(
                    "user_id", EQUALS("user_1")) "," FIELD("lead_id", EQUALS("lead_1")) "]}\n");
}

/* What the filter refuses would go to the fallback. */
static void a_fallback_counts_as_any_entry(void **state)
{
    (void)state;
    check_pairs("- {object_type: lead, action: created, kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: non_null}}}\n"
                "- {object_type: lead, action: created, fallback: true, kafka: {topic: u}}\n",
                "lead created\n");
}

/* The wildcard does not ask for it, but gets it. */
static void a_wildcard_takes_what_another_entry_names(void **state)
{
    (void)state;
    check_pairs("- {object_type: shiny, action: made, kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: non_null}}}\n"
                "- {object_type: \"shin.*\", kafka: {topic: u}}\n",
                "shiny made " FIELD("user_id", "{\"type\":\"non_null\"}") "\n");
    check_pairs("- {object_type: shiny.thing, action: made, kafka: {topic: t},\n"
                "   extra_filter: {type: field_accessor, field: user_id,\n"
                "                  filter: {type: non_null}}}\n"
                "- {object_type: \"shiny.*\", kafka: {topic: u}}\n",
                "shiny.thing made\n");
}

static void fields_of_data_are_looked_for_where_close_has_them(void **state)
{
    (void)state;
    check_pairs(
        "- {object_type: lead, action: [updated, deleted], kafka: {topic: t},\n"
        "   extra_filter: {type: field_accessor, field: status_id,\n"
        "                  filter: {type: equals, value: stat_1}}}\n",
        "lead updated " FIELD(
            "data",
            FIELD("status_id", EQUALS("stat_1"))) "\n"
                                                  "lead deleted " FIELD(
                                                      "previous_data",
                                                      FIELD("status_id", EQUALS("stat_1"))) "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wildcards_stand_for_every_documented_pair),
        cmocka_unit_test(what_is_not_documented_must_be_named),
        cmocka_unit_test(pairs_outside_the_catalog_are_there_once_when_named),
        cmocka_unit_test(categories_labels_and_groups_choose),
        cmocka_unit_test(entries_of_another_account_do_not_count),
        cmocka_unit_test(a_pair_is_filtered_when_all_its_entries_are),
        cmocka_unit_test(several_filters_become_one_or_with_each_once),
        cmocka_unit_test(a_fallback_counts_as_any_entry),
        cmocka_unit_test(a_wildcard_takes_what_another_entry_names),
        cmocka_unit_test(fields_of_data_are_looked_for_where_close_has_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
