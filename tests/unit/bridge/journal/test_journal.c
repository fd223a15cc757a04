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
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

static const int64_t second_us = 1000000;

static void advance_s(struct fixture *fixture, int64_t seconds)
{
    atomic_fetch_add(&fixture->monotonic_us, seconds * second_us);
}

/* ---- events ---- */

static void events_are_kept_in_order_over_a_restart(void **state)
{
    struct fixture *fixture = *state;
    char ids[200];

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post_id(fixture, "ev_2"), DELIVERY_ACCEPTED);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_3"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_read_ids(fixture, 0, ids, sizeof(ids)), 3);
    assert_string_equal(ids, "ev_1 ev_2 ev_3");
    assert_int_equal(fixture_read_ids(fixture, 2, ids, sizeof(ids)), 2);
    assert_string_equal(ids, "ev_2 ev_3");
    assert_int_equal(fixture_numbers(fixture).tail, 3);
    assert_int_equal(fixture_numbers(fixture).head, 1);
    assert_int_equal(atomic_load(&fixture->stored_count), 3);
    assert_int_equal(fixture->stored[0], 1);
    assert_int_equal(fixture->stored[2], 3);
}

static void a_stored_event_is_the_event_byte_for_byte(void **state)
{
    struct fixture *fixture = *state;
    struct event *event = fixture_event("ev_1", "2024", "{\"a\":1}", 100000);
    struct event *read;
    struct error err = {0};

    fixture_open(fixture);
    event_ref(event);
    assert_int_equal(fixture_post(fixture, event), DELIVERY_ACCEPTED);
    assert_int_equal(journal_read(fixture->reader, 1, 1, 1, &read, &err), 1);
    assert_int_equal(read->record->size, event->record->size);
    assert_memory_equal(read->record, event->record, event->record->size);
    event_unref(read);
    event_unref(event);
}

static void many_deliveries_at_once_are_all_stored_in_the_order_of_their_sender(void **state)
{
    enum { COUNT = 10000 };
    struct fixture *fixture = *state;
    struct post *posts = calloc(COUNT, sizeof(*posts));
    char *ids = malloc(COUNT * 8);
    char *expected = malloc(COUNT * 8);
    size_t used = 0;

    fixture->options.max_size = UINT64_C(256) << 20;
    fixture_open(fixture);
    for (int i = 0; i < COUNT; i++) {
        char id[16];

        snprintf(id, sizeof(id), "e%d", i);
        used += (size_t)snprintf(expected + used, COUNT * 8 - used, "%s%s", i ? " " : "", id);
        fixture_send(fixture, &posts[i], fixture_event(id, "", id, 100));
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_wait(&posts[i]), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_read_ids(fixture, 0, ids, COUNT * 8), COUNT);
    assert_string_equal(ids, expected);
    free(posts);
    free(ids);
    free(expected);
}

static void a_read_stops_at_its_limits_but_gives_one(void **state)
{
    struct fixture *fixture = *state;
    struct event *events[3];
    struct error err = {0};

    fixture_open(fixture);
    for (int i = 0; i < 3; i++)
        fixture_post(fixture, fixture_event("ev", i == 0 ? "0" : i == 1 ? "1" : "2", "x", 5000));
    assert_int_equal(journal_read(fixture->reader, 0, 3, 1, events, &err), 1);
    event_unref(events[0]);
    assert_int_equal(journal_read(fixture->reader, 0, 2, 1 << 20, events, &err), 2);
    event_unref(events[0]);
    event_unref(events[1]);
    assert_int_equal(journal_read(fixture->reader, 0, 3, 11000, events, &err), 2);
    event_unref(events[0]);
    event_unref(events[1]);
    assert_int_equal(journal_read(fixture->reader, 4, 3, 11000, events, &err), 0);
}

static uint64_t found_at(struct fixture *fixture, int64_t received_ms)
{
    struct error err = {0};
    uint64_t seq = 0;

    assert_int_equal(journal_find(fixture->reader, received_ms, &seq, &err), 0);
    return seq;
}

