#include "bridge/runtime/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"

#define PREFIX "closebridge_"

/* Upper bounds of a histogram's buckets; what is slower than the last one counts in +Inf only. */
static const struct {
    int64_t microseconds;
    const char *seconds;
} buckets[] = {
    {100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},  {1000, "0.001"},
    {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},  {25000, "0.025"},
    {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"},
};

enum { BUCKETS = sizeof(buckets) / sizeof(buckets[0]) };

enum shape { SHAPE_COUNTER, SHAPE_GAUGE, SHAPE_GAUGE_MILLI, SHAPE_HISTOGRAM };

struct histogram {
    _Atomic int64_t slots[BUCKETS + 1]; /* each value counts in one slot; rendering adds them up */
    _Atomic int64_t sum_us;
};

struct series {
    struct series *next;
    char *labels;
    struct metric metric;
    struct histogram histogram;
};

struct family {
    struct family *next;
    char *name;
    char *help;
    enum shape shape;
    struct series *series; /* sorted by labels */
};

struct collector {
    struct collector *next;
    void (*collect)(void *context);
    void *context;
};

struct metrics {
    pthread_mutex_t lock;
    struct family *families;      /* lock: lock; sorted by name */
    struct collector *collectors; /* lock: lock */
};

/* What a caller gets whose series clashes with a family of another type: counted, never shown. */
static struct series unshown;

struct metrics *metrics_new(void)
{
    struct metrics *metrics = alloc_zeroed(1, sizeof(*metrics));

    pthread_mutex_init(&metrics->lock, NULL);
    return metrics;
}

static void free_family(struct family *family)
{
    while (family->series) {
        struct series *series = family->series;

        family->series = series->next;
        free(series->labels);
        free(series);
    }
    free(family->name);
    free(family->help);
    free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    while (metrics->families) {
        struct family *family = metrics->families;

        metrics->families = family->next;
        free_family(family);
    }
    while (metrics->collectors) {
        struct collector *collector = metrics->collectors;

        metrics->collectors = collector->next;
        free(collector);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static struct family *family_of(struct metrics *metrics, enum shape shape, const char *name,
                                const char *help)
{
    struct family **slot = &metrics->families;
    struct family *family;

    while (*slot && strcmp((*slot)->name, name) < 0)
        slot = &(*slot)->next;
    if (*slot && strcmp((*slot)->name, name) == 0)
        return *slot;
    family = alloc_zeroed(1, sizeof(*family));
    family->name = alloc_string(name);
    family->help = alloc_string(help);
    family->shape = shape;
    family->next = *slot;
    *slot = family;
    return family;
}

static struct series *series_of(struct metrics *metrics, enum shape shape, const char *name,
                                const char *help, const char *labels)
{
    struct family *family;
    struct series **slot;
    struct series *series;

    pthread_mutex_lock(&metrics->lock);
    family = family_of(metrics, shape, name, help);
    slot = &family->series;
    while (*slot && strcmp((*slot)->labels, labels) < 0)
        slot = &(*slot)->next;
    if (family->shape != shape) {
        series = &unshown;
    } else if (*slot && strcmp((*slot)->labels, labels) == 0) {
        series = *slot;
    } else {
        series = alloc_zeroed(1, sizeof(*series));
        series->labels = alloc_string(labels);
        series->next = *slot;
        *slot = series;
    }
    pthread_mutex_unlock(&metrics->lock);
    return series;
}

struct metric *metrics_get(struct metrics *metrics, enum metric_type type, const char *name,
                           const char *help, const char *labels)
{
    enum shape shape = type == METRIC_COUNTER ? SHAPE_COUNTER : SHAPE_GAUGE;

    return &series_of(metrics, shape, name, help, labels)->metric;
}

struct metric *metrics_get_milli(struct metrics *metrics, const char *name, const char *help,
                                 const char *labels)
{
    return &series_of(metrics, SHAPE_GAUGE_MILLI, name, help, labels)->metric;
}

struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                                    const char *labels)
{
    return &series_of(metrics, SHAPE_HISTOGRAM, name, help, labels)->histogram;
}

void histogram_observe_us(struct histogram *histogram, int64_t microseconds)
{
    size_t slot = 0;

    while (slot < BUCKETS && microseconds > buckets[slot].microseconds)
        slot++;
    atomic_fetch_add_explicit(&histogram->slots[slot], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, microseconds, memory_order_relaxed);
}

void metrics_label(char *labels, unsigned capacity, const char *key, const char *value)
{
    size_t size = strlen(labels);
    struct buf text = {0};

    buf_printf(&text, "%s%s=\"", size ? "," : "", key);
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            buf_append_string(&text, "\\n");
        else if (*c == '"' || *c == '\\')
            buf_printf(&text, "\\%c", *c);
        else
            buf_append_char(&text, *c);
    }
    buf_append_char(&text, '"');
    /* A label that does not fit is left out whole: half a label would break every line after it. */
    if (!text.failed && size + text.size < capacity)
        memcpy(labels + size, text.data, text.size + 1);
    buf_release(&text);
}

void metrics_on_scrape(struct metrics *metrics, void (*collect)(void *context), void *context)
{
    struct collector *collector = alloc_zeroed(1, sizeof(*collector));

    collector->collect = collect;
    collector->context = context;
    pthread_mutex_lock(&metrics->lock);
    collector->next = metrics->collectors;
    metrics->collectors = collector;
    pthread_mutex_unlock(&metrics->lock);
}

static void run_collectors(struct metrics *metrics)
{
    struct collector *collector;

    pthread_mutex_lock(&metrics->lock);
    collector = metrics->collectors;
    pthread_mutex_unlock(&metrics->lock);
    /* Collectors are only ever put in front, so the rest of the list may be walked unlocked. */
    for (; collector; collector = collector->next)
        collector->collect(collector->context);
}

static int64_t load(const _Atomic int64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void append_milli(struct buf *out, int64_t thousandths)
{
    uint64_t size = thousandths < 0 ? 0 - (uint64_t)thousandths : (uint64_t)thousandths;

    buf_printf(out, "%s%" PRIu64 ".%03u\n", thousandths < 0 ? "-" : "", size / 1000,
               (unsigned)(size % 1000));
}

static void append_name(struct buf *out, const struct family *family, const char *suffix,
                        const char *labels, const char *le)
{
    buf_printf(out, PREFIX "%s%s", family->name, suffix);
    if (*labels || le)
        buf_printf(out, "{%s", labels);
    if (le)
        buf_printf(out, "%sle=\"%s\"", *labels ? "," : "", le);
    buf_append_string(out, *labels || le ? "} " : " ");
}

static void render_histogram(struct buf *out, const struct family *family,
                             const struct series *series)
{
    int64_t count = 0;
    int64_t sum_us = load(&series->histogram.sum_us);

    for (size_t i = 0; i <= BUCKETS; i++) {
        count += load(&series->histogram.slots[i]);
        append_name(out, family, "_bucket", series->labels,
                    i < BUCKETS ? buckets[i].seconds : "+Inf");
        buf_printf(out, "%" PRId64 "\n", count);
    }
    append_name(out, family, "_sum", series->labels, NULL);
    buf_printf(out, "%" PRId64 ".%06" PRId64 "\n", sum_us / 1000000, sum_us % 1000000);
    append_name(out, family, "_count", series->labels, NULL);
    buf_printf(out, "%" PRId64 "\n", count);
}

static void render_series(struct buf *out, const struct family *family, const struct series *series)
{
    if (family->shape == SHAPE_HISTOGRAM) {
        render_histogram(out, family, series);
        return;
    }
    append_name(out, family, "", series->labels, NULL);
    if (family->shape == SHAPE_GAUGE_MILLI)
        append_milli(out, load(&series->metric.value));
    else
        buf_printf(out, "%" PRId64 "\n", load(&series->metric.value));
}

static void append_help(struct buf *out, const char *help)
{
    for (; *help; help++) {
        if (*help == '\n')
            buf_append_string(out, "\\n");
        else if (*help == '\\')
            buf_append_string(out, "\\\\");
        else
            buf_append_char(out, *help);
    }
    buf_append_char(out, '\n');
}

void metrics_render(struct metrics *metrics, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "gauge", "histogram"};

    run_collectors(metrics);
    pthread_mutex_lock(&metrics->lock);
    for (const struct family *family = metrics->families; family; family = family->next) {
        buf_printf(out, "# HELP " PREFIX "%s ", family->name);
        append_help(out, family->help);
        buf_printf(out, "# TYPE " PREFIX "%s %s\n", family->name, types[family->shape]);
        for (const struct series *series = family->series; series; series = series->next)
            render_series(out, family, series);
    }
    pthread_mutex_unlock(&metrics->lock);
}
