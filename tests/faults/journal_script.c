/*
 * Runs the script on a journal, under shim.so.
 *
 *     journal_script FOLDER SEED EVENTS    FOLDER/journal is made
 *     journal_script FOLDER --recover      only opens it and stores two events more
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "schemas/event.h"
#include "tests/faults/script.h"
#include "tests/faults/shim.h"

extern __typeof__(shim_mark) shim_mark __attribute__((weak));

enum { MAX_EVENTS = 100000, AT_ONCE = 4, MAX_PARKED = 12 };

struct run {
    struct journal_options options;
    struct journal *journal;
    struct journal_reader *reader;
    uint64_t random;
    size_t posted;
    uint64_t settled;                 /* everything up to this seq is settled for the publisher */
    size_t number_at[MAX_EVENTS + 1]; /* by seq: which event that is */
    uint64_t last_seq;
    struct event *parked[MAX_PARKED];
    size_t parked_count;
};

static size_t choose(struct run *run, size_t n)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return (size_t)(run->random % n);
}

static void fail(const char *what)
{
    fprintf(stderr, "journal_script: %s\n", what);
    exit(EXIT_FAILURE);
}

static void mark_delivered(size_t number)
{
    char text[32];

    snprintf(text, sizeof(text), "D %zu", number);
    if (shim_mark)
        shim_mark(text);
}

static void remember_stored(void *context, struct event *const *events, size_t count)
{
    struct run *run = context; /* the main thread waits for the answers meanwhile */

    for (size_t i = 0; i < count; i++) {
        run->last_seq = events[i]->record->seq;
        run->number_at[run->last_seq] = script_number(events[i]);
    }
}

static void open_journal(struct run *run)
{
    struct error err = {0};
    uint64_t seq;

    run->journal = journal_open(&run->options, &clock_system, &err);
    if (!run->journal || journal_open_cursor(run->journal, SCRIPT_PUBLISHER, &seq, &err) < 0)
        fail(err.message);
    run->reader = journal_reader_open(run->journal, &err);
    if (!run->reader || journal_start(run->journal, remember_stored, run, &err) < 0)
        fail(err.message);
}

static void close_journal(struct run *run)
{
    journal_reader_close(run->reader);
    journal_close(run->journal);
}

static void post(struct run *run, size_t events)
{
    struct script_post posts[AT_ONCE];
    size_t count = 1 + choose(run, AT_ONCE);

    if (count > events - run->posted)
        count = events - run->posted;
    for (size_t i = 0; i < count; i++)
        script_post(run->journal, &posts[i], run->posted++, true);
    for (size_t i = 0; i < count; i++) {
        if (script_wait(&posts[i]) == DELIVERY_UNAVAILABLE)
            fail(posts[i].delivery.reason);
    }
}

static void save_cursor(struct run *run)
{
    struct note note = {.kind = NOTE_CURSOR, .publisher = SCRIPT_PUBLISHER, .seq = run->settled};

    if (script_note(run->journal, note) != NOTE_STORED)
        fail("a cursor was not stored");
}

static void settle(struct run *run)
{
    uint64_t to = run->settled + choose(run, (size_t)(run->last_seq - run->settled) + 1);

    while (run->settled < to)
        mark_delivered(run->number_at[++run->settled]);
    save_cursor(run);
}

static struct note letter_note(enum note_kind kind, struct event *event, bool was_parked)
{
    return (struct note){.kind = kind,
                         .publisher = SCRIPT_PUBLISHER,
                         .topic = "leads",
                         .reason = "unknown_topic",
                         .event = event,
                         .seq = event->record->seq,
                         .was_parked = was_parked};
}

/* The next event in order, which is settled by being parked or dead. */
static void park_or_bury(struct run *run)
{
    enum note_kind kind = choose(run, 3) ? NOTE_PARK : NOTE_BURY;
    struct event *event;
    struct error err;

    if (run->settled == run->last_seq || run->parked_count == MAX_PARKED ||
        journal_read(run->reader, run->settled + 1, 1, 1, &event, &err) != 1)
        return;
    if (script_note(run->journal, letter_note(kind, event, false)) != NOTE_STORED)
        fail("a letter was not stored");
    if (kind == NOTE_PARK)
        run->parked[run->parked_count++] = event_ref(event);
    event_unref(event);
    run->settled++;
    save_cursor(run);
}

/* The oldest parked record is delivered after all, or dies. */
static void end_parking(struct run *run)
{
    enum note_kind kind = choose(run, 3) ? NOTE_UNPARK : NOTE_BURY;
    struct event *event = run->parked[0];

    if (run->parked_count == 0)
        return;
    if (kind == NOTE_UNPARK)
        mark_delivered(script_number(event));
    if (script_note(run->journal, letter_note(kind, event, true)) != NOTE_STORED)
        fail("a letter was not stored");
    event_unref(event);
    memmove(run->parked, run->parked + 1, --run->parked_count * sizeof(*run->parked));
}

static void step(struct run *run, size_t events)
{
    switch (choose(run, 12)) {
    case 0:
    case 1:
        settle(run);
        break;
    case 2:
        park_or_bury(run);
        break;
    case 3:
        end_parking(run);
        break;
    case 4:
        if (choose(run, 16) == 0) {
            close_journal(run);
            open_journal(run);
        }
        break;
    default:
        post(run, events);
    }
}

/* Not numbers of the script: they are in nobody's way. */
static void recover(struct run *run)
{
    open_journal(run);
    run->posted = MAX_EVENTS - AT_ONCE;
    post(run, MAX_EVENTS);
    close_journal(run);
}

int main(int argc, char **argv)
{
    static struct run run;
    char path[4096];
    size_t events;

    if (argc < 3)
        fail("usage: journal_script FOLDER (SEED EVENTS | --recover)");
    log_configure(LOG_ERROR, LOG_LOGFMT);
    snprintf(path, sizeof(path), "%s/journal", argv[1]);
    run.options = script_options(path);
    if (argc == 3) {
        recover(&run);
        return EXIT_SUCCESS;
    }
    run.random = strtoull(argv[2], NULL, 10) * 2 + 1;
    events = strtoul(argv[3], NULL, 10);
    open_journal(&run);
    while (run.posted < events)
        step(&run, events);
    close_journal(&run);
    while (run.parked_count)
        event_unref(run.parked[--run.parked_count]);
    return EXIT_SUCCESS;
}
