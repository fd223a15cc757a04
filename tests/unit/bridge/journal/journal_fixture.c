#include "tests/unit/bridge/journal/journal_fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "schemas/event.h"

static int64_t fake_monotonic_us(const struct clock *self)
{
    return atomic_load(&container_of(self, struct fixture, clock)->monotonic_us);
}

static int64_t fake_wall_ms(const struct clock *self)
{
    return atomic_load(&container_of(self, struct fixture, clock)->wall_ms);
}

static void remove_files(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        char name[600];

        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(name);
    }
    closedir(dir);
    rmdir(path);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    const char *folder = getenv("TMPDIR");

    assert_non_null(fixture);
    snprintf(fixture->path, sizeof(fixture->path), "%s/journal-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(fixture->path));
    fixture->options = (struct journal_options){
        .path = fixture->path,
        .max_size = UINT64_C(64) << 20,
        .retention_ms = 3600 * 1000,
        .dedupe_window_ms = 7200 * 1000,
        .dedupe_max = 100000,
    };
    fixture->clock = (struct clock){fake_monotonic_us, fake_wall_ms};
    atomic_init(&fixture->monotonic_us, 5000000);
    atomic_init(&fixture->wall_ms, INT64_C(1700000000000));
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;

    fixture_close(fixture);
    remove_files(fixture->path);
    free(fixture);
    return 0;
}

static void remember_stored(void *context, struct event *const *events, size_t count)
{
    struct fixture *fixture = context;
    size_t at = atomic_load(&fixture->stored_count);

    for (size_t i = 0; i < count && at < FIXTURE_STORED_MAX; i++)
        fixture->stored[at++] = events[i]->record->seq;
    atomic_store(&fixture->stored_count, at);
}

static void open_only(struct fixture *fixture, const struct clock *clock)
{
    struct error err = {0};
    uint64_t seq;

    fixture->journal = journal_open(&fixture->options, clock, &err);
    if (!fixture->journal)
        fail_msg("%s", err.message);
    assert_int_equal(journal_open_cursor(fixture->journal, "kafka", &seq, &err), 0);
    fixture->reader = journal_reader_open(fixture->journal, &err);
    assert_non_null(fixture->reader);
}

static void start_writer(struct fixture *fixture)
{
    struct error err = {0};

    assert_int_equal(journal_start(fixture->journal, remember_stored, fixture, &err), 0);
}

void fixture_open_with(struct fixture *fixture, const struct clock *clock)
{
    open_only(fixture, clock);
    start_writer(fixture);
}

void fixture_open_with_waiting(struct fixture *fixture, struct event *const *events, size_t count)
{
    struct post *posts = calloc(count, sizeof(*posts));

    assert_non_null(posts);
    open_only(fixture, &fixture->clock);
    for (size_t i = 0; i < count; i++)
        fixture_send(fixture, &posts[i], events[i]);
    start_writer(fixture);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(fixture_wait(&posts[i]), DELIVERY_ACCEPTED);
    free(posts);
}

void fixture_open(struct fixture *fixture)
{
    fixture_open_with(fixture, &fixture->clock);
}

void fixture_close(struct fixture *fixture)
{
    journal_reader_close(fixture->reader);
    journal_close(fixture->journal);
    fixture->reader = NULL;
    fixture->journal = NULL;
}

void fixture_reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

struct event *fixture_event(const char *id, const char *date_updated, const char *object,
                            size_t body_size)
{
    struct event_origin origin = {.account = text_of("main"), .received_ms = 1700000000000};
    char *body = malloc(body_size + 1);
    struct event *event;

    assert_non_null(body);
    memset(body, 'b', body_size);
    event = event_new(&origin, (struct text){body, body_size}, 64);
    free(body);
    assert_non_null(event);
    assert_true(event_add_field(event, EVENT_ID, text_of(id)));
    assert_true(event_add_field(event, EVENT_DATE_UPDATED, text_of(date_updated)));
    assert_true(event_add_field(event, EVENT_OBJECT, text_of(object)));
    return event;
}

struct event *fixture_opaque(const char *body)
{
    struct event_origin origin = {.account = text_of("main"), .flags = EVENT_IS_OPAQUE};
    struct event *event = event_new(&origin, text_of(body), 0);

    assert_non_null(event);
    return event;
}

