#include <fcntl.h>
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
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

enum { PAGE = 4096 };

/* ---- the file ---- */

static void path_of(const struct fixture *fixture, const char *name, char out[400])
{
    snprintf(out, 400, "%s/%s", fixture->path, name);
}

static unsigned char *read_data(const struct fixture *fixture, size_t *out_size)
{
    unsigned char *bytes;
    struct stat st;
    char name[400];
    int fd;

    path_of(fixture, "data.mdb", name);
    fd = open(name, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *out_size = (size_t)st.st_size;
    return bytes;
}

static void write_data(const struct fixture *fixture, const unsigned char *bytes, size_t size)
{
    char name[400];
    int fd;

    path_of(fixture, "data.mdb", name);
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, 0), (ssize_t)size);
    close(fd);
    path_of(fixture, "lock.mdb", name);
    unlink(name);
}

/* Where a text first stands in the file. */
static size_t find_text(const unsigned char *bytes, size_t size, const char *text)
{
    const unsigned char *at = memmem(bytes, size, text, strlen(text));

    assert_non_null(at);
    return (size_t)(at - bytes);
}

/* ---- verify and salvage ---- */

static struct verify_report verify(const struct fixture *fixture, bool reads_all)
{
    struct verify_report report;
    struct error err = {0};

    if (journal_verify(fixture->path, reads_all, &report, &err) != 1)
        fail_msg("%s", err.message);
    return report;
}

static struct salvage_report salvage(const struct fixture *fixture)
{
    struct salvage_report report;
    struct error err = {0};
    char name[400];

    if (journal_salvage(fixture->path, &fixture->clock, &report, &err) != 1)
        fail_msg("%s", err.message);
    if (report.set_aside[0]) {
        path_of(fixture, report.set_aside, name);
        assert_int_equal(access(name, F_OK), 0);
    }
    return report;
}

static void assert_sound(const struct fixture *fixture)
{
    struct verify_report report = verify(fixture, true);

    if (!report.is_sound)
        fail_msg("%s", report.first_problem);
}

/* ---- a journal with something of everything ---- */

static struct event *stored_event(struct fixture *fixture, const char *id, size_t size)
{
    struct event *event = fixture_event(id, "2024", id, size);

    event_ref(event);
    assert_int_equal(fixture_post(fixture, event), DELIVERY_ACCEPTED);
    return event;
}

static void store_letter(struct fixture *fixture, enum note_kind kind, struct event *event,
                         const char *topic)
{
    assert_int_equal(fixture_note(fixture, (struct note){.kind = kind,
                                                         .publisher = "kafka",
                                                         .topic = topic,
                                                         .reason = "unknown_topic",
                                                         .event = event,
                                                         .seq = event->record->seq}),
                     NOTE_STORED);
}

/*
 * 40 events, small and large, the last 16 of them in one commit; 10 are settled, one parked, one
 * dead, and a body is no event.
 */
static void fill(struct fixture *fixture)
{
    struct event *together[16];
    char id[32];

    fixture_open(fixture);
    for (int i = 1; i <= 40; i++) {
        struct event *event;

        snprintf(id, sizeof(id), "ev_%02d", i);
        if (i > 24) {
            together[i - 25] = fixture_event(id, "2024", id, i % 3 ? 600 : 6000);
            continue;
        }
        event = stored_event(fixture, id, i % 3 ? 600 : 6000);
        if (i == 3)
            store_letter(fixture, NOTE_PARK, event, "leads");
        if (i == 4)
            store_letter(fixture, NOTE_BURY, event, "leads");
        event_unref(event);
        atomic_fetch_add(&fixture->monotonic_us, 1000000);
    }
    fixture_close(fixture);
    fixture_open_with_waiting(fixture, together, 16);
    assert_int_equal(fixture_post(fixture, fixture_opaque("no event")), DELIVERY_DEAD_LETTERED);
    assert_int_equal(fixture_settle(fixture, 10), NOTE_STORED);
    fixture_close(fixture);
}

static void count_topic(void *context, const char *publisher, const char *topic, uint64_t count,
                        int64_t first_ms, const char *reason)
{
    uint64_t *total = context;

    (void)publisher;
    (void)topic;
    (void)first_ms;
    (void)reason;
    *total += count;
}

