#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/journal/dedupe.h"

enum { CAPACITY = 1000, PENDING = 50, WINDOW = 100 };

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct dedupe_mark mark_of(uint64_t number, uint64_t content, uint32_t age_s)
{
    struct dedupe_mark mark = {.content = content, .age_s = age_s};
    uint64_t hash[2] = {mix(number + 1), mix(number + 77)};

    memcpy(mark.identity, hash, sizeof(mark.identity));
    return mark;
}

static void add(struct dedupe *dedupe, uint64_t number, uint64_t content, uint32_t age_s)
{
    struct dedupe_mark mark = mark_of(number, content, age_s);

    dedupe_add(dedupe, &mark);
}

static enum dedupe_verdict find(const struct dedupe *dedupe, uint64_t number, uint64_t content,
                                uint32_t now_s)
{
    struct dedupe_mark mark = mark_of(number, content, now_s);

    return dedupe_find(dedupe, &mark);
}

static int setup(void **state)
{
    struct error err = {0};

    *state = dedupe_new(CAPACITY, PENDING, WINDOW, &err);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    dedupe_free(*state);
    return 0;
}

static void marks_are_pending_until_they_are_confirmed(void **state)
{
    struct dedupe *dedupe = *state;

    assert_int_equal(find(dedupe, 1, 1, 0), DEDUPE_NEW);
    add(dedupe, 1, 1, 0);
    assert_int_equal(find(dedupe, 1, 1, 0), DEDUPE_PENDING);
    dedupe_confirm(dedupe);
    assert_int_equal(find(dedupe, 1, 1, 0), DEDUPE_SEEN);
}

static void marks_taken_back_were_never_seen(void **state)
{
    struct dedupe *dedupe = *state;

    add(dedupe, 1, 1, 0);
    dedupe_confirm(dedupe);
    for (uint64_t i = 2; i < 2 + PENDING; i++)
        add(dedupe, i, 1, 0);
    dedupe_take_back(dedupe);
    for (uint64_t i = 2; i < 2 + PENDING; i++)
        assert_int_equal(find(dedupe, i, 1, 0), DEDUPE_NEW);
    assert_int_equal(find(dedupe, 1, 1, 0), DEDUPE_SEEN);
    assert_int_equal(dedupe_count(dedupe), 1);
    assert_int_equal(dedupe_forgotten(dedupe), 0);
}

static void other_content_is_a_conflict_until_it_is_known_too(void **state)
{
    struct dedupe *dedupe = *state;

    add(dedupe, 1, 1, 0);
    dedupe_confirm(dedupe);
    assert_int_equal(find(dedupe, 1, 2, 0), DEDUPE_CONFLICT);
    add(dedupe, 1, 2, 0);
    dedupe_confirm(dedupe);
    assert_int_equal(find(dedupe, 1, 1, 0), DEDUPE_SEEN);
    assert_int_equal(find(dedupe, 1, 2, 0), DEDUPE_SEEN);
    assert_int_equal(find(dedupe, 1, 3, 0), DEDUPE_CONFLICT);
}

/* Many turnovers: every probe sequence is moved by deletions again and again. */
static void the_newest_are_kept_and_all_others_forgotten(void **state)
{
    struct dedupe *dedupe = *state;
    uint64_t total = 20 * CAPACITY;

    for (uint64_t i = 0; i < total; i++) {
        add(dedupe, i, i, 0);
        if (i % PENDING == PENDING - 1)
            dedupe_confirm(dedupe);
    }
    dedupe_confirm(dedupe);
    assert_int_equal(dedupe_count(dedupe), CAPACITY);
    assert_int_equal(dedupe_forgotten(dedupe), total - CAPACITY);
    for (uint64_t i = 0; i < total; i++)
        assert_int_equal(find(dedupe, i, i, 0), i < total - CAPACITY ? DEDUPE_NEW : DEDUPE_SEEN);
}

/* The index grows with the marks, also with pending ones in it. */
static void every_mark_is_found_while_their_number_grows(void **state)
{
    struct error err = {0};
    struct dedupe *dedupe = dedupe_new(100 * CAPACITY, PENDING, WINDOW, &err);

    (void)state;
    assert_non_null(dedupe);
    for (uint64_t i = 0; i < 50 * CAPACITY; i++) {
        assert_int_equal(find(dedupe, i, i, 0), DEDUPE_NEW);
        add(dedupe, i, i, 0);
        assert_int_equal(find(dedupe, i / 2, i / 2, 0),
                         i / 2 < i - i % PENDING ? DEDUPE_SEEN : DEDUPE_PENDING);
        if (i % PENDING == PENDING - 1)
            dedupe_confirm(dedupe);
    }
    for (uint64_t i = 0; i < 50 * CAPACITY; i++)
        assert_int_equal(find(dedupe, i, i, 0), DEDUPE_SEEN);
    assert_int_equal(find(dedupe, 50 * CAPACITY, 0, 0), DEDUPE_NEW);
    dedupe_free(dedupe);
}

