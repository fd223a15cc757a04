#include "bridge/config/config_values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"

enum { HOST_MAX = 253 };

struct unit {
    const char *name;
    uint64_t size;
};

/* Largest first. */
static const struct unit byte_units[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}};
static const struct unit time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

enum {
    BYTE_UNITS = sizeof(byte_units) / sizeof(byte_units[0]),
    TIME_UNITS = sizeof(time_units) / sizeof(time_units[0]),
};

/* Splits "12ms" into 12 and "ms"; false without a number or when it is too large. */
static bool split_number(struct text text, uint64_t *out_number, struct text *out_unit)
{
    size_t digits = 0;

    while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9')
        digits++;
    *out_unit = (struct text){text.data + digits, text.size - digits};
    return text_to_u64((struct text){text.data, digits}, out_number);
}

static bool multiply(uint64_t number, struct text name, const struct unit *units, size_t count,
                     uint64_t *out_value)
{
    for (size_t i = 0; i < count; i++) {
        if (!text_equal_string(name, units[i].name))
            continue;
        if (number > INT64_MAX / units[i].size)
            return false;
        *out_value = number * units[i].size;
        return true;
    }
    return false;
}

int config_value_bytes(struct text text, uint64_t *out_bytes, struct error *err)
{
    uint64_t number;
    struct text unit;

    if (split_number(text, &number, &unit)) {
        if (unit.size == 0 && number <= INT64_MAX) {
            *out_bytes = number;
            return 0;
        }
        if (multiply(number, unit, byte_units, BYTE_UNITS, out_bytes))
            return 0;
    }
    return error_set(err, ERROR_CONFIG,
                     "is not a size: write a number of bytes, or one with KiB, MiB or GiB");
}

int config_value_duration(struct text text, int64_t *out_ms, struct error *err)
{
    uint64_t number;
    uint64_t value;
    struct text unit;

    if (split_number(text, &number, &unit)) {
        if (unit.size == 0 && number == 0) {
            *out_ms = 0;
            return 0;
        }
        if (multiply(number, unit, time_units, TIME_UNITS, &value)) {
            *out_ms = (int64_t)value;
            return 0;
        }
    }
    return error_set(err, ERROR_CONFIG,
                     "is not a duration: write a number with its unit ms, s, m, h or d, such as "
                     "30s");
}

int config_value_bool(struct text text, bool *out_value, struct error *err)
{
    if (text_equal_string(text, "true"))
        *out_value = true;
    else if (text_equal_string(text, "false"))
        *out_value = false;
    else
        return error_set(err, ERROR_CONFIG, "is neither true nor false");
    return 0;
}

static void show(uint64_t value, const struct unit *units, size_t count, char *out)
{
    for (size_t i = 0; i < count; i++) {
        if (value && value % units[i].size == 0) {
            snprintf(out, CONFIG_SHOWN_SIZE, "%" PRIu64 "%s", value / units[i].size, units[i].name);
            return;
        }
    }
    snprintf(out, CONFIG_SHOWN_SIZE, "%" PRIu64, value);
}

void config_value_show_bytes(uint64_t bytes, char *out)
{
    show(bytes, byte_units, BYTE_UNITS, out);
}

void config_value_show_duration(int64_t ms, char *out)
{
    /* Days only when it is not what people call hours: 72h, 96h, but 7d. */
    const struct unit *units = ms < 7 * INT64_C(86400000) ? time_units + 1 : time_units;

    show((uint64_t)ms, units, (size_t)(time_units + TIME_UNITS - units), out);
}

static bool is_host(struct text host)
{
    if (host.size == 0 || host.size > HOST_MAX)
        return false;
    for (size_t i = 0; i < host.size; i++) {
        char c = host.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool is_ipv6(struct text host)
{
    if (host.size < 2 || host.size > HOST_MAX)
        return false;
    for (size_t i = 0; i < host.size; i++) {
        if (!strchr("0123456789abcdefABCDEF:.%", host.data[i]) || host.data[i] == '\0')
            return false;
    }
    return memchr(host.data, ':', host.size) != NULL;
}

static bool is_port(struct text text, uint16_t *out_port)
{
    uint64_t port;

    if (text.size > 5 || !text_to_u64(text, &port) || port > UINT16_MAX)
        return false;
    *out_port = (uint16_t)port;
    return true;
}

/* Splits "host:port", the port being what follows the last colon outside brackets. */
static bool split_address(struct text text, struct text *out_host, struct text *out_port)
{
    const char *colon = text.size ? memrchr(text.data, ':', text.size) : NULL;

    if (!colon)
        return false;
    *out_host = (struct text){text.data, (size_t)(colon - text.data)};
    *out_port = (struct text){colon + 1, text.size - out_host->size - 1};
    if (out_host->size >= 2 && out_host->data[0] == '[' &&
        out_host->data[out_host->size - 1] == ']') {
        *out_host = (struct text){out_host->data + 1, out_host->size - 2};
        return is_ipv6(*out_host);
    }
    return out_host->size == 0 || is_host(*out_host);
}

int config_value_address(struct text text, char **out_host, uint16_t *out_port, struct error *err)
{
    struct text host;
    struct text port;
    char *copy;

    if (!split_address(text, &host, &port) || !is_port(port, out_port))
        return error_set(err, ERROR_CONFIG,
                         "is not an address: write host:port, [ipv6]:port or :port");
    copy = text_dup(host.size ? host : text_of("0.0.0.0"));
    if (!copy)
        return error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
    *out_host = copy;
    return 0;
}

bool config_value_is_loopback(const char *host)
{
    size_t dots = 0;

    if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
        return true;
    for (const char *c = host; *c; c++) {
        if (*c == '.')
            dots++;
        else if (*c < '0' || *c > '9')
            return false; /* 127.example.com is somebody's name */
    }
    return dots == 3 && strncmp(host, "127.", 4) == 0;
}

static bool is_url_text(struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c <= 0x20 || c >= 0x7f || strchr("\"<>\\^`{|}", c))
            return false;
    }
    return true;
}

int config_value_url(struct text text, bool *out_is_https, char **out_host, struct error *err)
{
    bool is_https = text_starts_with(text, "https://");
    size_t scheme = is_https ? 8 : 7;
    struct text host = {0};
    struct text port;
    uint16_t number;
    size_t end;
    bool is_good = false;

    if ((is_https || text_starts_with(text, "http://")) && is_url_text(text)) {
        struct text rest = {text.data + scheme, text.size - scheme};

        for (end = 0; end < rest.size && !strchr("/?#", rest.data[end]); end++)
            ;
        host = (struct text){rest.data, end};
        if (split_address(host, &host, &port))
            is_good = is_port(port, &number) && number != 0 && host.size > 0;
        else if (host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']') {
            host = (struct text){host.data + 1, host.size - 2};
            is_good = is_ipv6(host);
        } else
            is_good = is_host(host);
    }
    if (!is_good)
        return error_set(err, ERROR_CONFIG,
                         "is not a URL: write https://host[:port]/path, without a user name");
    *out_host = text_dup(host);
    if (!*out_host)
        return error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
    *out_is_https = is_https;
    return 0;
}

char *config_value_path(const char *path, const char *directory)
{
    char *joined = NULL;

    if (path[0] == '/' || strcmp(directory, ".") == 0)
        return text_dup(text_of(path));
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    return asprintf(&joined, "%s/%s", directory, path) < 0 ? NULL : joined;
}
