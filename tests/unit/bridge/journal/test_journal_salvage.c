#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/journal/journal_internal.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"
#include "tests/unit/bridge/journal/salvage_fixture.h"

/* ---- tests ---- */

static void a_journal_that_turned_over_is_sound(void **state)
{
    struct fixture *fixture = *state;
    char id[32];

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    for (uint64_t i = 1; i <= 4000; i++) {
        snprintf(id, sizeof(id), "ev_%d", (int)i);
        event_unref(salvage_store(fixture, id, (size_t)(i * 7919 % 9000)));
        if (i % 50 == 0)
            assert_int_equal(fixture_settle(fixture, i - 10), NOTE_STORED);
        if (i % 97 == 0) {
            struct event *event;

            snprintf(id, sizeof(id), "ev_%d", (int)++i);
            event = salvage_store(fixture, id, i);
            salvage_store_letter(fixture, i % 2 ? NOTE_PARK : NOTE_BURY, event, "topic");
            event_unref(event);
        }
    }
    fixture_close(fixture);
    salvage_assert_sound(fixture);
}

static void salvage_keeps_everything_of_a_sound_journal(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;

    salvage_fill(fixture);
    report = salvage_run(fixture);
    assert_int_equal(report.events, 40);
    assert_int_equal(report.to_publish, 30);
    assert_int_equal(report.lost, 0);
    assert_int_equal(report.parked, 1);
    assert_int_equal(report.dead, 2);
    assert_int_equal(report.marks, 41);
    assert_int_equal(report.cursors, 1);
    assert_true(report.are_cursors_known && report.is_whole);
    salvage_assert_sound(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_count(fixture), 40);
    assert_int_equal(salvage_cursor(fixture), 10);
    assert_int_equal(salvage_parked(fixture), 1);
    assert_int_equal(fixture_numbers(fixture).dead_count, 2);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_07", "2024", "ev_07", 600)),
                     DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_numbers(fixture).tail, 41);
}

static void salvage_keeps_what_came_before_a_publisher(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    uint64_t seq;

    salvage_fill(fixture);
    fixture_open(fixture);
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), 0);
    assert_int_equal(fixture_post_id(fixture, "later"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    salvage_run(fixture);
    salvage_assert_sound(fixture);
    fixture_open(fixture);
    assert_int_equal(journal_first(fixture->reader, "mqtt", &seq, &err), 0);
    assert_int_equal(seq, 40);
}

static void a_lost_event_can_be_delivered_again_and_others_are_known(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    unsigned char *bytes;
    size_t size;
    size_t at;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    at = salvage_find(bytes, size,
                      "ev_3020"); /* id and date of the thirtieth, in a page of its own */
    bytes[at] ^= 1;
    salvage_write(fixture, bytes, size);
    free(bytes);
    assert_true(salvage_verify(fixture, VERIFY_PAGES).is_sound); /* the pages are */
    assert_false(salvage_verify(fixture, VERIFY_ALL).is_sound);
    report = salvage_run(fixture);
    assert_int_equal(report.events, 39);
    assert_int_equal(report.lost, 1);
    assert_int_equal(report.lost_since_ms, 1700000000000);
    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_29", "2024", "ev_29", 600)),
                     DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_31", "2024", "ev_31", 600)),
                     DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_30", "2024", "ev_30", 6000)),
                     DELIVERY_ACCEPTED);
}

/* Flips a bit in every copy of an event. Returns what a start finds. */
static bool is_sound_without(struct fixture *fixture, const char *text)
{
    size_t size;
    unsigned char *bytes = salvage_read(fixture, &size);
    bool is_sound;

    for (size_t at = 0; at + strlen(text) <= size; at++) {
        if (memcmp(bytes + at, text, strlen(text)) == 0)
            bytes[at] ^= 1;
    }
    salvage_write(fixture, bytes, size);
    free(bytes);
    assert_true(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    assert_false(salvage_verify(fixture, VERIFY_ALL).is_sound);
    is_sound = salvage_verify(fixture, VERIFY_PENDING).is_sound;
    if (is_sound) {
        fixture_open(fixture);
        assert_int_equal(fixture_count(fixture), 39); /* it is passed over */
        fixture_close(fixture);
    }
    return is_sound;
}

static void a_start_looks_into_events_that_somebody_waits_for(void **state)
{
    struct fixture *fixture = *state;

    salvage_fill(fixture);
    assert_true(salvage_verify(fixture, VERIFY_PENDING).is_sound);
    assert_true(is_sound_without(fixture, "ev_0920")); /* id and date of the ninth */
    assert_false(is_sound_without(fixture, "ev_3020"));
}

static void a_start_looks_into_all_events_when_it_does_not_know_which_are_settled(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};

    salvage_fill(fixture);
    fixture_open(fixture);
    assert_int_equal(journal_drop_publisher(fixture->journal, "kafka", &err), 0);
    fixture_close(fixture);
    assert_false(is_sound_without(fixture, "ev_0920"));
}

