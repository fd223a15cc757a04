#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

enum { EVENTS = 300 };

#define FIRST_MS INT64_C(1700000000000)

/* Events of many sizes; every 40th is larger than a chunk. */
static size_t size_of(size_t i)
{
    return i % 40 == 39 ? CHUNK_BYTES + 5000 : 100 + i * 37 % 4000;
}

static struct event *numbered(size_t i)
{
    struct event *event;
    char id[32];

    snprintf(id, sizeof(id), "ev_%zu", i);
    event = fixture_event(id, "2024", id, size_of(i));
    event->record->received_ms = FIRST_MS + (int64_t)i * 10;
    return event;
}

static void open_with_burst(struct fixture *fixture)
{
    struct event *events[EVENTS];

    for (size_t i = 0; i < EVENTS; i++)
        events[i] = numbered(i + 1);
    fixture_open_with_waiting(fixture, events, EVENTS);
}

/* ---- the format ---- */

static void a_chunk_takes_what_fits_and_at_least_one(void **state)
{
    struct event *small = numbered(1);
    struct event *large = numbered(39);
    struct event *events[CHUNK_RECORDS];
    size_t fitting = CHUNK_BYTES / small->record->size;
    size_t bytes;

    (void)state;
    for (size_t i = 0; i < CHUNK_RECORDS; i++)
        events[i] = small;
    assert_int_equal(chunk_fill(events, CHUNK_RECORDS, &bytes), fitting);
    assert_int_equal(bytes, fitting * small->record->size);
    assert_int_equal(chunk_fill(events, 2, &bytes), 2);
    events[0] = large;
    assert_int_equal(chunk_fill(events, 2, &bytes), 1);
    assert_int_equal(bytes, large->record->size);
    event_unref(small);
    event_unref(large);
}

/* Three records with the numbers 5, 6 and 7. */
static size_t make_chunk(char *out, size_t *out_second)
{
    size_t size = 0;

    for (uint64_t seq = 5; seq <= 7; seq++) {
        struct event *event = numbered((size_t)seq);

        event_seal(event, seq, 1);
        if (seq == 6)
            *out_second = size;
        memcpy(out + size, event->record, event->record->size);
        size += event->record->size;
        event_unref(event);
    }
    return size;
}

static void a_value_comes_apart_into_its_records(void **state)
{
    struct chunk_record records[CHUNK_RECORDS];
    char value[16384];
    size_t second;
    size_t size = make_chunk(value, &second);

    (void)state;
    assert_int_equal(chunk_split((struct text){value, size}, 7, records), 3);
    for (size_t i = 0; i < 3; i++) {
        struct event *event = event_from_record(records[i].bytes.data, records[i].bytes.size, NULL);

        assert_non_null(event);
        assert_int_equal(records[i].seq, 5 + i);
        assert_int_equal(event->record->seq, 5 + i);
        event_unref(event);
    }
    assert_int_equal(chunk_split((struct text){value, 0}, 7, records), 0);
}

static bool has_sound(const struct chunk_record *records, size_t count, uint64_t seq)
{
    for (size_t i = 0; i < count; i++) {
        struct event *event = event_from_record(records[i].bytes.data, records[i].bytes.size, NULL);
        bool is_it = event && event->record->seq == seq && records[i].seq == seq;

        event_unref(event);
        if (is_it)
            return true;
    }
    return false;
}

static void whatever_bit_of_a_record_is_wrong_the_others_are_found(void **state)
{
    struct chunk_record records[CHUNK_RECORDS];
    char value[16384];
    size_t second;
    size_t size = make_chunk(value, &second);

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(struct event_record); bit++) {
        size_t covered = 0;
        size_t count;

        value[second + bit / 8] ^= (char)(1 << bit % 8);
        count = chunk_split((struct text){value, size}, 7, records);
        assert_in_range(count, 2, 4);
        for (size_t i = 0; i < count; i++) {
            assert_ptr_equal(records[i].bytes.data, value + covered);
            covered += records[i].bytes.size;
        }
        assert_int_equal(covered, size);
        assert_true(has_sound(records, count, 5));
        assert_false(has_sound(records, count, 6));
        assert_true(has_sound(records, count, 7));
        value[second + bit / 8] ^= (char)(1 << bit % 8);
    }
}

static void a_value_that_was_cut_short_keeps_its_first_records(void **state)
{
    struct chunk_record records[CHUNK_RECORDS];
    char value[16384];
    size_t second;
    size_t size = make_chunk(value, &second);

    (void)state;
    for (size_t cut = second + 1; cut < size; cut++) {
        size_t count = chunk_split((struct text){value, cut}, 7, records);

        assert_true(has_sound(records, count, 5));
        assert_false(has_sound(records, count, 7));
    }
    memset(value, 0, size);
    assert_int_equal(chunk_split((struct text){value, size}, 7, records), 1);
    assert_int_equal(records[0].seq, 7);
    assert_int_equal(records[0].bytes.size, size);
}

/* ---- in the journal ---- */

static void events_of_one_commit_share_values(void **state)
{
    struct fixture *fixture = *state;
    struct verify_report report;
    struct error err = {0};

    open_with_burst(fixture);
    assert_int_equal(fixture_count(fixture), EVENTS);
    fixture_close(fixture);
    if (journal_verify(fixture->path, VERIFY_ALL, &report, &err) != 1)
        fail_msg("%s", err.message);
    assert_true(report.is_sound);
    assert_int_equal(report.events, EVENTS);
    assert_true(report.entries[STORE_EVENTS] < EVENTS / 8);
}

