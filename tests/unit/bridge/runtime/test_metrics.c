#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/thread.h"
#include "bridge/runtime/metrics.h"

static void assert_rendered(struct metrics *metrics, const char *expected)
{
    struct buf out = {0};

    metrics_render(metrics, &out);
    assert_false(out.failed);
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

static void families_and_series_come_in_a_stable_order(void **state)
{
    struct metrics *metrics = metrics_new();

    (void)state;
    metric_add(metrics_get(metrics, METRIC_COUNTER, "webhooks_total", "Webhooks.", "a=\"2\""), 2);
    metric_set(metrics_get(metrics, METRIC_GAUGE, "journal_bytes", "Size.", ""), -7);
    metric_add(metrics_get(metrics, METRIC_COUNTER, "webhooks_total", "Webhooks.", "a=\"1\""), 1);
    metric_add(metrics_get(metrics, METRIC_COUNTER, "webhooks_total", "Webhooks.", "a=\"2\""), 3);
    assert_rendered(metrics, "# HELP closebridge_journal_bytes Size.\n"
                             "# TYPE closebridge_journal_bytes gauge\n"
                             "closebridge_journal_bytes -7\n"
                             "# HELP closebridge_webhooks_total Webhooks.\n"
                             "# TYPE closebridge_webhooks_total counter\n"
                             "closebridge_webhooks_total{a=\"1\"} 1\n"
                             "closebridge_webhooks_total{a=\"2\"} 5\n");
    metrics_free(metrics);
}

static void thousandths_are_shown_as_decimals(void **state)
{
    struct metrics *metrics = metrics_new();

    (void)state;
    metric_set(metrics_get_milli(metrics, "lag_seconds", "Lag\\of\nit.", "p=\"a\""), 12045);
    metric_set(metrics_get_milli(metrics, "lag_seconds", "Lag.", "p=\"b\""), -5);
    assert_rendered(metrics, "# HELP closebridge_lag_seconds Lag\\\\of\\nit.\n"
                             "# TYPE closebridge_lag_seconds gauge\n"
                             "closebridge_lag_seconds{p=\"a\"} 12.045\n"
                             "closebridge_lag_seconds{p=\"b\"} -0.005\n");
    metrics_free(metrics);
}

static void histograms_are_cumulative_with_sum_and_count(void **state)
{
    struct metrics *metrics = metrics_new();
    struct histogram *histogram = metrics_histogram(metrics, "d_seconds", "D.", "k=\"v\"");
    struct buf out = {0};

    (void)state;
    histogram_observe_us(histogram, 100);      /* on the bound: inside it */
    histogram_observe_us(histogram, 101);      /* the next one */
    histogram_observe_us(histogram, 11000000); /* beyond the last */
    metrics_render(metrics, &out);
    assert_non_null(strstr(out.data, "# TYPE closebridge_d_seconds histogram\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_bucket{k=\"v\",le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_bucket{k=\"v\",le=\"0.00025\"} 2\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_bucket{k=\"v\",le=\"10\"} 2\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_sum{k=\"v\"} 11.000201\n"));
    assert_non_null(strstr(out.data, "closebridge_d_seconds_count{k=\"v\"} 3\n"));
    buf_release(&out);
    metrics_free(metrics);
}

static void labels_are_escaped_and_never_cut(void **state)
{
    char labels[64] = "";
    char before[64];

    (void)state;
    metrics_label(labels, sizeof(labels), "a", "x\"y\\z\n");
    assert_string_equal(labels, "a=\"x\\\"y\\\\z\\n\"");
    metrics_label(labels, sizeof(labels), "b", "1");
    assert_string_equal(labels, "a=\"x\\\"y\\\\z\\n\",b=\"1\"");
    snprintf(before, sizeof(before), "%s", labels);
    metrics_label(labels, sizeof(labels), "c", "0123456789012345678901234567890123456789");
    assert_string_equal(labels, before);
}

static void set_gauge(void *context)
{
    metric_set(metrics_get(context, METRIC_GAUGE, "now", "Now.", ""), 42);
}

static void collectors_run_before_every_scrape(void **state)
{
    struct metrics *metrics = metrics_new();

    (void)state;
    metrics_on_scrape(metrics, set_gauge, metrics);
    assert_rendered(metrics, "# HELP closebridge_now Now.\n# TYPE closebridge_now gauge\n"
                             "closebridge_now 42\n");
    metrics_free(metrics);
}

static void a_name_with_two_types_is_shown_once(void **state)
{
    struct metrics *metrics = metrics_new();

    (void)state;
    metric_add(metrics_get(metrics, METRIC_COUNTER, "x_total", "X.", ""), 1);
    metric_set(metrics_get(metrics, METRIC_GAUGE, "x_total", "X.", ""), 9);
    assert_rendered(metrics, "# HELP closebridge_x_total X.\n# TYPE closebridge_x_total counter\n"
                             "closebridge_x_total 1\n");
    metrics_free(metrics);
}

static void *count_to_ten_thousand(void *metrics)
{
    for (int i = 0; i < 10000; i++) {
        metric_add(metrics_get(metrics, METRIC_COUNTER, "n_total", "N.", "t=\"1\""), 1);
        histogram_observe_us(metrics_histogram(metrics, "h_seconds", "H.", ""), i);
    }
    return NULL;
}

static void threads_share_series_without_losing_counts(void **state)
{
    struct metrics *metrics = metrics_new();
    struct error err = {0};
    pthread_t threads[3];
    struct buf out = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(thread_start(&threads[i], "count", count_to_ten_thousand, metrics, &err),
                         0);
    metrics_render(metrics, &out);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    buf_clear(&out);
    metrics_render(metrics, &out);
    assert_non_null(strstr(out.data, "closebridge_n_total{t=\"1\"} 30000\n"));
    assert_non_null(strstr(out.data, "closebridge_h_seconds_count 30000\n"));
    buf_release(&out);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_series_come_in_a_stable_order),
        cmocka_unit_test(thousandths_are_shown_as_decimals),
        cmocka_unit_test(histograms_are_cumulative_with_sum_and_count),
        cmocka_unit_test(labels_are_escaped_and_never_cut),
        cmocka_unit_test(collectors_run_before_every_scrape),
        cmocka_unit_test(a_name_with_two_types_is_shown_once),
        cmocka_unit_test(threads_share_series_without_losing_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