static void events_are_found_by_the_time_they_came(void **state)
{
    struct fixture *fixture = *state;
    char id[16];

    fixture_open(fixture);
    assert_int_equal(found_at(fixture, 0), 1);
    for (int i = 1; i <= 100; i++) {
        struct event *event;

        snprintf(id, sizeof(id), "ev_%d", i);
        event = fixture_event(id, "", id, 10);
        event->record->received_ms = 1000 * i;
        assert_int_equal(fixture_post(fixture, event), DELIVERY_ACCEPTED);
    }
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(found_at(fixture, 1000 * i - 999), i);
        assert_int_equal(found_at(fixture, 1000 * i), i);
    }
    assert_int_equal(found_at(fixture, INT64_MIN), 1);
    assert_int_equal(found_at(fixture, 100001), 101);
    assert_int_equal(found_at(fixture, INT64_MAX), 101);

    fixture_settle(fixture, 60);
    advance_s(fixture, 4000);
    assert_int_equal(fixture_post_id(fixture, "later"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_count(fixture), 41);
    assert_int_equal(found_at(fixture, 5000), 61); /* the ones before are deleted */
    assert_int_equal(found_at(fixture, 80000), 80);
}

/* ---- dedupe ---- */

static void a_redelivery_is_a_duplicate_also_after_a_restart(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_count(fixture), 1);
    assert_int_equal(fixture_numbers(fixture).conflicts, 0);
}

static void copies_that_arrive_together_are_stored_once(void **state)
{
    enum { COPIES = 300 };
    struct fixture *fixture = *state;
    struct post *posts = calloc(COPIES, sizeof(*posts));
    int accepted = 0;
    int duplicates = 0;

    fixture_open(fixture);
    for (int i = 0; i < COPIES; i++)
        fixture_send(fixture, &posts[i], fixture_event("ev_1", "2024", "same", 10));
    for (int i = 0; i < COPIES; i++) {
        enum delivery_outcome outcome = fixture_wait(&posts[i]);

        accepted += outcome == DELIVERY_ACCEPTED;
        duplicates += outcome == DELIVERY_DUPLICATE;
    }
    assert_int_equal(accepted, 1);
    assert_int_equal(duplicates, COPIES - 1);
    assert_int_equal(fixture_count(fixture), 1);
    free(posts);
}

static void identity_is_account_id_and_date_and_other_bytes_are_published(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "1", "a", 1)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "2", "a", 1)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_numbers(fixture).conflicts, 0);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "1", "b", 1)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_numbers(fixture).conflicts, 1);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "1", "a", 1)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "1", "b", 1)), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_11", "", "a", 1)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_1", "", "a", 9)), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_count(fixture), 5);
    assert_int_equal(fixture_numbers(fixture).conflicts, 1);
}

static void the_wall_clock_expires_nothing(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_settle(fixture, 1), NOTE_STORED);
    atomic_fetch_add(&fixture->wall_ms, INT64_C(10) * 365 * 86400 * 1000);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post_id(fixture, "ev_2"), DELIVERY_ACCEPTED);
    assert_true(fixture_has_id(fixture, "ev_1"));
}

static void marks_expire_by_monotonic_time_counted_over_restarts(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    advance_s(fixture, 5000);
    fixture_close(fixture);
    advance_s(fixture, 1000000); /* the journal was closed: this time does not count */
    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    advance_s(fixture, 2200); /* 7200 s in all */
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    advance_s(fixture, 1);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
}

static void marks_are_bounded_and_the_window_says_so(void **state)
{
    struct fixture *fixture = *state;
    char id[32];

    fixture->options.dedupe_max = 100;
    fixture_open(fixture);
    assert_int_equal(fixture_numbers(fixture).dedupe_window_s, 7200);
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof(id), "ev_%d", i);
        assert_int_equal(fixture_post_id(fixture, id), DELIVERY_ACCEPTED);
        advance_s(fixture, 1);
    }
    assert_in_range(fixture_numbers(fixture).dedupe_window_s, 99, 101);
    fixture_reopen(fixture);
    assert_in_range(fixture_numbers(fixture).dedupe_window_s, 99, 101);
    assert_int_equal(fixture_post_id(fixture, "ev_299"), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post_id(fixture, "ev_200"), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post_id(fixture, "ev_199"), DELIVERY_ACCEPTED);
}

/* ---- retention ---- */

static bool head_is_three(struct fixture *fixture)
{
    return fixture_numbers(fixture).head == 3;
}

static void delivered_events_go_when_their_retention_is_over(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    fixture_post_id(fixture, "ev_1");
    fixture_post_id(fixture, "ev_2");
    fixture_post_id(fixture, "ev_3");
    advance_s(fixture, 3599);
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    assert_int_equal(fixture_count(fixture), 3);
    advance_s(fixture, 1);
    assert_true(fixture_until(fixture, head_is_three)); /* by itself, without traffic */
    assert_int_equal(fixture_count(fixture), 1);
    advance_s(fixture, 1000000);
    fixture_reopen(fixture);
    fixture_post_id(fixture, "ev_4");
    assert_true(fixture_has_id(fixture, "ev_3")); /* not delivered: kept, however old */
}

