#include "bridge/config/config_diff.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_parts.h"
#include "schemas/field_policy.h"
#include "schemas/filter.h"

enum { NAME_SIZE = 256 };

/* ---- values ---- */

bool config_same_string(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The lists hold no string twice, so that equal counts and one inclusion make them equal. */
bool config_same_strings(char *const *a, size_t a_count, char *const *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        size_t j = 0;

        while (j < b_count && strcmp(a[i], b[j]) != 0)
            j++;
        if (j == b_count)
            return false;
    }
    return true;
}

static bool same_bytes(const struct directive *row, const void *before, const void *after,
                       size_t size)
{
    return memcmp((const char *)before + row->offset, (const char *)after + row->offset, size) == 0;
}

static bool same_text(const struct directive *row, const void *before, const void *after)
{
    const char *const *a = (const void *)((const char *)before + row->offset);
    const char *const *b = (const void *)((const char *)after + row->offset);

    return config_same_string(*a, *b);
}

static bool same_value(const struct directive *row, const void *before, const void *after)
{
    if (row->is_same)
        return row->is_same(before, after);
    switch (row->type == DIRECTIVE_CUSTOM ? row->stored_as : row->type) {
    case DIRECTIVE_BYTES:
        return same_bytes(row, before, after, sizeof(uint64_t));
    case DIRECTIVE_DURATION:
        return same_bytes(row, before, after, sizeof(int64_t));
    case DIRECTIVE_SECONDS:
    case DIRECTIVE_COUNT:
        return same_bytes(row, before, after, sizeof(uint32_t));
    case DIRECTIVE_BOOL:
        return same_bytes(row, before, after, sizeof(bool));
    case DIRECTIVE_CHOICE:
        return same_bytes(row, before, after, sizeof(int));
    case DIRECTIVE_STRING:
    case DIRECTIVE_SECRET:
    case DIRECTIVE_PATH:
        return same_text(row, before, after);
    case DIRECTIVE_CUSTOM:
    case DIRECTIVE_NODE:
        break;
    }
    return false; /* a row without is_same() */
}

/* The row's own part of its path below `prefix`; NULL when it is of another mapping. */
static const char *below(const struct directive *row, const char *prefix)
{
    size_t size = strlen(prefix);

    return strncmp(row->path, prefix, size) == 0 && !strchr(row->path + size, '[')
               ? row->path + size
               : NULL;
}

/* Whether every row of a mapping has the same value in two of its structs. */
static bool same_rows(const char *prefix, const void *before, const void *after)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];
        const char *name = below(row, prefix);

        if (name && !strchr(name, '.') && !same_value(row, before, after))
            return false;
    }
    return true;
}

/* ---- listeners ---- */

bool config_same_listen_address(const void *before, const void *after)
{
    const struct config *a = before;
    const struct config *b = after;

    return config_same_string(a->listen.host, b->listen.host) && a->listen.port == b->listen.port;
}

bool config_same_control_address(const void *before, const void *after)
{
    const struct config *a = before;
    const struct config *b = after;

    return config_same_string(a->control.host, b->control.host) &&
           a->control.port == b->control.port &&
           config_same_string(a->control.socket_path, b->control.socket_path);
}

/* ---- accounts ---- */

bool config_same_signature_keys(const void *before, const void *after)
{
    const struct config_account *a = before;
    const struct config_account *b = after;

    return a->signature_key_count == b->signature_key_count &&
           (a->signature_key_count == 0 ||
            CRYPTO_memcmp(a->signature_keys, b->signature_keys,
                          a->signature_key_count * SIGNATURE_KEY_SIZE) == 0);
}

bool config_same_sync(const void *before, const void *after)
{
    const struct config_account *a = before;
    const struct config_account *b = after;

    return a->sync == b->sync &&
           (a->sync != SYNC_INTERVAL || a->sync_interval_ms == b->sync_interval_ms);
}

static const struct config_account *find_account(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->account_count; i++) {
        if (strcmp(config->accounts[i].name, name) == 0)
            return &config->accounts[i];
    }
    return NULL;
}

