/*
 * The log: one line per thing of note on standard error, logfmt or JSON.
 *
 * A line is a level, a stable event name and typed fields; values are escaped here, so that nothing
 * from outside can forge a line. Callers never pass a secret or a payload. Any thread; a line is
 * one write().
 *
 *     log_warn("publisher.retry", log_str("publisher", name), log_i64("attempt", attempt));
 */
#ifndef BRIDGE_BASE_LOG_H
#define BRIDGE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
    const char *key; /* NULL ends the list */
    struct text string;
    int64_t number; /* when string.data is NULL */
    bool is_time;   /* the number is milliseconds since 1970, shown as RFC 3339 in UTC */
};

static inline struct log_field log_text(const char *key, struct text value)
{
    return (struct log_field){key, value.data ? value : (struct text){"", 0}, 0, false};
}

static inline struct log_field log_str(const char *key, const char *value)
{
    return log_text(key, text_of(value));
}

static inline struct log_field log_i64(const char *key, int64_t value)
{
    return (struct log_field){key, {NULL, 0}, value, false};
}

static inline struct log_field log_time(const char *key, int64_t wall_ms)
{
    return (struct log_field){key, {NULL, 0}, wall_ms, true};
}

/* Before the other threads start. The default is LOG_INFO, LOG_LOGFMT. */
void log_configure(enum log_level level, enum log_format format);

void log_write(enum log_level level, const char *event, const struct log_field *fields);

#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {.key = NULL}})
#define log_debug(event, ...) log_write(LOG_DEBUG, event, LOG_FIELDS(__VA_ARGS__))
#define log_info(event, ...) log_write(LOG_INFO, event, LOG_FIELDS(__VA_ARGS__))
#define log_warn(event, ...) log_write(LOG_WARN, event, LOG_FIELDS(__VA_ARGS__))
#define log_error(event, ...) log_write(LOG_ERROR, event, LOG_FIELDS(__VA_ARGS__))

#endif