static void they_are_read_from_any_place_within_the_limits(void **state)
{
    struct fixture *fixture = *state;
    struct event *events[50];
    struct error err = {0};

    open_with_burst(fixture);
    for (uint64_t from = 1; from <= EVENTS; from++) {
        size_t max_bytes = from % 3 ? 1 << 20 : 9000;
        int count = journal_read(fixture->reader, from, 50, max_bytes, events, &err);
        size_t bytes = 0;

        assert_true(count > 0);
        for (int i = 0; i < count; i++) {
            assert_int_equal(events[i]->record->seq, from + (unsigned)i);
            bytes += events[i]->record->size;
            event_unref(events[i]);
        }
        assert_true(count == 1 || bytes <= max_bytes);
        assert_true(count == 50 || from + 50 > EVENTS || bytes + CHUNK_BYTES + 6000 > max_bytes);
    }
    assert_int_equal(journal_read(fixture->reader, EVENTS + 1, 50, 1 << 20, events, &err), 0);
}

static void they_are_searched_backwards_across_chunks(void **state)
{
    struct fixture *fixture = *state;
    struct event_query all = {.since_ms = 0};
    struct event *found[10];
    struct error err = {0};
    uint64_t before = UINT64_MAX;
    uint64_t expected = EVENTS;

    open_with_burst(fixture);
    while (before > 1) {
        int count = journal_search(fixture->reader, &all, &before, 7, 10, found, &err);

        assert_in_range(count, 0, 7);
        for (int i = 0; i < count; i++) {
            assert_int_equal(found[i]->record->seq, expected--);
            event_unref(found[i]);
        }
    }
    assert_int_equal(expected, 0);
}

static void the_time_of_receipt_leads_to_a_number(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    uint64_t seq;

    open_with_burst(fixture);
    for (int64_t i = 1; i <= EVENTS; i++) {
        assert_int_equal(journal_find(fixture->reader, FIRST_MS + i * 10, &seq, &err), 0);
        assert_int_equal(seq, i);
        assert_int_equal(journal_find(fixture->reader, FIRST_MS + i * 10 + 1, &seq, &err), 0);
        assert_int_equal(seq, i + 1);
    }
    assert_int_equal(journal_find(fixture->reader, 0, &seq, &err), 0);
    assert_int_equal(seq, 1);
}

static uint64_t first_number(struct fixture *fixture)
{
    struct event *event;
    struct error err = {0};
    uint64_t seq;

    assert_int_equal(journal_read(fixture->reader, 0, 1, 1, &event, &err), 1);
    seq = event->record->seq;
    event_unref(event);
    return seq;
}

static bool is_empty(struct fixture *fixture)
{
    return fixture_count(fixture) == 0;
}

static void a_chunk_stays_until_all_of_it_is_delivered(void **state)
{
    struct fixture *fixture = *state;

    open_with_burst(fixture);
    assert_int_equal(fixture_numbers(fixture).head, 1);
    atomic_fetch_add(&fixture->monotonic_us, INT64_C(7200) * 1000000);
    for (uint64_t settled = 7; settled < EVENTS; settled += 31) {
        assert_int_equal(fixture_settle(fixture, settled), NOTE_STORED);
        assert_int_equal(fixture_numbers(fixture).head, first_number(fixture));
        fixture_reopen(fixture);
        assert_int_equal(fixture_numbers(fixture).head, first_number(fixture));
        assert_true(first_number(fixture) <= settled + 1);
        assert_int_equal(fixture_read_ids(fixture, settled + 1, NULL, 0), EVENTS - settled);
    }
    assert_true(first_number(fixture) > EVENTS / 2); /* what was delivered is not all there */
    assert_int_equal(fixture_settle(fixture, EVENTS), NOTE_STORED);
    assert_true(fixture_until(fixture, is_empty));
    assert_int_equal(fixture_numbers(fixture).head, EVENTS + 1);
}

/* Changes the byte before the first `find` in the file. */
static void damage_before(const struct fixture *fixture, const char *find)
{
    char name[300];
    char *bytes = malloc(8 << 20);
    char *at;
    FILE *file;
    size_t size;

    snprintf(name, sizeof(name), "%s/data.mdb", fixture->path);
    file = fopen(name, "r+");
    assert_non_null(file);
    assert_non_null(bytes);
    size = fread(bytes, 1, 8 << 20, file);
    at = memmem(bytes, size, find, strlen(find));
    assert_non_null(at);
    fseek(file, (long)(at - bytes) - 1, SEEK_SET);
    fputc('?', file);
    fclose(file);
    free(bytes);
}

static void a_damaged_record_costs_no_other(void **state)
{
    struct fixture *fixture = *state;

    open_with_burst(fixture);
    fixture_close(fixture);
    damage_before(fixture, "ev_123");
    fixture_open(fixture);
    assert_int_equal(fixture_count(fixture), EVENTS - 1);
    assert_false(fixture_has_id(fixture, "ev_123"));
    assert_true(fixture_has_id(fixture, "ev_122"));
    assert_true(fixture_has_id(fixture, "ev_124"));
    assert_true(fixture_numbers(fixture).damaged > 0);
}

#define JOURNAL_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_takes_what_fits_and_at_least_one),
        cmocka_unit_test(a_value_comes_apart_into_its_records),
        cmocka_unit_test(whatever_bit_of_a_record_is_wrong_the_others_are_found),
        cmocka_unit_test(a_value_that_was_cut_short_keeps_its_first_records),
        JOURNAL_TEST(events_of_one_commit_share_values),
        JOURNAL_TEST(they_are_read_from_any_place_within_the_limits),
        JOURNAL_TEST(they_are_searched_backwards_across_chunks),
        JOURNAL_TEST(the_time_of_receipt_leads_to_a_number),
        JOURNAL_TEST(a_chunk_stays_until_all_of_it_is_delivered),
        JOURNAL_TEST(a_damaged_record_costs_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
