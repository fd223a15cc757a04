#include "schemas/envelope.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "schemas/event.h"

/* Space in `scratch` that is taken. */
struct writer {
    struct envelope *envelope;
    size_t used;
};

static void add(struct envelope *envelope, const char *name, const char *kafka_name,
                struct text value)
{
    if (value.size == 0 || text_has_control(value) || envelope->count == ENVELOPE_MAX)
        return;
    envelope->attributes[envelope->count++] = (struct envelope_attribute){name, kafka_name, value};
}

/* Adds what is made here; what does not fit is left out. */
static void add_made(struct writer *writer, const char *name, const char *kafka_name,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void add_made(struct writer *writer, const char *name, const char *kafka_name,
                     const char *fmt, ...)
{
    size_t left = sizeof(writer->envelope->scratch) - writer->used;
    char *start = writer->envelope->scratch + writer->used;
    va_list args;
    int size;

    va_start(args, fmt);
    size = vsnprintf(start, left, fmt, args);
    va_end(args);
    if (size < 0 || (size_t)size >= left)
        return;
    writer->used += (size_t)size;
    add(writer->envelope, name, kafka_name, (struct text){start, (size_t)size});
}

static void add_source(struct writer *writer, struct text organization)
{
    static const char hex[] = "0123456789ABCDEF";
    char encoded[3 * 128 + 1];
    size_t used = 0;

    for (size_t i = 0; i < organization.size && used + 3 < sizeof(encoded); i++) {
        unsigned char c = (unsigned char)organization.data[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            (c != '\0' && strchr("-._~", c))) {
            encoded[used++] = (char)c;
            continue;
        }
        encoded[used++] = '%';
        encoded[used++] = hex[c >> 4];
        encoded[used++] = hex[c & 15];
    }
    encoded[used] = '\0';
    add_made(writer, "source", "ce_source", "/close/%s", used ? encoded : "unknown");
}

/* ---- dates ---- */

/* Reads `digits` digits; -1 when they are not there. */
static int read_digits(struct text *rest, size_t digits)
{
    int value = 0;

    if (rest->size < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        if (rest->data[i] < '0' || rest->data[i] > '9')
            return -1;
        value = value * 10 + (rest->data[i] - '0');
    }
    rest->data += digits;
    rest->size -= digits;
    return value;
}

static bool read_char(struct text *rest, char c)
{
    if (rest->size == 0 || rest->data[0] != c)
        return false;
    rest->data++;
    rest->size--;
    return true;
}

/* Days since 1970 of a date of the Gregorian calendar; -1 - something for none: checked by the
 * caller. */
static int64_t days_of(int year, int month, int day)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t past = year - 1;

    return past * 365 + past / 4 - past / 100 + past / 400 - 719162 + before[month - 1] +
           (is_leap && month > 2) + day - 1;
}

static bool is_day(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
           day <= lengths[month - 1] + (is_leap && month == 2);
}

/* Up to nine digits behind the second's point, as nanoseconds; -1 when malformed. */
static int64_t read_fraction(struct text *rest)
{
    int64_t value = 0;
    int digits = 0;

    if (!read_char(rest, '.'))
        return 0;
    while (rest->size > 0 && rest->data[0] >= '0' && rest->data[0] <= '9') {
        if (digits < 9)
            value = value * 10 + (rest->data[0] - '0');
        digits++;
        rest->data++;
        rest->size--;
    }
    if (digits == 0)
        return -1;
    for (; digits < 9; digits++)
        value *= 10;
    return value;
}

/* Minutes east of UTC; without a zone it is UTC (CLOSE.md section 2). */
static bool read_zone(struct text *rest, int *out_minutes)
{
    bool is_west = rest->size > 0 && rest->data[0] == '-';
    int hours;
    int minutes;

    *out_minutes = 0;
    if (rest->size == 0 || ((read_char(rest, 'Z') || read_char(rest, 'z')) && rest->size == 0))
        return true;
    if (!read_char(rest, '+') && !read_char(rest, '-'))
        return false;
    hours = read_digits(rest, 2);
    if (!read_char(rest, ':'))
        return false;
    minutes = read_digits(rest, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || rest->size > 0)
        return false;
    *out_minutes = (hours * 60 + minutes) * (is_west ? -1 : 1);
    return true;
}

struct instant {
    int64_t seconds; /* since 1970, UTC */
    int64_t nanoseconds;
};

