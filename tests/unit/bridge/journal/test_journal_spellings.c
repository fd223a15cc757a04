/*
 * One version of an event by webhook and from Close's Event Log: published once, however each of
 * them spells it; what is really another is published.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

#define DATE "2025-09-04T07:27:17.674000"

static const char by_webhook[] = "{\"id\": \"ev_1\", \"data\": {\"name\": \"Bluth\", \"n\": 1}}";
static const char in_the_log[] = "{\"data\":{\"n\":1,\"name\":\"Bluth\"},\"id\":\"ev_1\"}";
static const char another[] = "{\"data\":{\"n\":2,\"name\":\"Bluth\"},\"id\":\"ev_1\"}";

static struct event *webhook(const char *object)
{
    return fixture_event("ev_1", DATE, object, 100);
}

static struct event *from_log_at(const char *date_updated, const char *object)
{
    struct event *event = fixture_event("ev_1", date_updated, object, 0);

    event->record->flags |= EVENT_FROM_LOG;
    return event;
}

static struct event *from_log(const char *object)
{
    return from_log_at(DATE, object);
}

static void assert_numbers(struct fixture *fixture, uint64_t conflicts, uint64_t respelled,
                           uint64_t trusted)
{
    struct journal_numbers numbers = fixture_numbers(fixture);

    assert_int_equal(numbers.conflicts, conflicts);
    assert_int_equal(numbers.respelled, respelled);
    assert_int_equal(numbers.trusted, trusted);
}

static void the_log_repeats_a_webhook_in_its_own_spelling(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_DUPLICATE);
    assert_numbers(fixture, 0, 1, 0);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_count(fixture), 1);
}

static void a_webhook_comes_after_the_log(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_DUPLICATE);
    assert_numbers(fixture, 0, 1, 0);
    assert_int_equal(fixture_count(fixture), 1);
}

static void both_arrive_together(void **state)
{
    enum { EACH = 100 };
    struct fixture *fixture = *state;
    struct post *posts = calloc(2 * EACH, sizeof(*posts));
    int accepted = 0;

    fixture_open(fixture);
    for (int i = 0; i < 2 * EACH; i++)
        fixture_send(fixture, &posts[i], i % 2 ? from_log(in_the_log) : webhook(by_webhook));
    for (int i = 0; i < 2 * EACH; i++)
        accepted += fixture_wait(&posts[i]) == DELIVERY_ACCEPTED;
    assert_int_equal(accepted, 1);
    assert_int_equal(fixture_count(fixture), 1);
    assert_numbers(fixture, 0, EACH, 0);
    free(posts);
}

static void a_change_of_the_data_is_published_and_so_is_another_date(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, from_log(another)), DELIVERY_ACCEPTED);
    assert_numbers(fixture, 1, 0, 0);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, from_log_at("2025-09-04T07:27:18.000000", in_the_log)),
                     DELIVERY_ACCEPTED);
    assert_numbers(fixture, 1, 1, 0);
    assert_int_equal(fixture_count(fixture), 3);
}

static void two_webhooks_that_differ_are_two_events(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, webhook(in_the_log)), DELIVERY_ACCEPTED);
    assert_numbers(fixture, 1, 0, 0);
}

static void a_date_is_the_same_in_every_spelling(void **state)
{
    static const char *const dates[] = {"2025-09-04T07:27:17.674Z", "2025-09-04T07:27:17.674",
                                        "2025-09-04T07:27:17.674000+00:00",
                                        "2025-09-04T09:27:17.674000000+02:00"};
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_ACCEPTED);
    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++)
        assert_int_equal(fixture_post(fixture, from_log_at(dates[i], in_the_log)),
                         DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, from_log_at("2025-09-04T07:27:17.674001", in_the_log)),
                     DELIVERY_ACCEPTED);
}

/* Retention is shorter than the window of duplicates. */
static void delete_what_is_delivered(struct fixture *fixture)
{
    assert_int_equal(fixture_settle(fixture, fixture_numbers(fixture).tail), NOTE_STORED);
    atomic_fetch_add(&fixture->monotonic_us, INT64_C(4000) * 1000000);
    assert_int_equal(fixture_post_id(fixture, "ev_later"), DELIVERY_ACCEPTED);
    assert_false(fixture_has_id(fixture, "ev_1"));
}

static void the_log_is_trusted_when_the_first_copy_is_deleted_and_a_webhook_is_not(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_ACCEPTED);
    delete_what_is_delivered(fixture);
    assert_int_equal(fixture_post(fixture, from_log(in_the_log)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, webhook(by_webhook)), DELIVERY_DUPLICATE);
    assert_numbers(fixture, 0, 0, 1);
    assert_int_equal(fixture_post(fixture, webhook(another)), DELIVERY_ACCEPTED);
    assert_numbers(fixture, 1, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_log_repeats_a_webhook_in_its_own_spelling,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_webhook_comes_after_the_log, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(both_arrive_together, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_change_of_the_data_is_published_and_so_is_another_date,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(two_webhooks_that_differ_are_two_events, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_date_is_the_same_in_every_spelling, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(
            the_log_is_trusted_when_the_first_copy_is_deleted_and_a_webhook_is_not, fixture_setup,
            fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
