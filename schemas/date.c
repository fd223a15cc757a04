#include "schemas/date.h"

enum { DAY = 86400, DAYS_BEFORE_1970 = 719162 };

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of_month(int year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return lengths[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 0001-01-01 to the first of January of a year of the Gregorian calendar. */
static int64_t days_before_year(int year)
{
    int64_t past = year - 1;

    return past * 365 + past / 4 - past / 100 + past / 400;
}

/* Reads `digits` digits at the beginning; false when they are not there. */
static bool read_digits(struct text *rest, size_t digits, int *out_value)
{
    int value = 0;

    if (rest->size < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (rest->data[i] < '0' || rest->data[i] > '9')
            return false;
        value = value * 10 + (rest->data[i] - '0');
    }
    rest->data += digits;
    rest->size -= digits;
    *out_value = value;
    return true;
}

static bool read_char(struct text *rest, char c)
{
    if (rest->size == 0 || rest->data[0] != c)
        return false;
    rest->data++;
    rest->size--;
    return true;
}

static bool read_day(struct text *rest, int64_t *out_days)
{
    int year;
    int month;
    int day;

    if (!read_digits(rest, 4, &year) || !read_char(rest, '-') || !read_digits(rest, 2, &month) ||
        !read_char(rest, '-') || !read_digits(rest, 2, &day))
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month))
        return false;
    *out_days = days_before_year(year) - DAYS_BEFORE_1970 + day - 1;
    while (--month > 0)
        *out_days += days_of_month(year, month);
    return true;
}

static bool read_time(struct text *rest, int *out_seconds)
{
    int hour;
    int minute;
    int second;

    if (!read_digits(rest, 2, &hour) || !read_char(rest, ':') || !read_digits(rest, 2, &minute) ||
        !read_char(rest, ':') || !read_digits(rest, 2, &second))
        return false;
    *out_seconds = hour * 3600 + minute * 60 + second;
    return hour <= 23 && minute <= 59 && second <= 59;
}

static bool read_fraction(struct text *rest, struct instant *out_instant)
{
    uint32_t value = 0;
    unsigned digits = 0;
    int digit;

    out_instant->nanoseconds = 0;
    out_instant->fraction_digits = 0;
    if (!read_char(rest, '.'))
        return true;
    while (digits < 9 && read_digits(rest, 1, &digit)) {
        value = value * 10 + (uint32_t)digit;
        digits++;
    }
    out_instant->fraction_digits = digits;
    for (unsigned i = digits; i < 9; i++)
        value *= 10;
    out_instant->nanoseconds = value;
    return digits > 0;
}

/* Reads what is left: seconds east of UTC. */
static bool read_zone(struct text *rest, int *out_seconds)
{
    bool is_west;
    int hours;
    int minutes;

    *out_seconds = 0;
    if (rest->size == 0)
        return true;
    if (read_char(rest, 'Z'))
        return rest->size == 0;
    is_west = read_char(rest, '-');
    if (!is_west && !read_char(rest, '+'))
        return false;
    if (!read_digits(rest, 2, &hours) || !read_char(rest, ':') || !read_digits(rest, 2, &minutes))
        return false;
    *out_seconds = (hours * 3600 + minutes * 60) * (is_west ? -1 : 1);
    return hours <= 23 && minutes <= 59 && rest->size == 0;
}

bool date_parse(struct text date, struct instant *out_instant)
{
    static const int64_t first = (int64_t)-DAYS_BEFORE_1970 * DAY;
    struct instant instant;
    int64_t days;
    int time;
    int zone;

    if (!read_day(&date, &days) || !read_char(&date, 'T') || !read_time(&date, &time) ||
        !read_fraction(&date, &instant) || !read_zone(&date, &zone))
        return false;
    instant.seconds = days * DAY + time - zone;
    if (instant.seconds < first ||
        instant.seconds >= (days_before_year(10000) - DAYS_BEFORE_1970) * DAY)
        return false;
    *out_instant = instant;
    return true;
}

static char *put_digits(char *out, size_t digits, int64_t value)
{
    for (size_t i = digits; i > 0; i--) {
        out[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + digits;
}

/* The date of the `days`th day since 0001-01-01. */
static char *put_day(char *out, int64_t days)
{
    int year =
        (int)(days * 400 / 146097) + 1; /* of mean years: never too late, at most one too early */
    int month = 1;

    while (days >= days_before_year(year + 1))
        year++;
    days -= days_before_year(year);
    while (days >= days_of_month(year, month))
        days -= days_of_month(year, month++);
    out = put_digits(out, 4, year);
    *out++ = '-';
    out = put_digits(out, 2, month);
    *out++ = '-';
    return put_digits(out, 2, days + 1);
}

size_t date_format(const struct instant *instant, char *out)
{
    int64_t seconds = instant->seconds + (int64_t)DAYS_BEFORE_1970 * DAY;
    int64_t time = seconds % DAY;
    uint32_t fraction = instant->nanoseconds;
    char *at = put_day(out, seconds / DAY);

    *at++ = 'T';
    at = put_digits(at, 2, time / 3600);
    *at++ = ':';
    at = put_digits(at, 2, time / 60 % 60);
    *at++ = ':';
    at = put_digits(at, 2, time % 60);
    if (instant->fraction_digits > 0) {
        *at++ = '.';
        for (unsigned i = instant->fraction_digits; i < 9; i++)
            fraction /= 10;
        at = put_digits(at, instant->fraction_digits, fraction);
    }
    *at++ = 'Z';
    return (size_t)(at - out);
}

bool date_is_later(const struct instant *a, const struct instant *b)
{
    return a->seconds != b->seconds ? a->seconds > b->seconds : a->nanoseconds > b->nanoseconds;
}
