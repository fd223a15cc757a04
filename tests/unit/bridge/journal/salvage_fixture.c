#include "tests/unit/bridge/journal/salvage_fixture.h"

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
#include "schemas/event.h"

/* ---- the file ---- */

void salvage_path(const struct fixture *fixture, const char *name, char out[400])
{
    snprintf(out, 400, "%s/%s", fixture->path, name);
}

unsigned char *salvage_read(const struct fixture *fixture, size_t *out_size)
{
    unsigned char *bytes;
    struct stat st;
    char name[400];
    int fd;

    salvage_path(fixture, "data.mdb", name);
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

void salvage_write(const struct fixture *fixture, const unsigned char *bytes, size_t size)
{
    char name[400];
    int fd;

    salvage_path(fixture, "data.mdb", name);
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, 0), (ssize_t)size);
    close(fd);
    salvage_path(fixture, "lock.mdb", name);
    unlink(name);
}

size_t salvage_find(const unsigned char *bytes, size_t size, const char *text)
{
    const unsigned char *at = memmem(bytes, size, text, strlen(text));

    assert_non_null(at);
    return (size_t)(at - bytes);
}

/* ---- verify and salvage ---- */

struct verify_report salvage_verify(const struct fixture *fixture, enum verify_depth depth)
{
    struct verify_report report;
    struct error err = {0};

    if (journal_verify(fixture->path, depth, &report, &err) != 1)
        fail_msg("%s", err.message);
    return report;
}

struct salvage_report salvage_run(const struct fixture *fixture)
{
    struct salvage_report report;
    struct error err = {0};
    char name[400];

    if (journal_salvage(fixture->path, &fixture->clock, &report, &err) != 1)
        fail_msg("%s", err.message);
    if (report.set_aside[0]) {
        salvage_path(fixture, report.set_aside, name);
        assert_int_equal(access(name, F_OK), 0);
    }
    return report;
}

void salvage_assert_sound(const struct fixture *fixture)
{
    struct verify_report report = salvage_verify(fixture, VERIFY_ALL);

    if (!report.is_sound)
        fail_msg("%s", report.first_problem);
}

/* ---- a journal with something of everything ---- */

struct event *salvage_store(struct fixture *fixture, const char *id, size_t size)
{
    struct event *event = fixture_event(id, "2024", id, size);

    event_ref(event);
    assert_int_equal(fixture_post(fixture, event), DELIVERY_ACCEPTED);
    return event;
}

void salvage_store_letter(struct fixture *fixture, enum note_kind kind, struct event *event,
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

void salvage_fill(struct fixture *fixture)
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
        event = salvage_store(fixture, id, i % 3 ? 600 : 6000);
        if (i == 3)
            salvage_store_letter(fixture, NOTE_PARK, event, "leads");
        if (i == 4)
            salvage_store_letter(fixture, NOTE_BURY, event, "leads");
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

uint64_t salvage_cursor(struct fixture *fixture)
{
    uint64_t seq = 0;

    journal_visit_cursors(fixture->journal, take_cursor, &seq);
    return seq;
}

uint64_t salvage_parked(struct fixture *fixture)
{
    struct error err = {0};
    uint64_t total = 0;

    assert_int_equal(journal_visit_parked(fixture->reader, count_topic, &total, &err), 0);
    return total;
}
