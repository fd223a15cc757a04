#include "bridge/config/topic_names.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"

static void add(struct topic_names *names, const char *name)
{
    size_t size = (names->count + 1) * sizeof(char *);
    char **grown = realloc(names->names, size);

    if (!grown)
        abort(); /* no memory: see alloc.h */
    names->names = grown;
    names->names[names->count++] = alloc_string(name);
}

static int by_name(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static void sort_and_unite(struct topic_names *names)
{
    size_t kept = 0;

    if (names->count == 0)
        return;
    qsort(names->names, names->count, sizeof(char *), by_name);
    for (size_t i = 0; i < names->count; i++) {
        if (kept > 0 && strcmp(names->names[kept - 1], names->names[i]) == 0)
            free(names->names[i]);
        else
            names->names[kept++] = names->names[i];
    }
    names->count = kept;
}

struct topic_names topic_names_of(const struct config *config)
{
    struct topic_names names = {NULL, 0};
    struct topic_report *report;

    if (!config->kafka.is_configured)
        return names;
    if (config->dead_letter_topic)
        add(&names, config->dead_letter_topic);
    report = topic_report_make(config);
    for (size_t i = 0; i < report->count; i++) {
        const struct topic_report_row *row = &report->rows[i];

        for (size_t d = 0; d < row->count; d++) {
            if (row->destinations[d].publisher == PUBLISHER_KAFKA && row->destinations[d].topic)
                add(&names, row->destinations[d].topic);
        }
    }
    topic_report_free(report);
    sort_and_unite(&names);
    return names;
}

void topic_names_release(struct topic_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
    *names = (struct topic_names){NULL, 0};
}
