#include "publishers/topic_template.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/catalog.h"
#include "schemas/event.h"

enum { KAFKA_MAX = 249, MAX_PARTS = 32 };

enum variable {
    VARIABLE_ACCOUNT,
    VARIABLE_OBJECT_TYPE,
    VARIABLE_ACTION,
    VARIABLE_CATEGORY,
    VARIABLE_LEAD_ID,
    VARIABLE_OBJECT_ID,
    VARIABLE_EVENT_ID,
    VARIABLE_ORGANIZATION_ID,
    VARIABLE_COUNT
};

enum template_kind { TEMPLATE_KAFKA = TOPIC_KAFKA, TEMPLATE_MQTT = TOPIC_MQTT, TEMPLATE_KEY };

static const struct {
    const char *name;
    enum event_field field;
    bool is_of_pair; /* the same for every event of an account, object type and action */
    bool allowed[TEMPLATE_KEY + 1];
} variables[VARIABLE_COUNT] = {
    [VARIABLE_ACCOUNT] = {"account", EVENT_ACCOUNT, true, {true, true, true}},
    [VARIABLE_OBJECT_TYPE] = {"object_type", EVENT_OBJECT_TYPE, true, {true, true, true}},
    [VARIABLE_ACTION] = {"action", EVENT_ACTION, true, {true, true, true}},
    [VARIABLE_CATEGORY] = {"category", EVENT_OBJECT_TYPE, true, {true, true, true}},
    [VARIABLE_LEAD_ID] = {"lead_id", EVENT_LEAD_ID, false, {false, true, true}},
    [VARIABLE_OBJECT_ID] = {"object_id", EVENT_OBJECT_ID, false, {false, true, true}},
    [VARIABLE_EVENT_ID] = {"event_id", EVENT_ID, false, {false, false, true}},
    [VARIABLE_ORGANIZATION_ID] = {"organization_id",
                                  EVENT_ORGANIZATION_ID,
                                  false,
                                  {false, false, true}},
};

/* A literal, or a variable when literal.data is NULL. */
struct part {
    struct text literal;
    enum variable variable;
};

struct topic_template {
    enum template_kind kind;
    char *source;
    struct part parts[MAX_PARTS];
    size_t part_count;
};

/* ---- rules of final names ---- */

static bool is_kafka_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static int check_kafka(struct text name, struct error *err)
{
    if (name.size == 0 || name.size > KAFKA_MAX)
        return error_set(err, ERROR_INPUT, "a Kafka topic has 1 to %d bytes, this one has %zu",
                         KAFKA_MAX, name.size);
    for (size_t i = 0; i < name.size; i++) {
        if (!is_kafka_char(name.data[i]))
            return error_set(err, ERROR_INPUT,
                             "a Kafka topic is made of letters, digits, '.', '_' and '-'");
    }
    if (text_equal_string(name, ".") || text_equal_string(name, ".."))
        return error_set(err, ERROR_INPUT, "a Kafka topic cannot be \".\" or \"..\"");
    if (text_starts_with(name, "__"))
        return error_set(err, ERROR_INPUT, "Kafka topics that begin with \"__\" are its own");
    return 0;
}

static int check_mqtt(struct text name, struct error *err)
{
    bool level_is_empty = true;

    if (name.size == 0 || name.size > TOPIC_MAX)
        return error_set(err, ERROR_INPUT, "an MQTT topic has 1 to %d bytes here, this one has %zu",
                         TOPIC_MAX, name.size);
    if (name.data[0] == '$')
        return error_set(err, ERROR_INPUT,
                         "MQTT topics that begin with \"$\" are the broker's own");
    if (!text_is_clean(name) || memchr(name.data, '+', name.size) ||
        memchr(name.data, '#', name.size))
        return error_set(err, ERROR_INPUT,
                         "an MQTT topic to publish on is UTF-8 without '+', '#', control "
                         "characters and noncharacters");
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '/' && level_is_empty)
            break;
        level_is_empty = name.data[i] == '/';
    }
    if (level_is_empty)
        return error_set(err, ERROR_INPUT, "the MQTT topic has an empty level");
    return 0;
}

