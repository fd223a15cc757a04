#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

static struct note park_note(struct event *event, const char *topic, uint32_t nth)
{
    return (struct note){.kind = NOTE_PARK,
                         .publisher = "kafka",
                         .topic = topic,
                         .reason = "unknown_topic",
                         .event = event,
                         .seq = event->record->seq,
                         .nth = nth};
}

static struct event *stored_event(struct fixture *fixture, const char *id)
{
    struct event *event = fixture_event(id, "", id, 3000);

    event_ref(event);
    assert_int_equal(fixture_post(fixture, event), DELIVERY_ACCEPTED);
    return event;
}

struct topics {
    char text[300];
    int64_t first_ms;
};

static void collect_topic(void *context, const char *publisher, const char *topic, uint64_t count,
                          int64_t first_ms, const char *reason)
{
    struct topics *topics = context;

    sprintf(topics->text + strlen(topics->text), "%s/%s=%d:%s ", publisher, topic, (int)count,
            reason);
    topics->first_ms = first_ms;
}

static int read_parked(struct fixture *fixture, const char *topic, uint64_t after_seq,
                       uint32_t after_nth, struct letter *letters)
{
    struct letter_query query = {.publisher = "kafka",
                                 .topic = topic,
                                 .after_id = after_seq,
                                 .after_nth = after_nth,
                                 .max_count = 10,
                                 .max_bytes = 1 << 20};
    struct error err = {0};

    return journal_read_parked(fixture->reader, &query, letters, &err);
}

static int read_dead(struct fixture *fixture, uint64_t after_id, size_t max_count,
                     struct letter *letters)
{
    struct letter_query query = {
        .after_id = after_id, .max_count = max_count, .max_bytes = 1 << 20};
    struct error err = {0};
    uint64_t after;

    return journal_read_dead(fixture->reader, &query, letters, &after, &err);
}

static void parked_records_wait_in_order_and_outlive_their_event(void **state)
{
    struct fixture *fixture = *state;
    struct event *one;
    struct event *two;
    struct letter letters[10];
    struct topics topics = {.text = ""};
    struct error err = {0};
    int64_t parked_ms = atomic_load(&fixture->wall_ms);

    fixture_open(fixture);
    one = stored_event(fixture, "ev_1");
    two = stored_event(fixture, "ev_2");
    assert_int_equal(fixture_note(fixture, park_note(two, "leads", 0)), NOTE_STORED);
    assert_int_equal(fixture_note(fixture, park_note(one, "leads", 1)), NOTE_STORED);
    assert_int_equal(fixture_note(fixture, park_note(one, "leads", 0)), NOTE_STORED);
    assert_int_equal(fixture_note(fixture, park_note(two, "other", 0)), NOTE_STORED);
    atomic_fetch_add(&fixture->wall_ms, 1000);
    assert_int_equal(fixture_note(fixture, park_note(one, "leads", 0)), NOTE_STORED); /* again */
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    atomic_fetch_add(&fixture->monotonic_us, INT64_C(4000) * 1000000);
    fixture_reopen(fixture);
    fixture_post_id(fixture, "ev_3");
    assert_false(fixture_has_id(fixture, "ev_1"));

    assert_int_equal(read_parked(fixture, "leads", 0, 0, letters), 3);
    assert_int_equal(letters[0].id, 1);
    assert_int_equal(letters[0].nth, 0);
    assert_int_equal(letters[0].first_ms, parked_ms);
    assert_int_equal(letters[0].last_ms, parked_ms + 1000);
    assert_int_equal(letters[1].nth, 1);
    assert_int_equal(letters[2].id, 2);
    assert_string_equal(letters[2].publisher, "kafka");
    assert_string_equal(letters[2].topic, "leads");
    assert_string_equal(letters[2].reason, "unknown_topic");
    assert_memory_equal(letters[2].event->record, two->record, two->record->size);
    for (int i = 0; i < 3; i++)
        event_unref(letters[i].event);
    assert_int_equal(read_parked(fixture, "leads", 1, 0, letters), 2);
    assert_int_equal(letters[0].nth, 1);
    event_unref(letters[0].event);
    event_unref(letters[1].event);
    assert_int_equal(read_parked(fixture, "leads", 2, 0, letters), 0);
    assert_int_equal(read_parked(fixture, "lead", 0, 0, letters), 0);

    assert_int_equal(journal_visit_parked(fixture->reader, collect_topic, &topics, &err), 0);
    assert_non_null(strstr(topics.text, "kafka/leads=3:unknown_topic "));
    assert_non_null(strstr(topics.text, "kafka/other=1:unknown_topic "));
    assert_int_equal(topics.first_ms, parked_ms);

    assert_int_equal(fixture_note(fixture, (struct note){.kind = NOTE_UNPARK,
                                                         .publisher = "kafka",
                                                         .topic = "leads",
                                                         .seq = 1,
                                                         .nth = 0}),
                     NOTE_STORED);
    assert_int_equal(read_parked(fixture, "leads", 0, 0, letters), 2);
    event_unref(letters[0].event);
    event_unref(letters[1].event);
    event_unref(one);
    event_unref(two);
}

