#include "bridge/config/moment.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/config/config_values.h"
#include "schemas/date.h"

enum { DAY_SIZE = 10, MINUTE_SIZE = 16, WRITTEN_MAX = 40, SPELLED_MAX = WRITTEN_MAX + 10 };

/* True when a minute is followed by no seconds: by nothing, or by a zone. */
static bool lacks_seconds(struct text text)
{
    return text.size == MINUTE_SIZE ||
           (text.size > MINUTE_SIZE && strchr("Zz+-", text.data[MINUTE_SIZE]) != NULL);
}

/* Spells out what may be left out. */
static struct text spell_out(struct text text, char out[SPELLED_MAX])
{
    size_t head = text.size < MINUTE_SIZE ? text.size : MINUTE_SIZE;
    const char *inserted = text.size == DAY_SIZE ? "T00:00:00" : lacks_seconds(text) ? ":00" : "";
    struct text spelled = {out, 0};

    snprintf(out, SPELLED_MAX, "%.*s%s%.*s", (int)head, text.data, inserted,
             (int)(text.size - head), text.data + head);
    spelled.size = strlen(out);
    if (head > DAY_SIZE && (out[DAY_SIZE] == ' ' || out[DAY_SIZE] == 't'))
        out[DAY_SIZE] = 'T';
    if (out[spelled.size - 1] == 'z')
        out[spelled.size - 1] = 'Z';
    return spelled;
}

static int64_t not_before_1970(int64_t ms)
{
    return ms < 0 ? 0 : ms;
}

int moment_parse(struct text text, int64_t now_ms, int64_t *out_ms, struct error *err)
{
    char spelled[SPELLED_MAX];
    struct instant instant;
    int64_t ago_ms;

    if (text.size > 0 && text.size <= WRITTEN_MAX && !memchr(text.data, '\0', text.size)) {
        if (date_parse(spell_out(text, spelled), &instant)) {
            *out_ms = not_before_1970(instant.seconds * 1000 + instant.nanoseconds / 1000000);
            return 0;
        }
        if (config_value_duration(text, &ago_ms, NULL) == 0) {
            *out_ms = not_before_1970(now_ms - ago_ms);
            return 0;
        }
    }
    return error_set(err, ERROR_INPUT,
                     "is not a point in time: write 2026-01-31T12:00:00Z, a day such as 2026-01-31 "
                     "(UTC), or how long ago, such as 72h");
}
