#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

static const int64_t long_after_us = INT64_C(1000000000000); /* every retention is over */

static void collect_cursor(void *context, const char *publisher, uint64_t seq)
{
    char *out = context;

    sprintf(out + strlen(out), "%s=%d ", publisher, (int)seq);
}

static void cursors_are_durable_and_a_new_one_starts_at_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    char cursors[200] = "";
    uint64_t seq;

    fixture_open(fixture);
    for (int i = 0; i < 5; i++)
        fixture_post(fixture, fixture_event("ev", i % 2 ? "1" : "0", i > 1 ? "x" : "y", 10));
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    assert_int_equal(fixture_settle(fixture, 1), NOTE_STORED); /* never goes back */
    fixture_close(fixture);

    fixture->journal = journal_open(&fixture->options, &fixture->clock, &err);
    assert_non_null(fixture->journal);
    assert_int_equal(journal_open_cursor(fixture->journal, "kafka", &seq, &err), 0);
    assert_int_equal(seq, 2);
    assert_int_equal(journal_open_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    assert_int_equal(seq, 4);
    fixture_close(fixture);

    fixture->journal = journal_open(&fixture->options, &fixture->clock, &err);
    assert_non_null(fixture->journal);
    journal_visit_cursors(fixture->journal, collect_cursor, cursors);
    assert_string_equal(cursors, "kafka=2 mqtt=4 ");
}

static void a_cursor_can_be_made_while_it_runs_and_stands_at_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    char cursors[200] = "";
    uint64_t seq;

    fixture_open(fixture);
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    assert_int_equal(seq, 0); /* of an empty journal */
    fixture_post_id(fixture, "ev_1");
    fixture_post_id(fixture, "ev_2");
    assert_int_equal(journal_add_cursor(fixture->journal, "third", &seq, &err), 0);
    assert_int_equal(seq, 2);
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    assert_int_equal(seq, 0); /* it stays where it was */
    assert_int_equal(journal_add_cursor(fixture->journal, "@letters", &seq, &err), 0);
    assert_int_equal(seq, 0); /* from the first that is kept on */
    fixture_close(fixture);

    fixture->journal = journal_open(&fixture->options, &fixture->clock, &err);
    assert_non_null(fixture->journal);
    journal_visit_cursors(fixture->journal, collect_cursor, cursors);
    assert_string_equal(cursors, "kafka=0 mqtt=0 third=2 ");
}

static uint64_t first_of(struct fixture *fixture, const char *publisher)
{
    struct journal_reader *reader;
    struct error err = {0};
    uint64_t seq = 999;

    reader = journal_reader_open(fixture->journal, &err);
    assert_non_null(reader);
    assert_int_equal(journal_first(reader, publisher, &seq, &err), 0);
    journal_reader_close(reader);
    return seq;
}

static void it_knows_what_came_before_a_publisher(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    uint64_t seq;

    fixture_open(fixture);
    fixture_post_id(fixture, "ev_1");
    fixture_post_id(fixture, "ev_2");
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    fixture_post_id(fixture, "ev_3");
    assert_int_equal(first_of(fixture, "kafka"), 0); /* there from the beginning */
    assert_int_equal(first_of(fixture, "mqtt"), 2);
    fixture_close(fixture);

    fixture->journal = journal_open(&fixture->options, &fixture->clock, &err);
    assert_non_null(fixture->journal);
    assert_int_equal(journal_open_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    assert_int_equal(journal_open_cursor(fixture->journal, "third", &seq, &err), 0);
    assert_int_equal(first_of(fixture, "mqtt"), 2);
    assert_int_equal(first_of(fixture, "third"), 3);
    assert_int_equal(journal_drop_publisher(fixture->journal, "mqtt", &err), 0);
    assert_int_equal(first_of(fixture, "mqtt"), 0);
    fixture_close(fixture);

    fixture_open(fixture);
    assert_int_equal(fixture_settle(fixture, 3), NOTE_STORED);
    atomic_fetch_add(&fixture->monotonic_us, long_after_us);
    fixture_post_id(fixture, "ev_4");
    assert_true(fixture_has_id(fixture, "ev_4"));
    assert_int_equal(first_of(fixture, "third"), 3); /* pins nothing, and stays */
}

static void a_cursor_that_was_made_pins_events(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    uint64_t seq;

    fixture_open(fixture);
    fixture_post_id(fixture, "ev_1");
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    fixture_post_id(fixture, "ev_2");
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    atomic_fetch_add(&fixture->monotonic_us, long_after_us);
    fixture_post_id(fixture, "ev_3");
    assert_false(fixture_has_id(fixture, "ev_1"));
    assert_true(fixture_has_id(fixture, "ev_2"));
}

#define JOURNAL_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(cursors_are_durable_and_a_new_one_starts_at_the_end),
        JOURNAL_TEST(a_cursor_can_be_made_while_it_runs_and_stands_at_the_end),
        JOURNAL_TEST(it_knows_what_came_before_a_publisher),
        JOURNAL_TEST(a_cursor_that_was_made_pins_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