static bool parse_instant(struct text date, struct instant *out_instant)
{
    int year = read_digits(&date, 4);
    int month = read_char(&date, '-') ? read_digits(&date, 2) : -1;
    int day = read_char(&date, '-') ? read_digits(&date, 2) : -1;
    int hour = read_char(&date, 'T') ? read_digits(&date, 2) : -1;
    int minute = read_char(&date, ':') ? read_digits(&date, 2) : -1;
    int second = read_char(&date, ':') ? read_digits(&date, 2) : -1;
    int64_t fraction = read_fraction(&date);
    int zone;

    if (!is_day(year, month, day) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60 || fraction < 0 || !read_zone(&date, &zone))
        return false;
    out_instant->seconds =
        days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone * 60;
    out_instant->nanoseconds = fraction;
    return true;
}

bool envelope_parse_date(struct text date, int64_t *out_ms)
{
    struct instant instant;

    if (!parse_instant(date, &instant))
        return false;
    *out_ms = instant.seconds * 1000 + instant.nanoseconds / 1000000;
    return true;
}

static void add_time(struct writer *writer, struct text date)
{
    struct instant instant;
    struct tm utc;
    time_t seconds;

    if (!parse_instant(date, &instant))
        return;
    if (date.size == sizeof("2025-09-04T07:27:17.674000") - 1 && instant.nanoseconds >= 0 &&
        !memchr(date.data, '+', date.size) && !memchr(date.data, 'Z', date.size)) {
        /* As Close writes it: only the zone is missing. */
        add_made(writer, "time", "ce_time", "%.*sZ", (int)date.size, date.data);
        return;
    }
    seconds = (time_t)instant.seconds;
    gmtime_r(&seconds, &utc);
    add_made(writer, "time", "ce_time", "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900,
             utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
             (int)(instant.nanoseconds / 1000));
}

/* CloudEvents lets consumers drop a repeated source + id, so a consolidated update needs an id of
 * its own. */
static void add_id(struct writer *writer, const struct event *event)
{
    struct text id = event_text(event, EVENT_ID);
    struct text updated = event_text(event, EVENT_DATE_UPDATED);
    struct text created = event_text(event, EVENT_DATE_CREATED);
    struct instant a;
    struct instant b;

    if (!text_equal(updated, created) && parse_instant(updated, &a) && parse_instant(created, &b) &&
        (a.seconds > b.seconds || (a.seconds == b.seconds && a.nanoseconds > b.nanoseconds)))
        add_made(writer, "id", "ce_id", "%.*s/%.*s", (int)id.size, id.data, (int)updated.size,
                 updated.data);
    else
        add(writer->envelope, "id", "ce_id", id);
}

void envelope_build(struct envelope *envelope, const struct event *event, bool is_replay)
{
    struct writer writer = {envelope, 0};
    struct text type = event_text(event, EVENT_OBJECT_TYPE);
    struct text action = event_text(event, EVENT_ACTION);

    envelope->count = 0;
    add(envelope, "specversion", "ce_specversion", text_of("1.0"));
    add_id(&writer, event);
    add_source(&writer, event_text(event, EVENT_ORGANIZATION_ID));
    if (type.size > 0)
        add_made(&writer, "type", "ce_type", "com.close.%.*s.%.*s", (int)type.size, type.data,
                 (int)action.size, action.data);
    add(envelope, "subject", "ce_subject", event_text(event, EVENT_OBJECT_ID));
    add_time(&writer, event_text(event, EVENT_DATE_UPDATED));
    add(envelope, "closeeventid", "ce_closeeventid", event_text(event, EVENT_ID));
    add(envelope, "closeaccount", "ce_closeaccount", event_text(event, EVENT_ACCOUNT));
    add(envelope, "closesubscription", "ce_closesubscription",
        event_text(event, EVENT_SUBSCRIPTION_ID));
    add(envelope, "closedateupdated", "ce_closedateupdated", event_text(event, EVENT_DATE_UPDATED));
    add(envelope, "closeorigin", "ce_closeorigin",
        text_of(event_has(event, EVENT_FROM_LOG) ? "event_log" : "webhook"));
    if (is_replay)
        add(envelope, "closereplay", "ce_closereplay", text_of("true"));
    if (event_has(event, EVENT_IS_TEST))
        add(envelope, "closetest", "ce_closetest", text_of("true"));
    add(envelope, "traceparent", "traceparent", event_text(event, EVENT_TRACEPARENT));
    add(envelope, "tracestate", "tracestate", event_text(event, EVENT_TRACESTATE));
}