bool config_same_accounts(const void *before, const void *after)
{
    const struct config *a = before;
    const struct config *b = after;

    if (a->account_count != b->account_count)
        return false;
    for (size_t i = 0; i < a->account_count; i++) {
        const struct config_account *other = find_account(b, a->accounts[i].name);

        if (!other || !same_rows("accounts[].", &a->accounts[i], other) ||
            !same_rows("accounts[].catch_up.", &a->accounts[i], other))
            return false;
    }
    return true;
}

/* ---- publishers ---- */

static bool same_properties(const struct kafka_property *a, size_t a_count,
                            const struct kafka_property *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (strcmp(a[i].name, b[i].name) != 0 || strcmp(a[i].value, b[i].value) != 0)
            return false;
    }
    return true;
}

bool config_same_kafka(const void *before, const void *after)
{
    const struct config *a = before;
    const struct config *b = after;
    const struct kafka_options *x = &a->kafka_options;
    const struct kafka_options *y = &b->kafka_options;

    return a->kafka.is_configured == b->kafka.is_configured && x->files == y->files &&
           same_properties(x->properties, x->property_count, y->properties, y->property_count);
}

bool config_same_create_topics(const void *before, const void *after)
{
    return ((const struct config *)before)->kafka_topics.are_created ==
           ((const struct config *)after)->kafka_topics.are_created;
}

bool config_same_topic_config(const void *before, const void *after)
{
    const struct kafka_topic_options *a = &((const struct config *)before)->kafka_topics;
    const struct kafka_topic_options *b = &((const struct config *)after)->kafka_topics;

    return same_properties(a->config, a->config_count, b->config, b->config_count);
}

bool config_same_mqtt(const void *before, const void *after)
{
    return ((const struct config *)before)->mqtt.is_configured ==
           ((const struct config *)after)->mqtt.is_configured;
}

bool config_same_mqtt_url(const void *before, const void *after)
{
    const struct mqtt_options *a = &((const struct config *)before)->mqtt_options;
    const struct mqtt_options *b = &((const struct config *)after)->mqtt_options;

    return config_same_string(a->host, b->host) && a->port == b->port && a->use_tls == b->use_tls;
}

bool config_same_publisher(const struct config *before, const struct config *after,
                           enum publisher_index publisher)
{
    const struct mqtt_options *a = &before->mqtt_options;
    const struct mqtt_options *b = &after->mqtt_options;

    if (publisher == PUBLISHER_KAFKA)
        return config_same_kafka(before, after) &&
               (!after->kafka.is_configured || (before->kafka_options.message_timeout_ms ==
                                                    after->kafka_options.message_timeout_ms &&
                                                before->kafka_options.max_message_bytes ==
                                                    after->kafka_options.max_message_bytes));
    if (!config_same_mqtt(before, after))
        return false;
    if (!after->mqtt.is_configured)
        return true;
    /* The other rows are the dispatcher's, but for the window, which is both's. */
    return config_same_mqtt_url(before, after) && a->version == b->version &&
           config_same_string(a->username, b->username) &&
           config_same_string(a->password, b->password) && config_same_string(a->ca, b->ca) &&
           config_same_string(a->certificate, b->certificate) &&
           config_same_string(a->key, b->key) && a->keepalive_ms == b->keepalive_ms &&
           a->window == b->window && a->message_expiry_s == b->message_expiry_s &&
           config_same_string(a->client_id, b->client_id) &&
           a->no_subscribers == b->no_subscribers &&
           config_same_string(a->status_topic, b->status_topic) &&
           a->ack_timeout_ms == b->ack_timeout_ms;
}

/* ---- topic map ---- */

bool config_same_actions(const void *before, const void *after)
{
    const struct config_entry *a = before;
    const struct config_entry *b = after;

    return config_same_strings(a->actions, a->action_count, b->actions, b->action_count);
}

bool config_same_labels(const void *before, const void *after)
{
    const struct config_entry *a = before;
    const struct config_entry *b = after;

    return config_same_strings(a->labels, a->label_count, b->labels, b->label_count);
}