static void without_its_cursors_a_publisher_begins_with_the_oldest_event(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    unsigned char *bytes;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    for (size_t at = 0; at + 4 <= size; at++) {
        if (memcmp(bytes + at, "CBC1", 4) == 0)
            bytes[at + 16] ^= 1; /* every version of the cursor */
    }
    salvage_write(fixture, bytes, size);
    free(bytes);
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    report = salvage_run(fixture);
    assert_false(report.are_cursors_known);
    assert_int_equal(report.to_publish, 40);
    fixture_open(fixture); /* makes a cursor for kafka */
    fixture_reopen(fixture);
    assert_int_equal(salvage_cursor(fixture), 0);
}

static void what_is_no_journal_is_put_aside_or_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    struct verify_report verified;
    unsigned char *bytes = malloc(100000);

    assert_int_equal(journal_verify(fixture->path, VERIFY_ALL, &verified, NULL), 0);
    assert_int_equal(journal_salvage(fixture->path, &fixture->clock, &report, NULL), 0);
    assert_non_null(bytes);
    for (size_t i = 0; i < 100000; i++)
        bytes[i] = (unsigned char)(i * i >> 3);
    salvage_write(fixture, bytes, 100000);
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    report = salvage_run(fixture);
    assert_string_equal(report.set_aside, "data.mdb.damaged-20231114T221320Z");
    assert_int_equal(report.events, 0);
    salvage_write(fixture, bytes, 0);
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    report = salvage_run(fixture);
    assert_string_equal(report.set_aside, "data.mdb.damaged-20231114T221320Z-2");
    free(bytes);
    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
}

static void an_interrupted_salvage_is_finished(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    char whole[400];
    char data[400];
    char folder[400];

    salvage_fill(fixture);
    salvage_path(fixture, "data.mdb", data);
    salvage_path(fixture, "data.mdb.salvaged", whole);
    salvage_path(fixture, "salvage", folder);
    assert_int_equal(mkdir(folder, 0700), 0); /* it was killed while it built */
    report = salvage_run(fixture);
    assert_int_equal(report.events, 40);
    assert_int_equal(rename(data, whole), 0); /* ... and before the last rename */
    assert_false(salvage_verify(fixture, VERIFY_PAGES).is_sound);
    report = salvage_run(fixture);
    assert_string_equal(report.set_aside, "");
    salvage_assert_sound(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_count(fixture), 40);
}

static void it_is_verified_unless_it_was_closed_in_order(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    size_t size;

    assert_false(store_is_clean(fixture->path));
    fixture_open(fixture);
    assert_false(store_is_clean(fixture->path));
    fixture_post_id(fixture, "ev_1");
    fixture_close(fixture);
    assert_true(store_is_clean(fixture->path));
    fixture_open(fixture);
    assert_false(store_is_clean(fixture->path));
    fixture_close(fixture);
    bytes = salvage_read(fixture, &size);
    salvage_write(fixture, bytes, size);
    free(bytes);
    assert_false(store_is_clean(fixture->path)); /* somebody wrote to it */
}

/* Opens what a start would open, and checks that nothing sound is missing. */
static void check_recovery(struct fixture *fixture, const bool intact[41])
{
    char ids[41 * 8] = "";
    char id[8];

    fixture_open(fixture);
    fixture_read_ids(fixture, salvage_cursor(fixture) + 1, ids, sizeof(ids));
    for (int i = 11; i <= 40; i++) {
        snprintf(id, sizeof(id), "ev_%02d", i);
        if (intact[i] && !strstr(ids, id))
            fail_msg("%s is lost; there are: %s", id, ids);
    }
    assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    assert_true(salvage_verify(fixture, VERIFY_PAGES).is_sound);
}

static void start_again(struct fixture *fixture, const unsigned char *bytes, size_t size)
{
    char command[600];

    snprintf(command, sizeof(command), "rm -rf '%s'/*", fixture->path);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
    salvage_write(fixture, bytes, size);
}