static void another_retention_counts_at_once(void **state)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    fixture_post_id(fixture, "ev_1");
    fixture_post_id(fixture, "ev_2");
    fixture_post_id(fixture, "ev_3");
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    advance_s(fixture, 100);
    assert_int_equal(fixture_count(fixture), 3);
    journal_set_ages(fixture->journal, 100000, fixture->options.dedupe_window_ms);
    assert_true(fixture_until(fixture, head_is_three));
}

static bool knows_ten_seconds(struct fixture *fixture)
{
    int64_t window_s = fixture_numbers(fixture).dedupe_window_s;

    return window_s == 10 || window_s == 11;
}

static bool knows_a_hundred_seconds(struct fixture *fixture)
{
    int64_t window_s = fixture_numbers(fixture).dedupe_window_s;

    return window_s == 100 || window_s == 101;
}

static void another_dedupe_window_counts_from_now_on(void **state)
{
    struct fixture *fixture = *state;
    int64_t window_s = fixture->options.dedupe_window_ms / 1000;

    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    advance_s(fixture, 20);
    journal_set_ages(fixture->journal, fixture->options.retention_ms, 10000);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    assert_true(fixture_until(fixture, knows_ten_seconds));
    advance_s(fixture, 5);
    journal_set_ages(fixture->journal, fixture->options.retention_ms, window_s * 1000);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    assert_true(fixture_until(fixture, knows_ten_seconds));
    advance_s(fixture, 90);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_DUPLICATE);
    assert_true(fixture_until(fixture, knows_a_hundred_seconds));
}

static bool accepts(struct fixture *fixture)
{
    return fixture_numbers(fixture).can_accept;
}

static void a_full_journal_refuses_until_the_cursor_moves(void **state)
{
    struct fixture *fixture = *state;
    struct journal_numbers numbers;
    size_t accepted;

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    accepted = fixture_fill(fixture, "ev_", 3000);
    assert_in_range(accepted, 1000, 2100);
    numbers = fixture_numbers(fixture);
    assert_false(numbers.can_accept);
    assert_string_equal(numbers.trouble, "the journal is full of undelivered events");
    assert_in_range(numbers.bytes, 7 << 20, 8 << 20);
    assert_int_equal(fixture_settle(fixture, accepted), NOTE_STORED);
    assert_true(fixture_until(fixture, accepts));
    assert_int_equal(fixture_post_id(fixture, "after"), DELIVERY_ACCEPTED);
}

static void what_is_too_large_for_what_is_left_is_trouble_while_it_comes(void **state)
{
    struct fixture *fixture = *state;

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    fixture_fill(fixture, "large", 2500000);
    assert_int_equal(fixture_post_id(fixture, "small"), DELIVERY_ACCEPTED);
    assert_false(accepts(fixture));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_post(fixture, fixture_event("larger", "", "x", 2500000)),
                         DELIVERY_UNAVAILABLE);
        advance_s(fixture, 9);
        assert_int_equal(fixture_settle(fixture, 0), NOTE_STORED);
        assert_false(accepts(fixture));
    }
    advance_s(fixture, 1);
    assert_int_equal(fixture_settle(fixture, 0), NOTE_STORED);
    assert_true(fixture_until(fixture, accepts));
}

static void a_full_journal_still_knows_duplicates(void **state)
{
    struct fixture *fixture = *state;
    size_t accepted;

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    assert_int_equal(fixture_post_id(fixture, "first"), DELIVERY_ACCEPTED);
    fixture_fill(fixture, "ev_", 3000);
    assert_int_equal(fixture_post_id(fixture, "first"), DELIVERY_DUPLICATE);
    accepted = fixture_count(fixture);
    assert_int_equal(fixture_settle(fixture, accepted / 2), NOTE_STORED);
    assert_true(fixture_until(fixture, accepts));
    assert_int_equal(fixture_post_id(fixture, "again"), DELIVERY_ACCEPTED);
    assert_true(fixture_count(fixture) >= accepted - accepted / 2);
}

static enum delivery_outcome post_after(struct fixture *fixture, const struct delivery *before,
                                        const char *id)
{
    struct post post;

    fixture_send_after(fixture, &post, before, fixture_event(id, "2024-01-01", id, 600));
    assert_true(fixture_wait(&post) != DELIVERY_UNAVAILABLE ||
                post.delivery.reason == before->reason);
    return post.delivery.outcome;
}