static void delivery_done(struct delivery *delivery)
{
    sem_post(&container_of(delivery, struct post, delivery)->answered);
}

void fixture_send_after(struct fixture *fixture, struct post *post, const struct delivery *before,
                        struct event *event)
{
    struct intake *intake = journal_intake(fixture->journal);

    sem_init(&post->answered, 0, 0);
    post->delivery = (struct delivery){.event = event, .after = before, .done = delivery_done};
    intake->identify(intake, event);
    intake->accept(intake, &post->delivery);
}

void fixture_send(struct fixture *fixture, struct post *post, struct event *event)
{
    fixture_send_after(fixture, post, NULL, event);
}

static void wait_for(sem_t *semaphore)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 30;
    assert_int_equal(sem_timedwait(semaphore, &deadline), 0);
    sem_destroy(semaphore);
}

enum delivery_outcome fixture_wait(struct post *post)
{
    wait_for(&post->answered);
    event_unref(post->delivery.event);
    return post->delivery.outcome;
}

enum delivery_outcome fixture_post(struct fixture *fixture, struct event *event)
{
    struct post post;

    fixture_send(fixture, &post, event);
    return fixture_wait(&post);
}

enum delivery_outcome fixture_post_id(struct fixture *fixture, const char *id)
{
    return fixture_post(fixture, fixture_event(id, "2024-01-01", id, 600));
}

size_t fixture_fill(struct fixture *fixture, const char *prefix, size_t body_size)
{
    char id[32];

    for (size_t i = 0; i < FIXTURE_STORED_MAX; i++) {
        snprintf(id, sizeof(id), "%s%zu", prefix, i);
        if (fixture_post(fixture, fixture_event(id, "", id, body_size)) != DELIVERY_ACCEPTED)
            return i;
    }
    fail_msg("the journal never became full");
    return 0;
}

struct waited_note {
    struct note note;
    sem_t done;
};

static void note_done(struct note *note)
{
    sem_post(&container_of(note, struct waited_note, note)->done);
}

enum note_result fixture_note(struct fixture *fixture, struct note note)
{
    struct waited_note waited = {.note = note};

    sem_init(&waited.done, 0, 0);
    waited.note.done = note_done;
    journal_note(fixture->journal, &waited.note);
    wait_for(&waited.done);
    return waited.note.result;
}

enum note_result fixture_settle(struct fixture *fixture, uint64_t seq)
{
    return fixture_note(fixture,
                        (struct note){.kind = NOTE_CURSOR, .publisher = "kafka", .seq = seq});
}

size_t fixture_read_ids(struct fixture *fixture, uint64_t from_seq, char *out, size_t capacity)
{
    struct event *events[100];
    struct error err = {0};
    size_t total = 0;
    size_t used = 0;
    int count;

    if (capacity)
        out[0] = '\0';
    while ((count = journal_read(fixture->reader, from_seq, 100, 1 << 20, events, &err)) > 0) {
        for (int i = 0; i < count; i++) {
            struct text id = event_text(events[i], EVENT_ID);

            assert_true(events[i]->record->seq >= from_seq);
            from_seq = events[i]->record->seq + 1;
            if (used < capacity)
                used += (size_t)snprintf(out + used, capacity - used, "%s%.*s", used ? " " : "",
                                         (int)id.size, id.data);
            event_unref(events[i]);
        }
        total += (size_t)count;
    }
    if (count < 0)
        fail_msg("%s", err.message);
    return total;
}

size_t fixture_count(struct fixture *fixture)
{
    return fixture_read_ids(fixture, 0, NULL, 0);
}

bool fixture_has_id(struct fixture *fixture, const char *id)
{
    struct event *event = NULL;
    struct error err = {0};
    uint64_t seq = 0;
    bool found = false;

    while (!found && journal_read(fixture->reader, seq, 1, 1, &event, &err) > 0) {
        seq = event->record->seq + 1;
        found = text_equal_string(event_text(event, EVENT_ID), id);
        event_unref(event);
    }
    return found;
}

struct journal_numbers fixture_numbers(struct fixture *fixture)
{
    struct journal_numbers numbers;

    journal_numbers(fixture->journal, &numbers);
    return numbers;
}

bool fixture_until(struct fixture *fixture, bool (*is_so)(struct fixture *fixture))
{
    for (int i = 0; i < 10000; i++) {
        if (is_so(fixture))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}
