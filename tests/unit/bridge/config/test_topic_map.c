#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "publishers/topic_template.h"
#include "schemas/event.h"
#include "schemas/filter.h"

enum { MAX_ENTRIES = 4 };

static char *created[] = {"created"};

/* A map of up to MAX_ENTRIES entries, each with a Kafka topic. */
struct map {
    struct config config;
    struct config_entry entries[MAX_ENTRIES];
    struct router *router;
};

static struct config_entry *add(struct map *map, char *object_type, const char *topic)
{
    struct config_entry *entry = &map->entries[map->config.entry_count++];

    entry->object_type = object_type;
    entry->kafka.is_configured = true;
    entry->kafka.topic = topic_template_compile(text_of(topic), TOPIC_KAFKA, NULL);
    assert_non_null(entry->kafka.topic);
    return entry;
}

static struct router *router_of(struct map *map)
{
    map->config.entries = map->entries;
    map->router = router_new(&map->config, NULL);
    assert_non_null(map->router);
    return map->router;
}

static void release(struct map *map)
{
    router_free(map->router);
    for (size_t i = 0; i < map->config.entry_count; i++) {
        topic_template_free(map->entries[i].kafka.topic);
        topic_template_free(map->entries[i].mqtt.topic);
        filter_free(map->entries[i].filter);
    }
}

static struct event *event_of(const char *account, const char *object_type, const char *action)
{
    struct event_origin origin = {.account = text_of(account)};
    struct event *event = event_new(&origin, text_of("{}"), 0);

    assert_non_null(event);
    assert_true(event_add_field(event, EVENT_ID, text_of("ev_1")));
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of(object_type)));
    assert_true(event_add_field(event, EVENT_ACTION, text_of(action)));
    assert_true(event_add_field(event, EVENT_LEAD_ID, text_of("lead_1")));
    return event;
}

/* The Kafka topics of an event, joined by spaces. */
static const char *topics_of(struct router *router, const char *object_type, const char *action)
{
    static char joined[1000];
    struct event *event = event_of("main", object_type, action);
    const struct route *routes;
    size_t count = router_route(router, event, PUBLISHER_KAFKA, &routes);

    joined[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            strcat(joined, " ");
        strcat(joined, routes[i].topic ? routes[i].topic : "(refused)");
    }
    assert_int_equal(router_matches(router, event), count > 0);
    event_unref(event);
    return joined;
}

static void every_entry_that_matches_publishes_and_fallback_only_when_none_does(void **state)
{
    struct map map = {0};
    struct router *router;

    (void)state;
    add(&map, "lead", "exact.{action}");
    add(&map, "activity.*", "activities");
    add(&map, "activity.note", "notes");
    add(&map, "*", "other")->fallback = true;
    router = router_of(&map);
    assert_string_equal(topics_of(router, "lead", "created"), "exact.created");
    assert_string_equal(topics_of(router, "lead", "updated"), "exact.updated");
    assert_string_equal(topics_of(router, "activity.note", "created"), "activities notes");
    assert_string_equal(topics_of(router, "activity", "created"), "other");
    assert_string_equal(topics_of(router, "never_heard_of", "happened"), "other");
    release(&map);
}

static void wildcards_leave_out_what_close_advises_against(void **state)
{
    struct map map = {0};
    struct config_entry *named;
    static char *updated[] = {"updated"};
    struct router *router;

    (void)state;
    add(&map, "*", "all");
    add(&map, "activity.email", "mails");
    named = add(&map, "activity.email", "edits");
    named->actions = updated;
    named->action_count = 1;
    router = router_of(&map);
    assert_string_equal(topics_of(router, "activity.email", "sent"), "all mails");
    assert_string_equal(topics_of(router, "activity.email", "updated"), "edits");
    assert_string_equal(topics_of(router, "saved_search", "deleted"), "");
    release(&map);
}

static void categories_labels_and_groups_select_pairs_of_the_catalog(void **state)
{
    static char *labels[] = {"Opportunity in New Status"};
    struct map map = {0};
    struct config_entry *entry;
    struct router *router;

    (void)state;
    entry = add(&map, NULL, "status");
    entry->category = "opportunity";
    entry->labels = labels;
    entry->label_count = 1;
    entry = add(&map, NULL, "calls");
    entry->category = "call";
    entry = add(&map, NULL, "statuses");
    entry->category = "close_account_setup";
    entry->group = "Statuses";
    router = router_of(&map);
    assert_string_equal(topics_of(router, "activity.opportunity_status_change", "created"),
                        "status");
    assert_string_equal(topics_of(router, "opportunity", "created"), "");
    assert_string_equal(topics_of(router, "activity.call", "completed"), "calls");
    assert_string_equal(topics_of(router, "activity.call", "updated"), "");
    assert_string_equal(topics_of(router, "status.lead", "deleted"), "statuses");
    assert_string_equal(topics_of(router, "group", "deleted"), "");
    release(&map);
}

static void actions_and_accounts_narrow_an_entry(void **state)
{
    struct map map = {0};
    struct config_entry *entry = add(&map, "lead", "new");
    struct event *event = event_of("second", "lead", "created");
    struct router *router;

    (void)state;
    entry->actions = created;
    entry->action_count = 1;
    entry->account = "main";
    router = router_of(&map);
    assert_string_equal(topics_of(router, "lead", "created"), "new");
    assert_string_equal(topics_of(router, "lead", "updated"), "");
    assert_false(router_matches(router, event));
    event_unref(event);
    release(&map);
}

static void a_filter_decides_for_its_entry_alone_and_counts_for_the_fallback(void **state)
{
    struct map map = {0};
    struct event_origin origin = {.account = text_of("main")};
    struct router *router;
    const struct route *routes;

    (void)state;
    add(&map, "lead", "mine")->filter =
        filter_compile(text_of("{\"type\":\"field_accessor\",\"field\":\"user_id\",\"filter\":"
                               "{\"type\":\"equals\",\"value\":\"user_1\"}}"),
                       NULL);
    add(&map, "*", "rest")->fallback = true;
    router = router_of(&map);
    for (int mine = 0; mine < 2; mine++) {
        struct event *event = event_new(&origin, text_of("{}"), 0);

        assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of("lead")));
        assert_true(event_add_field(event, EVENT_ACTION, text_of("created")));
        assert_true(event_add_field(event, EVENT_OBJECT,
                                    text_of(mine ? "{\"data\":{\"user_id\":\"user_1\"}}"
                                                 : "{\"data\":{\"user_id\":\"user_2\"}}")));
        assert_int_equal(router_route(router, event, PUBLISHER_KAFKA, &routes), 1);
        assert_string_equal(routes[0].topic, mine ? "mine" : "rest");
        event_unref(event);
    }
    release(&map);
}

static void more_pairs_than_are_kept_still_route(void **state)
{
    struct map map = {0};
    struct router *router;
    char name[32];

    (void)state;
    add(&map, "*", "{object_type}");
    router = router_of(&map);
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "type_%d", i);
        assert_string_equal(topics_of(router, name, "made"), name);
    }
    release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_that_matches_publishes_and_fallback_only_when_none_does),
        cmocka_unit_test(wildcards_leave_out_what_close_advises_against),
        cmocka_unit_test(categories_labels_and_groups_select_pairs_of_the_catalog),
        cmocka_unit_test(actions_and_accounts_narrow_an_entry),
        cmocka_unit_test(a_filter_decides_for_its_entry_alone_and_counts_for_the_fallback),
        cmocka_unit_test(more_pairs_than_are_kept_still_route),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