/* There would be room for it again: but its order counts. */
static void what_comes_after_a_refused_delivery_is_refused_with_it(void **state)
{
    const struct delivery refused = {.outcome = DELIVERY_UNAVAILABLE, .reason = "no room"};
    const struct delivery accepted = {.outcome = DELIVERY_ACCEPTED};
    const struct delivery duplicate = {.outcome = DELIVERY_DUPLICATE};
    struct fixture *fixture = *state;

    fixture_open(fixture);
    assert_int_equal(post_after(fixture, &refused, "a"), DELIVERY_UNAVAILABLE);
    assert_int_equal(fixture_count(fixture), 0);
    assert_int_equal(post_after(fixture, &accepted, "a"), DELIVERY_ACCEPTED);
    assert_int_equal(post_after(fixture, &duplicate, "b"), DELIVERY_ACCEPTED);
    assert_int_equal(post_after(fixture, &refused, "a"), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_count(fixture), 2);
}

static void it_turns_over_many_times_at_the_edge_of_full(void **state)
{
    struct fixture *fixture = *state;
    uint64_t settled = 0;
    char id[32];

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    for (int i = 0; i < 8000; i++) {
        size_t size = (size_t)(i * 7919 % 9000);
        enum delivery_outcome outcome;

        snprintf(id, sizeof(id), "ev_%d", i);
        outcome = fixture_post(fixture, fixture_event(id, "", id, size));
        if (outcome == DELIVERY_UNAVAILABLE) {
            settled = fixture_numbers(fixture).tail - 200;
            assert_int_equal(fixture_settle(fixture, settled), NOTE_STORED);
            assert_true(fixture_until(fixture, accepts));
        }
    }
    assert_true(settled > 4000);
    assert_true(fixture_numbers(fixture).bytes <= UINT64_C(8) << 20);
    assert_in_range(fixture_count(fixture), 200, 2000);
}

/* ---- opening ---- */

static void a_second_instance_is_refused_with_the_process_in_the_way(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    char expected[400];

    fixture_open(fixture);
    assert_null(journal_open(&fixture->options, &fixture->clock, &err));
    assert_int_equal(err.kind, ERROR_IN_USE);
    snprintf(expected, sizeof(expected),
             "journal %s: is in use by process %d, which has to stop first", fixture->path,
             (int)getpid());
    assert_string_equal(err.message, expected);
    assert_int_equal(fixture_post_id(fixture, "ev_1"), DELIVERY_ACCEPTED);
    fixture_reopen(fixture);
    assert_int_equal(fixture_count(fixture), 1);
}

static mode_t mode_of(const char *path, const char *name)
{
    char full[400];
    struct stat st;

    snprintf(full, sizeof(full), "%s/%s", path, name);
    assert_int_equal(lstat(full, &st), 0);
    return st.st_mode & 0777;
}

static void its_files_are_for_nobody_else(void **state)
{
    struct fixture *fixture = *state;
    char data[400];

    assert_int_equal(rmdir(fixture->path), 0); /* made again by the journal */
    umask(0);
    fixture_open(fixture);
    assert_int_equal(mode_of(fixture->path, "."), 0700);
    assert_int_equal(mode_of(fixture->path, "data.mdb"), 0600);
    assert_int_equal(mode_of(fixture->path, "lock.mdb"), 0600);
    assert_int_equal(mode_of(fixture->path, "pid"), 0600);
    fixture_close(fixture);
    snprintf(data, sizeof(data), "%s/data.mdb", fixture->path);
    assert_int_equal(chmod(data, 0664), 0);
    assert_int_equal(chmod(fixture->path, 0775), 0);
    fixture_open(fixture);
    assert_int_equal(mode_of(fixture->path, "data.mdb"), 0600);
    assert_int_equal(mode_of(fixture->path, "."), 0700);
}

static void links_and_open_folders_are_refused(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "pid"};
    struct fixture *fixture = *state;
    struct error err = {0};
    char name[400];
    char target[400];

    snprintf(target, sizeof(target), "%s/target", fixture->path);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(name, sizeof(name), "%s/%s", fixture->path, names[i]);
        unlink(name);
        assert_int_equal(symlink(target, name), 0);
        assert_null(journal_open(&fixture->options, &fixture->clock, &err));
        assert_int_equal(err.kind, ERROR_CONFIG);
        assert_int_not_equal(access(target, F_OK), 0);
        unlink(name);
    }
    assert_int_equal(chmod(fixture->path, 0777), 0);
    unlink(name);
    assert_null(journal_open(&fixture->options, &fixture->clock, &err));
    assert_non_null(strstr(err.message, "chmod 700"));
}