static void marks_expire_with_the_window(void **state)
{
    struct dedupe *dedupe = *state;

    add(dedupe, 1, 1, 10);
    add(dedupe, 2, 1, 60);
    dedupe_confirm(dedupe);
    assert_int_equal(find(dedupe, 1, 1, 10 + WINDOW), DEDUPE_SEEN);
    assert_int_equal(find(dedupe, 1, 1, 11 + WINDOW), DEDUPE_NEW);
    dedupe_expire(dedupe, 11 + WINDOW);
    assert_int_equal(dedupe_count(dedupe), 1);
    assert_int_equal(dedupe_forgotten(dedupe), 1);
    assert_int_equal(find(dedupe, 2, 1, 11 + WINDOW), DEDUPE_SEEN);
    assert_int_equal(dedupe_window_s(dedupe, 11 + WINDOW), WINDOW);
}

static void another_window_counts_and_what_was_forgotten_stays_so(void **state)
{
    struct dedupe *dedupe = *state;

    add(dedupe, 1, 1, 1000);
    add(dedupe, 2, 1, 1080);
    dedupe_confirm(dedupe);
    dedupe_set_window(dedupe, 50, 1090);
    assert_int_equal(find(dedupe, 1, 1, 1090), DEDUPE_NEW);
    assert_int_equal(find(dedupe, 2, 1, 1090), DEDUPE_SEEN);
    assert_int_equal(dedupe_window_s(dedupe, 1090), 50);
    dedupe_expire(dedupe, 1090);
    dedupe_set_window(dedupe, 200, 1100);
    assert_int_equal(find(dedupe, 1, 1, 1100), DEDUPE_NEW);
    assert_in_range(dedupe_window_s(dedupe, 1100), 50, 51);
    assert_in_range(dedupe_window_s(dedupe, 1150), 100, 101);
    assert_int_equal(dedupe_window_s(dedupe, 1500), 200);
}

static void every_version_says_where_it_lies(void **state)
{
    struct dedupe *dedupe = *state;
    struct dedupe_mark mark;
    uint32_t places[4] = {0};

    for (uint32_t i = 0; i < 3; i++) {
        mark = mark_of(i == 2 ? 9 : 1, i, 0);
        mark.place = 100 + i;
        dedupe_add(dedupe, &mark);
        dedupe_confirm(dedupe);
    }
    mark = mark_of(1, 77, 0);
    assert_int_equal(dedupe_places(dedupe, &mark, places, 4), 2);
    assert_int_equal(places[0] + places[1], 100 + 101);
    assert_int_equal(dedupe_places(dedupe, &mark, places, 1), 1);
    mark.age_s = WINDOW + 1;
    assert_int_equal(dedupe_places(dedupe, &mark, places, 4), 0);
}

static void eviction_narrows_the_window_that_is_shown(void **state)
{
    struct dedupe *dedupe = *state;

    for (uint32_t i = 0; i < CAPACITY + 10; i++) {
        add(dedupe, i, 1, 100 + i / 100);
        dedupe_confirm(dedupe);
    }
    assert_int_equal(dedupe_window_s(dedupe, 110), 10);
    assert_int_equal(dedupe_window_s(dedupe, 150), 50);
    assert_int_equal(dedupe_window_s(dedupe, 100 + 10 * WINDOW), WINDOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(marks_are_pending_until_they_are_confirmed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(marks_taken_back_were_never_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(other_content_is_a_conflict_until_it_is_known_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_newest_are_kept_and_all_others_forgotten, setup,
                                        teardown),
        cmocka_unit_test(every_mark_is_found_while_their_number_grows),
        cmocka_unit_test_setup_teardown(marks_expire_with_the_window, setup, teardown),
        cmocka_unit_test_setup_teardown(another_window_counts_and_what_was_forgotten_stays_so,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(every_version_says_where_it_lies, setup, teardown),
        cmocka_unit_test_setup_teardown(eviction_narrows_the_window_that_is_shown, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
