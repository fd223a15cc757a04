#include "bridge/dispatcher/dead_fields.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"

static void add(struct dead_fields *fields, const struct field_policy *policy)
{
    if (policy)
        fields->policies[fields->count++] = policy;
}

/* False when no route of the event leads there. */
static bool add_of_topic(struct router *router, const struct event *event,
                         enum publisher_index publisher, const char *topic,
                         struct dead_fields *fields)
{
    const struct route *routes;
    size_t count = router_route(router, event, publisher, &routes);
    bool found = false;

    for (size_t i = 0; i < count; i++) {
        const struct config_target *target = routes[i].target;

        /* A name that the rules refuse is kept as the template. */
        if (strcmp(routes[i].topic ? routes[i].topic : target->topic_source, topic) != 0)
            continue;
        found = true;
        add(fields, target->fields);
    }
    return found;
}

void dead_fields_find(struct router *router, const struct event *event, const char *publisher,
                      const char *topic, struct dead_fields *out_fields)
{
    const struct config *config = router_config(router);
    enum publisher_index index = strcmp(publisher, "mqtt") == 0 ? PUBLISHER_MQTT : PUBLISHER_KAFKA;

    *out_fields = (struct dead_fields){
        .policies = alloc_zeroed(config->entry_count, sizeof(const struct field_policy *))};
    if (add_of_topic(router, event, index, topic, out_fields))
        return;
    for (size_t i = 0; i < config->entry_count; i++)
        add(out_fields, config->entries[i].fields);
}

void dead_fields_release(struct dead_fields *fields)
{
    free(fields->policies);
    *fields = (struct dead_fields){0};
}