static void a_foreign_file_is_refused_and_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    char name[400];
    FILE *file;
    char word[20] = "";

    snprintf(name, sizeof(name), "%s/data.mdb", fixture->path);
    file = fopen(name, "w");
    for (int i = 0; i < 2000; i++)
        fputs("not a journal ", file);
    fclose(file);
    assert_null(journal_open(&fixture->options, &fixture->clock, &err));
    assert_int_equal(err.kind, ERROR_CONFIG);
    file = fopen(name, "r");
    assert_int_equal(fread(word, 1, 13, file), 13);
    fclose(file);
    assert_string_equal(word, "not a journal");
}

/* ---- damage ---- */

static void overwrite(const char *path, const char *find, char with)
{
    char name[400];
    FILE *file;
    char *bytes;
    size_t size;

    snprintf(name, sizeof(name), "%s/data.mdb", path);
    file = fopen(name, "r+");
    assert_non_null(file);
    bytes = malloc(4 << 20);
    size = fread(bytes, 1, 4 << 20, file);
    for (size_t i = 0; i + strlen(find) <= size; i++) {
        if (memcmp(bytes + i, find, strlen(find)) == 0) {
            fseek(file, (long)i, SEEK_SET);
            fputc(with, file);
        }
    }
    fclose(file);
    free(bytes);
}

static void a_damaged_record_is_passed_over_and_counted(void **state)
{
    struct fixture *fixture = *state;
    char ids[100];

    fixture_open(fixture);
    fixture_post(fixture, fixture_event("ev_1", "", "one", 5000));
    fixture_post(fixture, fixture_event("ev_2", "", "a-mark-to-find", 5000));
    fixture_post(fixture, fixture_event("ev_3", "", "three", 5000));
    fixture_close(fixture);
    overwrite(fixture->path, "a-mark-to-find", 'A');
    fixture_open(fixture);
    assert_int_equal(fixture_read_ids(fixture, 0, ids, sizeof(ids)), 2);
    assert_string_equal(ids, "ev_1 ev_3");
    assert_int_equal(fixture_numbers(fixture).damaged, 1);
    assert_int_equal(fixture_settle(fixture, 3), NOTE_STORED);
    assert_int_equal(fixture_post_id(fixture, "ev_4"), DELIVERY_ACCEPTED);
}

#define JOURNAL_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(events_are_kept_in_order_over_a_restart),
        JOURNAL_TEST(a_stored_event_is_the_event_byte_for_byte),
        JOURNAL_TEST(many_deliveries_at_once_are_all_stored_in_the_order_of_their_sender),
        JOURNAL_TEST(a_read_stops_at_its_limits_but_gives_one),
        JOURNAL_TEST(events_are_found_by_the_time_they_came),
        JOURNAL_TEST(a_redelivery_is_a_duplicate_also_after_a_restart),
        JOURNAL_TEST(copies_that_arrive_together_are_stored_once),
        JOURNAL_TEST(identity_is_account_id_and_date_and_other_bytes_are_published),
        JOURNAL_TEST(the_wall_clock_expires_nothing),
        JOURNAL_TEST(marks_expire_by_monotonic_time_counted_over_restarts),
        JOURNAL_TEST(marks_are_bounded_and_the_window_says_so),
        JOURNAL_TEST(another_retention_counts_at_once),
        JOURNAL_TEST(another_dedupe_window_counts_from_now_on),
        JOURNAL_TEST(delivered_events_go_when_their_retention_is_over),
        JOURNAL_TEST(a_full_journal_refuses_until_the_cursor_moves),
        JOURNAL_TEST(what_is_too_large_for_what_is_left_is_trouble_while_it_comes),
        JOURNAL_TEST(a_full_journal_still_knows_duplicates),
        JOURNAL_TEST(what_comes_after_a_refused_delivery_is_refused_with_it),
        JOURNAL_TEST(it_turns_over_many_times_at_the_edge_of_full),
        JOURNAL_TEST(a_second_instance_is_refused_with_the_process_in_the_way),
        JOURNAL_TEST(its_files_are_for_nobody_else),
        JOURNAL_TEST(links_and_open_folders_are_refused),
        JOURNAL_TEST(a_foreign_file_is_refused_and_left_alone),
        JOURNAL_TEST(a_damaged_record_is_passed_over_and_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
