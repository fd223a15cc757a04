#include "bridge/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"

enum { MAX_COLLECTORS = 8, MAX_SERIES = 20000, BUCKETS = 16 };

static const int64_t bucket_limits_us[BUCKETS] = {
    100,   250,    500,    1000,   2500,    5000,    10000,   25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

struct histogram {
    _Atomic uint64_t counts[BUCKETS + 1]; /* the last: beyond the largest limit */
    _Atomic int64_t sum_us;
};

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_MILLI, KIND_HISTOGRAM };

struct series {
    struct series *next;
    char *labels;
    struct metric metric;
    struct histogram histogram;
};

struct family {
    struct family *next;
    const char *name;
    const char *help;
    enum kind kind;
    struct series *series;
    struct series **last;
};

struct metrics {
    pthread_mutex_t lock;
    struct family *families;
    struct family **last;
    size_t series_count;
    struct series unseen; /* what does not fit any more counts here */
    struct {
        void (*collect)(void *context);
        void *context;
    } collectors[MAX_COLLECTORS];
    size_t collector_count;
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = alloc_zeroed(1, sizeof(*metrics));

    pthread_mutex_init(&metrics->lock, NULL);
    metrics->last = &metrics->families;
    return metrics;
}

static void free_family(struct family *family)
{
    while (family->series) {
        struct series *next = family->series->next;

        free(family->series->labels);
        free(family->series);
        family->series = next;
    }
    free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    while (metrics->families) {
        struct family *next = metrics->families->next;

        free_family(metrics->families);
        metrics->families = next;
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static struct family *find_family(struct metrics *metrics, const char *name, const char *help,
                                  enum kind kind)
{
    struct family *family;

    for (family = metrics->families; family; family = family->next) {
        if (strcmp(family->name, name) == 0)
            return family;
    }
    family = alloc_zeroed(1, sizeof(*family));
    family->name = name;
    family->help = help;
    family->kind = kind;
    family->last = &family->series;
    *metrics->last = family;
    metrics->last = &family->next;
    return family;
}

static struct series *find_series(struct metrics *metrics, const char *name, const char *help,
                                  enum kind kind, const char *labels)
{
    struct family *family;
    struct series *series;

    pthread_mutex_lock(&metrics->lock);
    family = find_family(metrics, name, help, kind);
    for (series = family->series; series && strcmp(series->labels, labels) != 0;)
        series = series->next;
    if (!series && metrics->series_count >= MAX_SERIES) {
        series = &metrics->unseen;
    } else if (!series) {
        series = alloc_zeroed(1, sizeof(*series));
        series->labels = alloc_string(labels);
        *family->last = series;
        family->last = &series->next;
        metrics->series_count++;
    }
    pthread_mutex_unlock(&metrics->lock);
    return series;
}

struct metric *metrics_get(struct metrics *metrics, enum metric_type type, const char *name,
                           const char *help, const char *labels)
{
    enum kind kind = type == METRIC_COUNTER ? KIND_COUNTER : KIND_GAUGE;

    return &find_series(metrics, name, help, kind, labels)->metric;
}

struct metric *metrics_get_milli(struct metrics *metrics, const char *name, const char *help,
                                 const char *labels)
{
    return &find_series(metrics, name, help, KIND_MILLI, labels)->metric;
}

struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                                    const char *labels)
{
    return &find_series(metrics, name, help, KIND_HISTOGRAM, labels)->histogram;
}

void histogram_observe_us(struct histogram *histogram, int64_t microseconds)
{
    size_t i = 0;

    while (i < BUCKETS && microseconds > bucket_limits_us[i])
        i++;
    atomic_fetch_add_explicit(&histogram->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, microseconds, memory_order_relaxed);
}

void metrics_label(char *labels, unsigned capacity, const char *key, const char *value)
{
    struct buf escaped = {0};
    size_t used = strlen(labels);

    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            buf_printf(&escaped, "\\%c", *c);
        else if (*c == '\n')
            buf_append_string(&escaped, "\\n");
        else
            buf_append_char(&escaped, *c);
    }
    if (used + strlen(key) + escaped.size + 5 < capacity)
        snprintf(labels + used, capacity - used, "%s%s=\"%s\"", used ? "," : "", key,
                 buf_text(&escaped).data);
    buf_release(&escaped);
}

void metrics_on_scrape(struct metrics *metrics, void (*collect)(void *context), void *context)
{
    pthread_mutex_lock(&metrics->lock);
    if (metrics->collector_count < MAX_COLLECTORS) {
        metrics->collectors[metrics->collector_count].collect = collect;
        metrics->collectors[metrics->collector_count++].context = context;
    }
    pthread_mutex_unlock(&metrics->lock);
}

static void append_name(struct buf *out, const struct family *family, const char *suffix,
                        const char *labels, const char *more)
{
    buf_printf(out, "closebridge_%s%s", family->name, suffix);
    if (*labels || *more)
        buf_printf(out, "{%s%s%s}", labels, *labels && *more ? "," : "", more);
    buf_append_char(out, ' ');
}

static void append_histogram(struct buf *out, const struct family *family,
                             const struct series *series)
{
    const struct histogram *histogram = &series->histogram;
    uint64_t count = 0;
    char limit[48];

    for (size_t i = 0; i <= BUCKETS; i++) {
        count += atomic_load(&histogram->counts[i]);
        if (i < BUCKETS)
            snprintf(limit, sizeof(limit), "le=\"%g\"", (double)bucket_limits_us[i] / 1e6);
        else
            snprintf(limit, sizeof(limit), "le=\"+Inf\"");
        append_name(out, family, "_bucket", series->labels, limit);
        buf_printf(out, "%" PRIu64 "\n", count);
    }
    append_name(out, family, "_sum", series->labels, "");
    buf_printf(out, "%.6f\n", (double)atomic_load(&histogram->sum_us) / 1e6);
    append_name(out, family, "_count", series->labels, "");
    buf_printf(out, "%" PRIu64 "\n", count);
}

static void append_series(struct buf *out, const struct family *family, const struct series *series)
{
    int64_t value = atomic_load(&series->metric.value);

    if (family->kind == KIND_HISTOGRAM) {
        append_histogram(out, family, series);
        return;
    }
    append_name(out, family, "", series->labels, "");
    if (family->kind == KIND_MILLI)
        buf_printf(out, "%.3f\n", (double)value / 1000);
    else
        buf_printf(out, "%" PRId64 "\n", value);
}

void metrics_render(struct metrics *metrics, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "gauge", "histogram"};

    for (size_t i = 0; i < metrics->collector_count; i++)
        metrics->collectors[i].collect(metrics->collectors[i].context);
    pthread_mutex_lock(&metrics->lock);
    for (const struct family *family = metrics->families; family; family = family->next) {
        buf_printf(out, "# HELP closebridge_%s %s\n# TYPE closebridge_%s %s\n", family->name,
                   family->help, family->name, types[family->kind]);
        for (const struct series *series = family->series; series; series = series->next)
            append_series(out, family, series);
    }
    pthread_mutex_unlock(&metrics->lock);
}