static void a_buried_record_leaves_the_list_and_keeps_its_first_date(void **state)
{
    struct fixture *fixture = *state;
    struct event *event;
    struct letter letters[10];
    struct note note;
    int64_t first_ms = atomic_load(&fixture->wall_ms);

    fixture_open(fixture);
    event = stored_event(fixture, "ev_1");
    assert_int_equal(fixture_note(fixture, park_note(event, "leads", 3)), NOTE_STORED);
    atomic_fetch_add(&fixture->wall_ms, 5000);
    note = park_note(event, "leads", 3);
    note.kind = NOTE_BURY;
    note.reason = "retry_for_is_over";
    note.was_parked = true;
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    note.was_parked = false;
    note.reason = "too_large";
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    fixture_reopen(fixture);
    assert_int_equal(read_parked(fixture, "leads", 0, 0, letters), 0);
    assert_int_equal(fixture_numbers(fixture).dead_count, 2);
    assert_int_equal(fixture_numbers(fixture).dead_tail, 2);
    assert_int_equal(read_dead(fixture, 0, 10, letters), 2);
    assert_int_equal(letters[0].id, 1);
    assert_int_equal(letters[0].nth, 3);
    assert_string_equal(letters[0].reason, "retry_for_is_over");
    assert_int_equal(letters[0].first_ms, first_ms);
    assert_int_equal(letters[0].last_ms, first_ms + 5000);
    assert_int_equal(letters[1].first_ms, first_ms + 5000);
    assert_memory_equal(letters[1].event->record, event->record, event->record->size);
    event_unref(letters[0].event);
    event_unref(letters[1].event);
    assert_int_equal(read_dead(fixture, 1, 10, letters), 1);
    assert_string_equal(letters[0].reason, "too_large");
    event_unref(letters[0].event);
    event_unref(event);
}

static void release(struct letter *letters, int count)
{
    for (int i = 0; i < count; i++)
        event_unref(letters[i].event);
}

static void a_dead_letter_is_renewed_in_its_place_or_dropped(void **state)
{
    struct fixture *fixture = *state;
    int64_t first_ms = atomic_load(&fixture->wall_ms);
    struct letter letters[10];
    struct event *event;
    struct note note;

    fixture_open(fixture);
    event = stored_event(fixture, "ev_1");
    note = park_note(event, "leads", 2);
    note.kind = NOTE_BURY;
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    atomic_fetch_add(&fixture->wall_ms, 7000);
    note.kind = NOTE_REBURY;
    note.letter = 1;
    note.topic = "people";
    note.reason = "too_large";
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    note.letter = 3;
    assert_int_equal(fixture_note(fixture, note), NOTE_ABSENT);
    fixture_reopen(fixture);
    assert_int_equal(read_dead(fixture, 0, 10, letters), 2);
    assert_int_equal(letters[0].id, 1);
    assert_int_equal(letters[0].nth, 2);
    assert_string_equal(letters[0].topic, "people");
    assert_string_equal(letters[0].reason, "too_large");
    assert_int_equal(letters[0].first_ms, first_ms);
    assert_int_equal(letters[0].last_ms, first_ms + 7000);
    assert_memory_equal(letters[0].event->record, event->record, event->record->size);
    assert_string_equal(letters[1].reason, "unknown_topic");
    release(letters, 2);

    note = (struct note){.kind = NOTE_DROP, .letter = 2};
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    assert_int_equal(fixture_note(fixture, note), NOTE_ABSENT);
    fixture_reopen(fixture);
    assert_int_equal(fixture_numbers(fixture).dead_count, 1);
    note = park_note(event, "leads", 0);
    note.kind = NOTE_BURY;
    assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    assert_int_equal(read_dead(fixture, 1, 10, letters), 1);
    assert_int_equal(letters[0].id, 3); /* a number is used once, also after a restart */
    release(letters, 1);
    event_unref(event);
}

