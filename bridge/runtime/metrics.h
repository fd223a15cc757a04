/*
 * Metrics in Prometheus' text format. Names and labels: DESIGN, "Metrics".
 *
 * A series is found or made once (under a lock) and then added to without one, from any thread.
 * Series live as long as the registry.
 */
#ifndef BRIDGE_RUNTIME_METRICS_H
#define BRIDGE_RUNTIME_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

struct buf;
struct histogram; /* opaque: defined in metrics.c */
struct metrics;   /* opaque: defined in metrics.c */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

/* A counter or gauge. */
struct metric {
    _Atomic int64_t value;
};

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/*
 * `name` without prefix, e.g. "webhooks_total"; `labels` is "" or such as
 * account="main",result="accepted", values escaped by metrics_label(). Never NULL: without memory a
 * series that is not shown.
 */
struct metric *metrics_get(struct metrics *metrics, enum metric_type type, const char *name,
                           const char *help, const char *labels);

/* Appends key="value" to `labels` (a terminated string of `capacity` bytes), with a comma when it
 * is not empty. */
void metrics_label(char *labels, unsigned capacity, const char *key, const char *value);

static inline void metric_add(struct metric *metric, int64_t delta)
{
    atomic_fetch_add_explicit(&metric->value, delta, memory_order_relaxed);
}

static inline void metric_set(struct metric *metric, int64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

/* A gauge's value in thousandths: shown with three decimals. */
struct metric *metrics_get_milli(struct metrics *metrics, const char *name, const char *help,
                                 const char *labels);

struct histogram *metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                                    const char *labels);
void histogram_observe_us(struct histogram *histogram, int64_t microseconds);

/* Called before every scrape, on the scraping thread, so that gauges can be set from state. */
void metrics_on_scrape(struct metrics *metrics, void (*collect)(void *context), void *context);

void metrics_render(struct metrics *metrics, struct buf *out);

#endif
