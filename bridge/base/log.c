#include "bridge/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bridge/base/buf.h"

enum { MAX_VALUE = 512 };

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static enum log_level least_level = LOG_INFO;
static enum log_format line_format = LOG_LOGFMT;

void log_configure(enum log_level level, enum log_format format)
{
    least_level = level;
    line_format = format;
}

static void append_time(struct buf *line)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    buf_append_utc(line, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

static bool is_bare(struct text value)
{
    if (value.size == 0)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];

        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f)
            return false;
    }
    return true;
}

/* What is not UTF-8, and the control characters above ASCII, which terminals obey too, become
 * question marks, with what they touch. `size` is at most MAX_VALUE. */
static void make_harmless(struct text value, char *out)
{
    size_t i = 0;

    while (i < value.size) {
        size_t run = 0;

        while (i + run < value.size && (unsigned char)value.data[i + run] >= 0x80)
            run++;
        if (run == 0)
            out[i] = value.data[i];
        else if (text_is_clean((struct text){value.data + i, run}))
            memcpy(out + i, value.data + i, run);
        else
            memset(out + i, '?', run);
        i += run ? run : 1;
    }
}

static void append_value(struct buf *line, const struct log_field *field)
{
    char harmless[MAX_VALUE];
    struct text value = field->string;

    if (!value.data && field->is_time) {
        const char *quote = line_format == LOG_JSON ? "\"" : "";

        buf_append_string(line, quote);
        buf_append_utc(line, field->number);
        buf_append_string(line, quote);
        return;
    }
    if (!value.data) {
        buf_printf(line, "%" PRId64, field->number);
        return;
    }
    if (value.size > MAX_VALUE)
        value.size = MAX_VALUE;
    make_harmless(value, harmless);
    value.data = harmless;
    if (line_format == LOG_LOGFMT && is_bare(value))
        buf_append_text(line, value);
    else
        buf_append_json_string(line, value);
}

static void append_logfmt(struct buf *line, enum log_level level, const char *event,
                          const struct log_field *fields)
{
    buf_append_string(line, "time=");
    append_time(line);
    buf_printf(line, " level=%s event=%s", level_names[level], event);
    for (; fields->key; fields++) {
        buf_printf(line, " %s=", fields->key);
        append_value(line, fields);
    }
}

static void append_json(struct buf *line, enum log_level level, const char *event,
                        const struct log_field *fields)
{
    buf_append_string(line, "{\"time\":\"");
    append_time(line);
    buf_printf(line, "\",\"level\":\"%s\",\"event\":\"%s\"", level_names[level], event);
    for (; fields->key; fields++) {
        buf_printf(line, ",\"%s\":", fields->key);
        append_value(line, fields);
    }
    buf_append_char(line, '}');
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    struct buf line = {0};
    ssize_t written;

    if (level < least_level)
        return;
    if (line_format == LOG_JSON)
        append_json(&line, level, event, fields);
    else
        append_logfmt(&line, level, event, fields);
    buf_append_char(&line, '\n');
    if (!line.failed) {
        written = write(STDERR_FILENO, line.data, line.size);
        (void)written; /* a closed log must not stop the bridge */
    }
    buf_release(&line);
}