/* Which events have a copy, or all of their copies, in bytes that were not touched. */
static void find_intact(const unsigned char *bytes, size_t size, size_t touched,
                        size_t touched_size, bool wants_all, bool intact[41])
{
    bool touches[41] = {false};
    struct event_record head;
    struct event *event;

    memset(intact, 0, 41 * sizeof(intact[0]));
    for (size_t at = 0; at + sizeof(head) <= size; at++) {
        if (memcmp(bytes + at, "CBV1", 4) != 0)
            continue;
        memcpy(&head, bytes + at, sizeof(head));
        if (head.seq == 0 || head.seq > 40 || at + head.size > size)
            continue;
        event = event_from_record(bytes + at, head.size, NULL);
        event_unref(event);
        if (!event)
            continue; /* overwritten in part */
        if (at + head.size <= touched || at >= touched + touched_size)
            intact[head.seq] = true;
        else
            touches[head.seq] = true;
    }
    for (int i = 0; i <= 40 && wants_all; i++)
        intact[i] = intact[i] && !touches[i];
}

static void damage_and_recover(struct fixture *fixture, const unsigned char *bytes, size_t size,
                               size_t at, size_t damaged, int with)
{
    unsigned char *copy = malloc(size);
    bool intact[41];
    bool is_sound;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    for (size_t i = at; i < at + damaged && i < size; i++)
        copy[i] = with < 0 ? copy[i] ^ 0x10 : (unsigned char)with;
    start_again(fixture, copy, size);
    is_sound =
        salvage_verify(fixture, VERIFY_PAGES).is_sound; /* a damaged record alone is passed over */
    if (!is_sound)
        salvage_run(fixture);
    find_intact(bytes, size, at, damaged, is_sound, intact);
    check_recovery(fixture, intact);
    free(copy);
}

/* In every page: bytes of its head, of its rows, and all of it. */
static void whatever_page_is_damaged_what_is_sound_is_kept(void **state)
{
    static const size_t offsets[] = {0, 3, 10, 12, 14, 16, 18, 24, 32, 56, 2000, 4000, 4095};
    struct fixture *fixture = *state;
    unsigned char *bytes;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    while (size > PAGE && bytes[size - 1] == 0 &&
           memcmp(bytes + size - PAGE, bytes + size - PAGE + 1, PAGE - 1) == 0)
        size -= PAGE; /* never written */
    for (size_t page = 0; page * PAGE < size; page++) {
        for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
            if ((page + i) % 4 == 0 || page < 2)
                damage_and_recover(fixture, bytes, size, page * PAGE + offsets[i], 1, -1);
        }
        damage_and_recover(fixture, bytes, size, page * PAGE, PAGE, 0);
    }
    free(bytes);
}

/* A row of LMDB: two bytes of flags, two of the key's size, the key. */
static bool is_row_of(const unsigned char *row, uint64_t number)
{
    uint64_t key;
    uint16_t key_size;

    memcpy(&key_size, row + 2, sizeof(key_size));
    memcpy(&key, row + 4, sizeof(key));
    return row[0] <= 1 && row[1] == 0 && key_size == sizeof(key) && key == number;
}

/* One that leaves the keys in order, too: the chunk of 25 to 40 then says that it ends before. */
static void a_wrong_bit_in_a_key_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    unsigned rows = 0;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    for (size_t at = 0; at + 12 <= size; at += 2) {
        if (!is_row_of(bytes + at, 40))
            continue;
        rows++;
        for (unsigned bit = 0; bit < 6; bit++) {
            bytes[at + 4] ^= (unsigned char)(1U << bit);
            damage_and_recover(fixture, bytes, size, at + 4, 0, 0);
            bytes[at + 4] ^= (unsigned char)(1U << bit);
        }
    }
    free(bytes);
    assert_true(rows > 0);
}