static int check_name(enum template_kind kind, struct text name, struct error *err)
{
    switch (kind) {
    case TEMPLATE_KAFKA:
        return check_kafka(name, err);
    case TEMPLATE_MQTT:
        return check_mqtt(name, err);
    case TEMPLATE_KEY:
        break;
    }
    return 0;
}

/* ---- compiling ---- */

static int add_part(struct topic_template *template_, struct part part, struct error *err)
{
    if (template_->part_count == MAX_PARTS)
        return error_set(err, ERROR_CONFIG, "a template has at most %d parts", MAX_PARTS);
    template_->parts[template_->part_count++] = part;
    return 0;
}

static int unknown_variable(const struct topic_template *template_, struct text name,
                            struct error *err)
{
    struct buf allowed = {0};

    for (int i = 0; i < VARIABLE_COUNT; i++) {
        if (variables[i].allowed[template_->kind])
            buf_printf(&allowed, "%s{%s}", allowed.size ? ", " : "", variables[i].name);
    }
    error_set(err, ERROR_CONFIG, "there is no variable {%.*s} here; there are %s",
              (int)(name.size > 40 ? 40 : name.size), name.data, buf_text(&allowed).data);
    buf_release(&allowed);
    return -1;
}

static int add_variable(struct topic_template *template_, struct text name, struct error *err)
{
    for (int i = 0; i < VARIABLE_COUNT; i++) {
        if (variables[i].allowed[template_->kind] && text_equal_string(name, variables[i].name))
            return add_part(template_, (struct part){.variable = (enum variable)i}, err);
    }
    return unknown_variable(template_, name, err);
}

static int parse(struct topic_template *template_, struct error *err)
{
    const char *at = template_->source;

    while (*at) {
        size_t literal = strcspn(at, "{}");
        const char *close;

        if (literal > 0 && add_part(template_, (struct part){.literal = {at, literal}}, err) < 0)
            return -1;
        at += literal;
        if (!*at)
            break;
        close = *at == '{' ? strchr(at, '}') : NULL;
        if (!close)
            return error_set(err, ERROR_CONFIG, "a brace without its pair");
        if (add_variable(template_, (struct text){at + 1, (size_t)(close - at - 1)}, err) < 0)
            return -1;
        at = close + 1;
    }
    return 0;
}

/* What is constant must keep the rules as it stands; what is not, with values that every event
 * could have. */
static int check_sample(const struct topic_template *template_, struct error *err)
{
    struct buf sample = {0};
    int rc;

    for (size_t i = 0; i < template_->part_count; i++) {
        const struct part *part = &template_->parts[i];

        if (part->literal.data)
            buf_append_text(&sample, part->literal);
        else
            buf_append_char(&sample, 'x');
    }
    rc = check_name(template_->kind, buf_text(&sample), err);
    buf_release(&sample);
    if (rc < 0 && err)
        err->kind = ERROR_CONFIG;
    return rc;
}

static struct topic_template *compile(struct text source, enum template_kind kind,
                                      struct error *err)
{
    struct topic_template *template_;

    if (source.size > 0 && memchr(source.data, '\0', source.size)) {
        error_set(err, ERROR_CONFIG, "a template has no NUL");
        return NULL;
    }
    template_ = calloc(1, sizeof(*template_));
    if (template_)
        template_->source = text_dup(source);
    if (!template_ || !template_->source) {
        error_set(err, ERROR_FATAL, "out of memory");
        topic_template_free(template_);
        return NULL;
    }
    template_->kind = kind;
    if (parse(template_, err) == 0 && check_sample(template_, err) == 0)
        return template_;
    topic_template_free(template_);
    return NULL;
}

