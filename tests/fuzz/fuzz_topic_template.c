/*
 * A kind and, each ended by a NUL, a template and the values of an event: every name that comes out
 * keeps the rules of its broker, and what is fixed per pair does not depend on the rest.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "publishers/topic_template.h"
#include "schemas/event.h"
#include "tests/fuzz/fuzz.h"

static struct text next_text(struct text *rest)
{
    const char *nul = rest->size ? memchr(rest->data, 0, rest->size) : NULL;
    struct text text = {rest->data, nul ? (size_t)(nul - rest->data) : rest->size};

    rest->data += text.size + (nul != NULL);
    rest->size -= text.size + (nul != NULL);
    return text;
}

static struct event *new_event(struct text rest)
{
    static const enum event_field fields[] = {EVENT_OBJECT_TYPE, EVENT_ACTION, EVENT_LEAD_ID,
                                              EVENT_OBJECT_ID, EVENT_ORGANIZATION_ID};
    struct event_origin origin = {.account = next_text(&rest)};
    struct event *event = event_new(&origin, (struct text){"{}", 2}, 0);

    MUST(event);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        MUST(event_add_field(event, fields[i], next_text(&rest)));
    return event;
}

static void check_kafka(const char *name)
{
    size_t size = strlen(name);

    MUST(size >= 1 && size <= 249);
    MUST(strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == size);
    MUST(strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, "__", 2) != 0);
}

static void check_mqtt(const char *name)
{
    size_t size = strlen(name);

    MUST(size >= 1 && size <= TOPIC_MAX);
    MUST(!strpbrk(name, "+#"));
    for (size_t i = 0; i < size; i++)
        MUST((unsigned char)name[i] >= 0x20 && name[i] != 0x7f);
    MUST(name[0] != '$' && name[0] != '/' && name[size - 1] != '/' && !strstr(name, "//"));
}

/* Levels come from the template and from the dots of the object type, from nothing else. */
static size_t count_char(struct text text, char c)
{
    size_t count = 0;

    for (size_t i = 0; i < text.size; i++)
        count += text.data[i] == c;
    return count;
}

static void check_levels(struct text source, const struct event *event, const char *name)
{
    static const char variable[] = "{object_type}";
    size_t levels = count_char(source, '/');
    size_t dots = count_char(event_text(event, EVENT_OBJECT_TYPE), '.');

    for (size_t i = 0; i + strlen(variable) <= source.size; i++) {
        if (memcmp(source.data + i, variable, strlen(variable)) == 0)
            levels += dots;
    }
    MUST(count_char(text_of(name), '/') == levels);
}

static void check_topic(struct text source, enum topic_kind kind, const struct event *event)
{
    struct error err = {0};
    struct topic_template *template_ = topic_template_compile(source, kind, &err);
    char name[TOPIC_MAX + 1];

    if (!template_) {
        MUST(err.kind == ERROR_CONFIG && err.message[0] != '\0');
        return;
    }
    MUST(!topic_template_is_constant(template_) || topic_template_is_fixed_per_pair(template_));
    if (topic_template_render(template_, event, name, &err) < 0) {
        MUST(err.kind == ERROR_INPUT && !topic_template_is_constant(template_));
    } else if (kind == TOPIC_KAFKA) {
        MUST(topic_template_is_fixed_per_pair(template_));
        check_kafka(name);
    } else {
        check_mqtt(name);
        check_levels(source, event, name);
    }
    topic_template_free(template_);
}

static void check_key(struct text source, const struct event *event)
{
    struct topic_template *template_ = key_template_compile(source, NULL);
    char key[64];
    size_t size;

    if (template_ && key_template_render(template_, event, key, sizeof(key), &size) == 0)
        MUST(size <= sizeof(key));
    topic_template_free(template_);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text rest = {(const char *)data, size};
    enum topic_kind kind;
    struct text source;
    struct event *event;

    if (size == 0)
        return 0;
    kind = data[0] == 'k' ? TOPIC_KAFKA : TOPIC_MQTT;
    rest.data++;
    rest.size--;
    source = next_text(&rest);
    event = new_event(rest);
    check_topic(source, kind, event);
    check_key(source, event);
    event_unref(event);
    return 0;
}
