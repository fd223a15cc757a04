/*
 * Wrong bits in LMDB's two meta pages: the root of the main tree, the number of the commit and that
 * of the last page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/journal/journal_salvage.h"
#include "tests/unit/bridge/journal/journal_fixture.h"
#include "tests/unit/bridge/journal/salvage_fixture.h"

/* Offsets in a meta page: the root of the main tree, the numbers of the last page and of the
 * commit.
 */
enum { ROOT = 128, LAST_PAGE = 136, COMMIT = 144 };

static void set_in_meta_pages(const struct fixture *fixture, unsigned char *bytes, size_t size,
                              size_t offset, uint64_t number)
{
    for (size_t meta = 0; meta < 2; meta++)
        memcpy(bytes + meta * PAGE + offset, &number, sizeof(number));
    salvage_write(fixture, bytes, size);
}

static void a_root_that_leads_to_other_names_makes_a_journal_no_other_programs_file(void **state)
{
    struct fixture *fixture = *state;
    struct verify_report verified;
    unsigned char *bytes;
    uint64_t page;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    page = salvage_find(bytes, size, "CBC1") / PAGE; /* its key is the name of a publisher */
    set_in_meta_pages(fixture, bytes, size, ROOT, page);
    free(bytes);
    verified = salvage_verify(fixture, VERIFY_PENDING);
    assert_false(verified.is_sound);
    assert_false(verified.is_foreign);
    assert_int_equal(salvage_run(fixture).events, 40);
    salvage_assert_sound(fixture);
}

static uint64_t number_at(const unsigned char *bytes, size_t offset)
{
    uint64_t number;

    memcpy(&number, bytes + offset, sizeof(number));
    return number;
}

/* The offset of the newer one. */
static size_t newest_meta(const unsigned char *bytes)
{
    return number_at(bytes, COMMIT) > number_at(bytes, PAGE + COMMIT) ? 0 : PAGE;
}

/* An event that came with the last commit is there. */
static void check_that_nothing_is_lost(struct fixture *fixture, unsigned char *bytes, size_t size)
{
    salvage_write(fixture, bytes, size);
    free(bytes);
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    assert_true(salvage_run(fixture).events >= 41);
    salvage_assert_sound(fixture);
    fixture_open(fixture);
    assert_true(fixture_has_id(fixture, "last"));
}

static void fill_and_store_another(struct fixture *fixture)
{
    salvage_fill(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "last"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
}

static void a_wrong_number_of_a_commit_makes_no_older_tree_the_newest(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    uint64_t number;
    size_t older;
    size_t size;

    fill_and_store_another(fixture);
    bytes = salvage_read(fixture, &size);
    older = newest_meta(bytes) ^ PAGE;
    number = number_at(bytes, older + COMMIT) + 2;
    memcpy(bytes + older + COMMIT, &number, sizeof(number));
    check_that_nothing_is_lost(fixture, bytes, size);
}

/* The number of a page that was the root of the main tree some commits ago. */
static uint64_t older_root(const unsigned char *bytes, size_t size, uint64_t root)
{
    for (uint64_t page = 2; page < size / PAGE; page++) {
        const unsigned char *at = bytes + page * PAGE;

        if (page != root && page != number_at(bytes, ROOT) &&
            page != number_at(bytes, PAGE + ROOT) && number_at(at, 0) == page &&
            memmem(at, PAGE, "cursors", 7) && memmem(at, PAGE, "parked", 6))
            return page;
    }
    fail_msg("there is none");
    return 0;
}

static void a_root_that_leads_to_an_older_tree_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    uint64_t root;
    size_t size;
    size_t meta;

    fill_and_store_another(fixture);
    bytes = salvage_read(fixture, &size);
    meta = newest_meta(bytes);
    root = older_root(bytes, size, number_at(bytes, meta + ROOT));
    memcpy(bytes + meta + ROOT, &root, sizeof(root));
    check_that_nothing_is_lost(fixture, bytes, size);
}

static void pages_that_nobody_has_are_no_sound_file(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    uint64_t last;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    memcpy(&last, bytes + LAST_PAGE, sizeof(last));
    set_in_meta_pages(fixture, bytes, size, LAST_PAGE, last + 64);
    free(bytes);
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    assert_int_equal(salvage_run(fixture).events, 40);
    salvage_assert_sound(fixture);
}

#define ROOT_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOT_TEST(a_root_that_leads_to_other_names_makes_a_journal_no_other_programs_file),
        ROOT_TEST(a_wrong_number_of_a_commit_makes_no_older_tree_the_newest),
        ROOT_TEST(a_root_that_leads_to_an_older_tree_loses_nothing),
        ROOT_TEST(pages_that_nobody_has_are_no_sound_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