struct topic_template *topic_template_compile(struct text source, enum topic_kind kind,
                                              struct error *err)
{
    return compile(source, (enum template_kind)kind, err);
}

struct topic_template *key_template_compile(struct text source, struct error *err)
{
    return compile(source, TEMPLATE_KEY, err);
}

void topic_template_free(struct topic_template *template_)
{
    if (!template_)
        return;
    free(template_->source);
    free(template_);
}

bool topic_template_is_fixed_per_pair(const struct topic_template *template_)
{
    for (size_t i = 0; i < template_->part_count; i++) {
        const struct part *part = &template_->parts[i];

        if (!part->literal.data && !variables[part->variable].is_of_pair)
            return false;
    }
    return true;
}

bool topic_template_is_constant(const struct topic_template *template_)
{
    for (size_t i = 0; i < template_->part_count; i++) {
        if (!template_->parts[i].literal.data)
            return false;
    }
    return true;
}

/* ---- rendering ---- */

static struct text value_of(enum variable variable, const struct event *event)
{
    const struct catalog_pair *pair;

    if (variable != VARIABLE_CATEGORY)
        return event_text(event, variables[variable].field);
    pair = catalog_find(event_text(event, EVENT_OBJECT_TYPE), event_text(event, EVENT_ACTION));
    return text_of(pair ? pair->category : "other");
}

/* A value from the wire is a name within a level, never a level or a wildcard of its own. */
static bool is_level_name(struct text value)
{
    return text_is_clean(value) && value.data[0] != '$' && !memchr(value.data, '/', value.size) &&
           !memchr(value.data, '+', value.size) && !memchr(value.data, '#', value.size);
}

static int append(char *out, size_t *size, size_t capacity, struct text value, struct error *err)
{
    if (value.size > capacity - *size)
        return error_set(err, ERROR_INPUT, "the name is longer than %zu bytes", capacity);
    if (value.size)
        memcpy(out + *size, value.data, value.size);
    *size += value.size;
    return 0;
}

static int append_variable(const struct topic_template *template_, enum variable variable,
                           const struct event *event, char *out, size_t *size, size_t capacity,
                           struct error *err)
{
    struct text value = value_of(variable, event);
    size_t start = *size;

    if (template_->kind == TEMPLATE_MQTT) {
        if (value.size == 0)
            value = text_of("none");
        if (!is_level_name(value))
            return error_set(err, ERROR_INPUT, "the event's %s cannot be a level of an MQTT topic",
                             variables[variable].name);
    }
    if (append(out, size, capacity, value, err) < 0)
        return -1;
    if (template_->kind == TEMPLATE_MQTT && variable == VARIABLE_OBJECT_TYPE) {
        for (size_t i = start; i < *size; i++)
            out[i] = out[i] == '.' ? '/' : out[i];
    }
    return 0;
}

static int render(const struct topic_template *template_, const struct event *event, char *out,
                  size_t capacity, size_t *out_size, struct error *err)
{
    size_t size = 0;

    for (size_t i = 0; i < template_->part_count; i++) {
        const struct part *part = &template_->parts[i];
        int rc = part->literal.data
                     ? append(out, &size, capacity, part->literal, err)
                     : append_variable(template_, part->variable, event, out, &size, capacity, err);

        if (rc < 0)
            return -1;
    }
    *out_size = size;
    return check_name(template_->kind, (struct text){out, size}, err);
}

int topic_template_render(const struct topic_template *template_, const struct event *event,
                          char *out_name, struct error *err)
{
    size_t size;

    if (render(template_, event, out_name, TOPIC_MAX, &size, err) < 0)
        return -1;
    out_name[size] = '\0';
    return 0;
}

int key_template_render(const struct topic_template *template_, const struct event *event,
                        char *out_key, size_t capacity, size_t *out_size)
{
    return render(template_, event, out_key, capacity, out_size, NULL);
}