static void take_cursor(void *context, const char *publisher, uint64_t seq)
{
    (void)publisher;
    *(uint64_t *)context = seq;
}

static uint64_t cursor_of(struct fixture *fixture)
{
    uint64_t seq = 0;

    journal_visit_cursors(fixture->journal, take_cursor, &seq);
    return seq;
}

static uint64_t count_parked(struct fixture *fixture)
{
    struct error err = {0};
    uint64_t total = 0;

    assert_int_equal(journal_visit_parked(fixture->reader, count_topic, &total, &err), 0);
    return total;
}

/* ---- tests ---- */

static void a_journal_that_turned_over_is_sound(void **state)
{
    struct fixture *fixture = *state;
    char id[32];

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    for (uint64_t i = 1; i <= 4000; i++) {
        snprintf(id, sizeof(id), "ev_%d", (int)i);
        event_unref(stored_event(fixture, id, (size_t)(i * 7919 % 9000)));
        if (i % 50 == 0)
            assert_int_equal(fixture_settle(fixture, i - 10), NOTE_STORED);
        if (i % 97 == 0) {
            struct event *event;

            snprintf(id, sizeof(id), "ev_%d", (int)++i);
            event = stored_event(fixture, id, i);
            store_letter(fixture, i % 2 ? NOTE_PARK : NOTE_BURY, event, "topic");
            event_unref(event);
        }
    }
    fixture_close(fixture);
    assert_sound(fixture);
}

static void salvage_keeps_everything_of_a_sound_journal(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;

    fill(fixture);
    report = salvage(fixture);
    assert_int_equal(report.events, 40);
    assert_int_equal(report.to_publish, 30);
    assert_int_equal(report.lost, 0);
    assert_int_equal(report.parked, 1);
    assert_int_equal(report.dead, 2);
    assert_int_equal(report.marks, 41);
    assert_int_equal(report.cursors, 1);
    assert_true(report.are_cursors_known && report.is_whole);
    assert_sound(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_count(fixture), 40);
    assert_int_equal(cursor_of(fixture), 10);
    assert_int_equal(count_parked(fixture), 1);
    assert_int_equal(fixture_numbers(fixture).dead_count, 2);
    assert_int_equal(fixture_post(fixture, fixture_event("ev_07", "2024", "ev_07", 600)),
                     DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_numbers(fixture).tail, 41);
}

static void a_lost_event_can_be_delivered_again_and_others_are_known(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    unsigned char *bytes;
    size_t size;
    size_t at;

    fill(fixture);
    bytes = read_data(fixture, &size);
    at = find_text(bytes, size, "ev_3020"); /* id and date of the thirtieth, in a page of its own */
    bytes[at] ^= 1;
    write_data(fixture, bytes, size);
    free(bytes);
    assert_true(verify(fixture, false).is_sound); /* the pages are */
    assert_false(verify(fixture, true).is_sound);
    report = salvage(fixture);
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

static void without_its_cursors_a_publisher_begins_with_the_oldest_event(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    unsigned char *bytes;
    size_t size;

    fill(fixture);
    bytes = read_data(fixture, &size);
    for (size_t at = 0; at + 4 <= size; at++) {
        if (memcmp(bytes + at, "CBC1", 4) == 0)
            bytes[at + 16] ^= 1; /* every version of the cursor */
    }
    write_data(fixture, bytes, size);
    free(bytes);
    assert_false(verify(fixture, false).is_sound);
    report = salvage(fixture);
    assert_false(report.are_cursors_known);
    assert_int_equal(report.to_publish, 40);
    fixture_open(fixture); /* makes a cursor for kafka */
    fixture_reopen(fixture);
    assert_int_equal(cursor_of(fixture), 0);
}

static void what_is_no_journal_is_put_aside_or_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct salvage_report report;
    struct verify_report verified;
    unsigned char *bytes = malloc(100000);

    assert_int_equal(journal_verify(fixture->path, true, &verified, NULL), 0);
    assert_int_equal(journal_salvage(fixture->path, &fixture->clock, &report, NULL), 0);
    assert_non_null(bytes);
    for (size_t i = 0; i < 100000; i++)
        bytes[i] = (unsigned char)(i * i >> 3);
    write_data(fixture, bytes, 100000);
    assert_false(verify(fixture, false).is_sound);
    report = salvage(fixture);
    assert_string_equal(report.set_aside, "data.mdb.damaged-20231114T221320Z");
    assert_int_equal(report.events, 0);
    write_data(fixture, bytes, 0);
    assert_false(verify(fixture, false).is_sound);
    report = salvage(fixture);
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

    fill(fixture);
    path_of(fixture, "data.mdb", data);
    path_of(fixture, "data.mdb.salvaged", whole);
    path_of(fixture, "salvage", folder);
    assert_int_equal(mkdir(folder, 0700), 0); /* it was killed while it built */
    report = salvage(fixture);
    assert_int_equal(report.events, 40);
    assert_int_equal(rename(data, whole), 0); /* ... and before the last rename */
    assert_false(verify(fixture, false).is_sound);
    report = salvage(fixture);
    assert_string_equal(report.set_aside, "");
    assert_sound(fixture);
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
    bytes = read_data(fixture, &size);
    write_data(fixture, bytes, size);
    free(bytes);
    assert_false(store_is_clean(fixture->path)); /* somebody wrote to it */
}