static void dead_letters_are_read_in_pages_and_by_what_they_are(void **state)
{
    struct fixture *fixture = *state;
    struct letter_query query = {.max_count = 10, .max_bytes = 7000};
    struct letter letters[10];
    struct error err = {0};
    struct event *event;
    struct note note;
    uint64_t after;

    fixture_open(fixture);
    event = stored_event(fixture, "ev_1"); /* some 3,200 bytes */
    for (uint32_t i = 0; i < 6; i++) {
        note = park_note(event, i % 2 ? "odd" : "even", i);
        note.kind = NOTE_BURY;
        note.reason = i < 4 ? "too_large" : "unrouted";
        assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    }
    assert_int_equal(journal_read_dead(fixture->reader, &query, letters, &after, &err), 2);
    assert_int_equal(after, 2);
    release(letters, 2);
    query.after_id = after;
    query.topic = "odd";
    assert_int_equal(journal_read_dead(fixture->reader, &query, letters, &after, &err), 2);
    assert_int_equal(letters[1].id, 6);
    assert_int_equal(after, UINT64_MAX);
    release(letters, 2);
    query = (struct letter_query){.reason = "unrouted", .max_count = 1, .max_bytes = 1};
    assert_int_equal(journal_read_dead(fixture->reader, &query, letters, &after, &err), 1);
    assert_int_equal(letters[0].id, 5);
    assert_int_equal(after, 5);
    release(letters, 1);
    query = (struct letter_query){.publisher = "mqtt", .max_count = 1, .max_bytes = 1};
    assert_int_equal(journal_read_dead(fixture->reader, &query, letters, &after, &err), 0);
    assert_int_equal(after, UINT64_MAX);
    query = (struct letter_query){.after_id = UINT64_MAX, .max_count = 1, .max_bytes = 1};
    assert_int_equal(journal_read_dead(fixture->reader, &query, letters, &after, &err), 0);
    event_unref(event);
}

static void what_is_not_an_event_becomes_a_dead_letter_once(void **state)
{
    struct fixture *fixture = *state;
    struct letter letter;

    fixture_open(fixture);
    assert_int_equal(fixture_post(fixture, fixture_opaque("[1,2")), DELIVERY_DEAD_LETTERED);
    assert_int_equal(fixture_post(fixture, fixture_opaque("[1,2")), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_post(fixture, fixture_opaque("[1,3")), DELIVERY_DEAD_LETTERED);
    fixture_reopen(fixture);
    assert_int_equal(fixture_post(fixture, fixture_opaque("[1,2")), DELIVERY_DUPLICATE);
    assert_int_equal(fixture_count(fixture), 0);
    assert_int_equal(fixture_numbers(fixture).dead_count, 2);
    assert_int_equal(read_dead(fixture, 0, 1, &letter), 1);
    assert_string_equal(letter.publisher, "webhook");
    assert_string_equal(letter.reason, "not_an_event");
    assert_true(text_equal_string(event_text(letter.event, EVENT_BODY), "[1,2"));
    event_unref(letter.event);
}

static void the_store_for_dead_letters_is_bounded_and_never_evicts(void **state)
{
    struct fixture *fixture = *state;
    struct event *event;
    struct note note;
    uint64_t buried = 0;

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    event = stored_event(fixture, "ev_1");
    note = park_note(event, "leads", 0);
    note.kind = NOTE_BURY;
    while (fixture_note(fixture, note) == NOTE_STORED)
        assert_true(++buried < 1000);
    assert_in_range(buried, 400, 512); /* a quarter of 8 MiB in pages of 4 KiB */
    assert_int_equal(fixture_note(fixture, note), NOTE_FULL);
    assert_int_equal(fixture_numbers(fixture).dead_count, buried);
    assert_int_equal(fixture_post(fixture, fixture_opaque("x")), DELIVERY_UNAVAILABLE);
    assert_int_equal(fixture_post_id(fixture, "ev_2"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_settle(fixture, 2), NOTE_STORED);
    event_unref(event);
}

static void notes_go_on_while_the_journal_is_full_of_events(void **state)
{
    struct fixture *fixture = *state;
    struct event *event;
    struct note note;

    fixture->options.max_size = 8 << 20;
    fixture_open(fixture);
    event = stored_event(fixture, "ev_1");
    fixture_fill(fixture, "x", 6000);
    note = park_note(event, "leads", 0);
    for (uint32_t i = 0; i < 300; i++) {
        note.kind = i % 2 ? NOTE_PARK : NOTE_BURY;
        note.nth = i;
        assert_int_equal(fixture_note(fixture, note), NOTE_STORED);
    }
    assert_int_equal(fixture_settle(fixture, 1), NOTE_STORED);
    event_unref(event);
}

#define LETTER_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LETTER_TEST(parked_records_wait_in_order_and_outlive_their_event),
        LETTER_TEST(a_buried_record_leaves_the_list_and_keeps_its_first_date),
        LETTER_TEST(a_dead_letter_is_renewed_in_its_place_or_dropped),
        LETTER_TEST(dead_letters_are_read_in_pages_and_by_what_they_are),
        LETTER_TEST(what_is_not_an_event_becomes_a_dead_letter_once),
        LETTER_TEST(the_store_for_dead_letters_is_bounded_and_never_evicts),
        LETTER_TEST(notes_go_on_while_the_journal_is_full_of_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
