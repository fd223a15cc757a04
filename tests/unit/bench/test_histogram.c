#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bench/histogram.h"

static struct histogram histogram;
static struct histogram other;

static int clear(void **state)
{
    (void)state;
    histogram = (struct histogram){0};
    other = (struct histogram){0};
    return 0;
}

/* One part in 64 too much, never too little. */
static void assert_about(int64_t value, int64_t expected)
{
    assert_in_range(value, expected, expected + expected / 64);
}

static void an_empty_one_is_zero_everywhere(void **state)
{
    (void)state;
    assert_int_equal(histogram_at(&histogram, 50), 0);
    assert_int_equal(histogram_at(&histogram, 100), 0);
}

static void every_size_of_value_is_kept_to_one_part_in_64(void **state)
{
    (void)state;
    for (int64_t value = 1; value < INT64_MAX / 3; value += value / 2 + 1) {
        clear(NULL);
        histogram_add(&histogram, value);
        histogram_add(&histogram, INT64_MAX);
        assert_about(histogram_at(&histogram, 50), value);
        assert_int_equal(histogram_at(&histogram, 100), INT64_MAX);
    }
}

static void percentiles_are_those_of_the_values(void **state)
{
    (void)state;
    for (int64_t i = 1; i <= 100000; i++)
        histogram_add(i % 2 ? &histogram : &other, i * 1000);
    histogram_merge(&histogram, &other);
    assert_int_equal(histogram.count, 100000);
    assert_about(histogram_at(&histogram, 50), 50000000);
    assert_about(histogram_at(&histogram, 99), 99000000);
    assert_about(histogram_at(&histogram, 99.9), 99900000);
    assert_int_equal(histogram_at(&histogram, 100), 100000000);
}

static void the_highest_is_exact_and_what_is_negative_is_zero(void **state)
{
    (void)state;
    histogram_add(&histogram, -5);
    assert_int_equal(histogram_at(&histogram, 100), 0);
    histogram_add(&histogram, 1234567);
    assert_int_equal(histogram_at(&histogram, 100), 1234567);
}

#define TEST(name) cmocka_unit_test_setup(name, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_one_is_zero_everywhere),
        TEST(every_size_of_value_is_kept_to_one_part_in_64),
        TEST(percentiles_are_those_of_the_values),
        TEST(the_highest_is_exact_and_what_is_negative_is_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