bool config_same_filter(const void *before, const void *after)
{
    const struct filter *a = ((const struct config_entry *)before)->filter;
    const struct filter *b = ((const struct config_entry *)after)->filter;

    return a == b || (a && b && text_equal(filter_json(a), filter_json(b)));
}

static bool same_target(const char *prefix, const struct config_target *a,
                        const struct config_target *b)
{
    return a->is_configured == b->is_configured && (!a->is_configured || same_rows(prefix, a, b));
}

bool config_same_kafka_target(const void *before, const void *after)
{
    return same_target("topic_map[].kafka.", &((const struct config_entry *)before)->kafka,
                       &((const struct config_entry *)after)->kafka);
}

bool config_same_mqtt_target(const void *before, const void *after)
{
    return same_target("topic_map[].mqtt.", &((const struct config_entry *)before)->mqtt,
                       &((const struct config_entry *)after)->mqtt);
}

bool config_same_fields(const void *before, const void *after)
{
    const struct field_policy *policies[2] = {((const struct config_entry *)before)->fields,
                                              ((const struct config_entry *)after)->fields};
    struct buf json[2] = {{0}, {0}};
    bool is_same;

    for (int i = 0; i < 2; i++) {
        if (policies[i])
            field_policy_append_json(policies[i], &json[i]);
    }
    is_same = text_equal(buf_text(&json[0]), buf_text(&json[1]));
    buf_release(&json[0]);
    buf_release(&json[1]);
    return is_same;
}

bool config_same_entries(const void *before, const void *after)
{
    const struct config *a = before;
    const struct config *b = after;

    if (a->entry_count != b->entry_count)
        return false;
    for (size_t i = 0; i < a->entry_count; i++) {
        if (!same_rows("topic_map[].", &a->entries[i], &b->entries[i]))
            return false;
    }
    return true;
}

/* ---- the whole ---- */

struct walk {
    const struct config *before;
    const struct config *after;
    void (*visit)(void *context, const char *name, const struct directive *row);
    void *context;
};

static void name_account(const struct walk *walk, const char *account, const char *setting,
                         const struct directive *row)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof(name), "accounts[%s]%s%s", account, *setting ? "." : "", setting);
    walk->visit(walk->context, name, row);
}

static void compare_account(const struct walk *walk, const struct config_account *before,
                            const struct config_account *after)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];
        const char *name = below(row, "accounts[].");

        if (name && !same_value(row, before, after))
            name_account(walk, after->name, name, row);
    }
}

static void compare_accounts(const struct walk *walk, const struct directive *row)
{
    for (size_t i = 0; i < walk->after->account_count; i++) {
        const struct config_account *after = &walk->after->accounts[i];
        const struct config_account *before = find_account(walk->before, after->name);

        if (before)
            compare_account(walk, before, after);
        else
            name_account(walk, after->name, "", row);
    }
    for (size_t i = 0; i < walk->before->account_count; i++) {
        const char *name = walk->before->accounts[i].name;

        if (!find_account(walk->after, name))
            name_account(walk, name, "", row);
    }
}

/* The settings of a publisher that comes or goes are not named one by one. */
static bool is_of_part(const struct walk *walk, const struct directive *row)
{
    if (below(row, "publishers.kafka."))
        return !walk->before->kafka.is_configured || !walk->after->kafka.is_configured;
    if (below(row, "publishers.mqtt."))
        return !walk->before->mqtt.is_configured || !walk->after->mqtt.is_configured;
    return false;
}

void config_diff(const struct config *before, const struct config *after,
                 void (*visit)(void *context, const char *name, const struct directive *row),
                 void *context)
{
    struct walk walk = {before, after, visit, context};

    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];

        if (!below(row, "") || is_of_part(&walk, row))
            continue;
        if (strcmp(row->path, "accounts") == 0)
            compare_accounts(&walk, row);
        else if (!same_value(row, before, after))
            visit(context, row->path, row);
    }
}

void config_diff_fixed(const struct config *before, const struct config *after,
                       void (*visit)(void *context, const char *name, const struct directive *row),
                       void *context)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];

        if (row->needs_restart && !same_value(row, before, after))
            visit(context, row->path, row);
    }
}