/* Opens what a start would open, and checks that nothing sound is missing. */
static void check_recovery(struct fixture *fixture, const bool intact[41])
{
    char ids[41 * 8] = "";
    char id[8];

    fixture_open(fixture);
    fixture_read_ids(fixture, cursor_of(fixture) + 1, ids, sizeof(ids));
    for (int i = 11; i <= 40; i++) {
        snprintf(id, sizeof(id), "ev_%02d", i);
        if (intact[i] && !strstr(ids, id))
            fail_msg("%s is lost; there are: %s", id, ids);
    }
    assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    assert_true(verify(fixture, false).is_sound);
}

static void start_again(struct fixture *fixture, const unsigned char *bytes, size_t size)
{
    char command[600];

    snprintf(command, sizeof(command), "rm -rf '%s'/*", fixture->path);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
    write_data(fixture, bytes, size);
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
    is_sound = verify(fixture, false).is_sound; /* a damaged record alone is passed over */
    if (!is_sound)
        salvage(fixture);
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

    fill(fixture);
    bytes = read_data(fixture, &size);
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

    fill(fixture);
    bytes = read_data(fixture, &size);
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
    bytes = read_data(fixture, &size);
    for (size_t at = 0; at + NAME + 48 <= size; at++) {
        if (memcmp(bytes + at, "parked", NAME) != 0)
            continue;
        bytes[at + NAME + LEAF_PAGES + 2] ^= 1;
        start_again(fixture, bytes, size);
        bytes[at + NAME + LEAF_PAGES + 2] ^= 1;
        if (!verify(fixture, false).is_sound) {
            unsound++;
            salvage(fixture);
        }
        fixture_open(fixture);
        assert_int_equal(fixture_post_id(fixture, "new"), DELIVERY_ACCEPTED);
        fixture_close(fixture);
    }
    free(bytes);
    assert_true(unsound > 0);
}

static void wherever_the_file_is_cut_what_is_sound_is_kept(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes;
    bool intact[41];
    size_t size;

    fill(fixture);
    bytes = read_data(fixture, &size);
    for (size_t cut = 0; cut < size && cut < 80 * (size_t)PAGE; cut += 1777) {
        start_again(fixture, bytes, cut);
        if (!verify(fixture, false).is_sound)
            salvage(fixture);
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
        SALVAGE_TEST(a_lost_event_can_be_delivered_again_and_others_are_known),
        SALVAGE_TEST(without_its_cursors_a_publisher_begins_with_the_oldest_event),
        SALVAGE_TEST(what_is_no_journal_is_put_aside_or_left_alone),
        SALVAGE_TEST(an_interrupted_salvage_is_finished),
        SALVAGE_TEST(it_is_verified_unless_it_was_closed_in_order),
        SALVAGE_TEST(whatever_page_is_damaged_what_is_sound_is_kept),
        SALVAGE_TEST(a_wrong_count_of_an_empty_tree_is_noticed),
        SALVAGE_TEST(a_wrong_bit_in_a_key_costs_nothing),
        SALVAGE_TEST(wherever_the_file_is_cut_what_is_sound_is_kept),
    };

    /* Some hundred journals are made and synced: in memory, where there is such a folder. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
