#include "bridge/close/close_headers.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "schemas/date.h"

/* ---- values ---- */

static bool is_one_of(char c, const char *characters)
{
    return c != '\0' && strchr(characters, c);
}

static struct text trim(struct text text)
{
    while (text.size > 0 && is_one_of(text.data[0], " \t\r\n")) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_one_of(text.data[text.size - 1], " \t\r\n"))
        text.size--;
    return text;
}

/* The part before any of the separators, which is taken off `rest` together with it. */
static struct text next_part(struct text *rest, const char *separators)
{
    struct text part = {rest->data, 0};

    while (part.size < rest->size && !is_one_of(rest->data[part.size], separators))
        part.size++;
    rest->data += part.size;
    rest->size -= part.size;
    if (rest->size > 0) {
        rest->data++;
        rest->size--;
    }
    return trim(part);
}

/* Seconds with or without a fraction, rounded up to milliseconds. */
static bool read_seconds(struct text value, int64_t *out_ms)
{
    static const int64_t parts[] = {100, 10, 1};
    struct text fraction = value;
    struct text whole = next_part(&fraction, ".");
    uint64_t seconds;
    int64_t ms;

    if (!text_to_u64(whole, &seconds) || (whole.size < value.size && fraction.size == 0))
        return false;
    ms = seconds > CLOSE_WAIT_MAX_MS / 1000 ? CLOSE_WAIT_MAX_MS : (int64_t)seconds * 1000;
    for (size_t i = 0; i < fraction.size; i++) {
        if (fraction.data[i] < '0' || fraction.data[i] > '9')
            return false;
        if (i < 3)
            ms += (fraction.data[i] - '0') * parts[i];
    }
    if (fraction.size > 3)
        ms++;
    *out_ms = ms > CLOSE_WAIT_MAX_MS ? CLOSE_WAIT_MAX_MS : ms;
    return true;
}

static bool month_of(struct text name, int *out_month)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int month = 0; month < 12; month++) {
        if (name.size == 3 && memcmp(name.data, names + 3 * (size_t)month, 3) == 0) {
            *out_month = month + 1;
            return true;
        }
    }
    return false;
}

bool close_headers_date(struct text value, int64_t *out_ms)
{
    enum { FIXED_SIZE = 29 };
    struct instant instant;
    char written[DATE_MAX];
    int month;

    if (value.size != FIXED_SIZE || memcmp(value.data + 3, ", ", 2) != 0 ||
        memcmp(value.data + 25, " GMT", 4) != 0 || value.data[7] != ' ' || value.data[11] != ' ' ||
        value.data[16] != ' ' || !month_of((struct text){value.data + 8, 3}, &month))
        return false;
    snprintf(written, sizeof(written), "%.4s-%02d-%.2sT%.8sZ", value.data + 12, month,
             value.data + 5, value.data + 17);
    if (!date_parse(text_of(written), &instant) || instant.fraction_digits > 0)
        return false;
    *out_ms = instant.seconds * 1000;
    return true;
}

/* ---- headers ---- */

static void read_date(struct close_headers *headers, struct text value)
{
    headers->has_date = close_headers_date(value, &headers->date_ms);
}

static void read_retry_after(struct close_headers *headers, struct text value)
{
    int64_t date_ms;

    if (read_seconds(value, &headers->retry_after_ms)) {
        headers->has_retry_after = true;
    } else if (close_headers_date(value, &date_ms) && headers->has_date) {
        headers->has_retry_after = true;
        headers->retry_after_ms = date_ms - headers->date_ms;
        if (headers->retry_after_ms < 0)
            headers->retry_after_ms = 0;
        if (headers->retry_after_ms > CLOSE_WAIT_MAX_MS)
            headers->retry_after_ms = CLOSE_WAIT_MAX_MS;
    }
}

static void read_rate_limit(struct close_headers *headers, struct text value)
{
    headers->remaining = -1;
    headers->reset_ms = -1;
    while (value.size > 0) {
        struct text rest = next_part(&value, ",;");
        struct text name = next_part(&rest, "=");
        uint64_t number;

        rest = trim(rest);
        if (text_equal_string(name, "remaining") && text_to_u64(rest, &number))
            headers->remaining = number > INT64_MAX ? INT64_MAX : (int64_t)number;
        else if (text_equal_string(name, "reset"))
            read_seconds(rest, &headers->reset_ms);
    }
    headers->has_rate_limit = headers->remaining >= 0 || headers->reset_ms >= 0;
}

void close_headers_read(struct close_headers *headers, struct text line)
{
    static const struct {
        const char *name;
        void (*read)(struct close_headers *headers, struct text value);
    } readers[] = {
        {"date", read_date}, {"retry-after", read_retry_after}, {"ratelimit", read_rate_limit}};
    struct text value = line;
    struct text name = next_part(&value, ":");

    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        if (name.size == strlen(readers[i].name) &&
            strncasecmp(name.data, readers[i].name, name.size) == 0)
            readers[i].read(headers, trim(value));
    }
}

int64_t close_headers_wait_ms(const struct close_headers *headers, bool was_refused)
{
    if (headers->has_retry_after)
        return headers->retry_after_ms;
    if (headers->has_rate_limit && (was_refused || headers->remaining == 0))
        return headers->reset_ms;
    return -1;
}