/* What a start does: events are taken afterwards. True when the file was damaged. */
static bool is_mended(struct fixture *fixture)
{
    bool is_sound = salvage_verify(fixture, VERIFY_PAGES).is_sound;

    if (!is_sound)
        salvage_run(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    return !is_sound;
}

/* The journal's space is counted by them: one that is too large would leave none. */
static void a_wrong_count_of_an_empty_tree_is_noticed(void **state)
{
    enum { LEAF_PAGES = 16, NAME = sizeof("parked") - 1 };
    struct fixture *fixture = *state;
    unsigned char *bytes;
    unsigned unsound = 0;
    size_t size;

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "old"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    bytes = salvage_read(fixture, &size);
    for (size_t at = 0; at + NAME + 48 <= size; at++) {
        if (memcmp(bytes + at, "parked", NAME) != 0)
            continue;
        bytes[at + NAME + LEAF_PAGES + 2] ^= 1;
        start_again(fixture, bytes, size);
        bytes[at + NAME + LEAF_PAGES + 2] ^= 1;
        unsound += is_mended(fixture);
    }
    free(bytes);
    assert_true(unsound > 0);
}

/* One that a commit writes or deletes: a list of free pages, marks, an event, the state. */
static bool is_plain_row(const unsigned char *row)
{
    uint16_t flags;
    uint16_t key_size;
    uint64_t key;

    memcpy(&flags, row, sizeof(flags));
    memcpy(&key_size, row + 2, sizeof(key_size));
    memcpy(&key, row + 4, sizeof(key));
    return flags == 0 && ((key_size == sizeof(key) && key < 1000) ||
                          (key_size == 5 && memcmp(row + 4, "state", 5) == 0));
}

/* LMDB shows it to readers and refuses to write over it. */
static void a_row_that_calls_itself_a_database_is_noticed(void **state)
{
    enum { IS_DB = 2 };
    struct fixture *fixture = *state;
    unsigned char *bytes;
    unsigned unsound = 0;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    for (size_t at = PAGE; at + 12 <= size; at += 2) {
        if (!is_plain_row(bytes + at))
            continue;
        bytes[at] ^= IS_DB;
        start_again(fixture, bytes, size);
        bytes[at] ^= IS_DB;
        unsound += is_mended(fixture);
    }
    free(bytes);
    assert_true(unsound > 0);
}

static int read_parked(struct fixture *fixture)
{
    struct letter_query query = {
        .publisher = "kafka", .topic = "leads", .max_count = 2, .max_bytes = 100000};
    struct letter letters[2];
    struct error err = {0};
    int count = journal_read_parked(fixture->reader, &query, letters, &err);

    for (int i = 0; i < count; i++)
        event_unref(letters[i].event);
    return count;
}

/* It would be sent over and over: what is delivered is taken off the list under its own key. */
static void a_parked_record_under_another_key_is_passed_over_and_salvaged(void **state)
{
    struct parked_key key = parked_key("kafka", "leads", 3, 0);
    struct fixture *fixture = *state;
    unsigned char *bytes;
    unsigned char *at;
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    at = bytes;
    while ((at = memmem(at, size - (size_t)(at - bytes), key.bytes, key.size)))
        at[key.size - 1] ^= 4; /* every version of it */
    salvage_write(fixture, bytes, size);
    free(bytes);
    fixture_open(fixture);
    assert_int_equal(salvage_parked(fixture), 1);
    assert_int_equal(read_parked(fixture), 0);
    assert_int_equal(fixture_numbers(fixture).damaged, 1);
    fixture_close(fixture);
    assert_false(salvage_verify(fixture, VERIFY_PENDING).is_sound);
    assert_int_equal(salvage_run(fixture).parked, 1);
    fixture_open(fixture);
    assert_int_equal(read_parked(fixture), 1);
}

static void wherever_the_file_is_cut_what_is_sound_is_kept(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    bool intact[41];
    size_t size;

    salvage_fill(fixture);
    bytes = salvage_read(fixture, &size);
    for (size_t cut = 0; cut < size && cut < 80 * (size_t)PAGE; cut += 1777) {
        start_again(fixture, bytes, cut);
        if (!salvage_verify(fixture, VERIFY_PAGES).is_sound)
            salvage_run(fixture);
        find_intact(bytes, cut, cut, 0, false, intact);
        check_recovery(fixture, intact);
    }
    free(bytes);
}

#define SALVAGE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SALVAGE_TEST(a_journal_that_turned_over_is_sound),
        SALVAGE_TEST(salvage_keeps_everything_of_a_sound_journal),
        SALVAGE_TEST(salvage_keeps_what_came_before_a_publisher),
        SALVAGE_TEST(a_lost_event_can_be_delivered_again_and_others_are_known),
        SALVAGE_TEST(a_start_looks_into_events_that_somebody_waits_for),
        SALVAGE_TEST(a_start_looks_into_all_events_when_it_does_not_know_which_are_settled),
        SALVAGE_TEST(without_its_cursors_a_publisher_begins_with_the_oldest_event),
        SALVAGE_TEST(what_is_no_journal_is_put_aside_or_left_alone),
        SALVAGE_TEST(an_interrupted_salvage_is_finished),
        SALVAGE_TEST(it_is_verified_unless_it_was_closed_in_order),
        SALVAGE_TEST(whatever_page_is_damaged_what_is_sound_is_kept),
        SALVAGE_TEST(a_wrong_count_of_an_empty_tree_is_noticed),
        SALVAGE_TEST(a_row_that_calls_itself_a_database_is_noticed),
        SALVAGE_TEST(a_wrong_bit_in_a_key_costs_nothing),
        SALVAGE_TEST(a_parked_record_under_another_key_is_passed_over_and_salvaged),
        SALVAGE_TEST(wherever_the_file_is_cut_what_is_sound_is_kept),
    };

    /* Some hundred journals are made and synced: in memory, where there is such a folder. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
