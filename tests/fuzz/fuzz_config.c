/*
 * Any bytes as a configuration: what loads can be served, what does not says why with its place,
 * and no value of the environment is ever shown.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "bridge/config/config_diff.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
static const char canary[] = "quiet-canary-in-a-coal-mine";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return setenv("C", canary, 1);
}

static void check_target(const struct config_target *target)
{
    if (!target->is_configured)
        return;
    MUST(target->topic && target->topic_source && target->line > 0);
    MUST(target->qos >= 0 && target->qos <= 2);
    MUST((target->key == KEY_TEMPLATE) == (target->key_template != NULL));
}

static void check_config(const struct config *config)
{
    MUST(config->listen.host && config->listen.threads > 0 && config->listen.max_body >= 1024);
    MUST((config->control.host != NULL) != (config->control.socket_path != NULL));
    MUST(config->account_count > 0 && config->entry_count > 0);
    MUST(config->kafka.is_configured || config->mqtt.is_configured);
    for (size_t i = 0; i < config->account_count; i++) {
        const struct config_account *account = &config->accounts[i];

        MUST(account->name && account->api_url);
        MUST(account->signature_key_count || account->api_key || account->oauth_token);
        MUST(account->replay_window_ms < config->journal.dedupe_window_ms);
    }
    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        MUST((entry->object_type != NULL) != (entry->category != NULL));
        MUST(entry->kafka.is_configured || entry->mqtt.is_configured);
        MUST(!entry->kafka.is_configured || config->kafka.is_configured);
        MUST(!entry->mqtt.is_configured || config->mqtt.is_configured);
        check_target(&entry->kafka);
        check_target(&entry->mqtt);
    }
}

/* From itself. */
static void differs(void *context, const char *name, const struct directive *row)
{
    (void)context;
    (void)name;
    (void)row;
    abort();
}

static void check_messages(const struct buf *messages)
{
    const char *line = messages->data;

    while (line && *line) {
        const char *end = strchr(line, '\n');

        MUST(end && strncmp(line, "fuzz.yaml:", 10) == 0);
        line = end + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text yaml = {(const char *)data, size};
    struct buf messages = {0};
    struct config *config = config_parse("fuzz.yaml", yaml, &messages);

    MUST(config || messages.size > 0);
    check_messages(&messages);
    /* The fuzzer finds the canary's text too, and what the file itself says may be shown. */
    if (size > 0 && !memmem(data, size, canary, sizeof(canary) - 1))
        MUST(!messages.data || !strstr(messages.data, canary));
    if (config) {
        check_config(config);
        config_diff(config, config, differs, NULL);
    }
    config_free(config);
    buf_release(&messages);
    return 0;
}
