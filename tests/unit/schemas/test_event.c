#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "schemas/event.h"

static const struct event_origin origin = {
    .account = {"main", 4},
    .received_ms = 1756970838008,
    .flags = EVENT_IS_TEST,
    .traceparent = {"00-61a24e3effec455dbbdd7e64cd92ed34-9b19a5131ec8a33a-01", 55},
};

static const char body[] = "{\"event\": {\"id\": \"ev_1\"}}";

static struct event *sealed_event(void)
{
    struct event *event = event_new(&origin, text_of(body), 64);
    struct text stored;

    assert_non_null(event);
    stored = event_text(event, EVENT_BODY);
    event_set_slice(event, EVENT_ID, (struct text){stored.data + 18, 4});
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of("activity.custom_activity")));
    event_seal(event, 42, 1000);
    return event;
}

static void assert_field(const struct event *event, enum event_field field, const char *expected)
{
    struct text value = event_text(event, field);

    assert_int_equal(value.size, strlen(expected));
    assert_memory_equal(value.data, expected, value.size);
}

static void a_record_gives_the_same_event_again(void **state)
{
    struct event *event = sealed_event();
    size_t size = event->record->size;
    char *stored = malloc(size + 1);
    struct error err = {0};
    struct event *again;

    (void)state;
    assert_non_null(stored);
    memcpy(stored + 1, event->record, size); /* a place that is not aligned */
    event_unref(event);
    again = event_from_record(stored + 1, size, &err);
    free(stored);
    assert_non_null(again);
    assert_field(again, EVENT_ACCOUNT, "main");
    assert_field(again, EVENT_ID, "ev_1");
    assert_field(again, EVENT_OBJECT_TYPE, "activity.custom_activity");
    assert_field(again, EVENT_TRACEPARENT,
                 "00-61a24e3effec455dbbdd7e64cd92ed34-9b19a5131ec8a33a-01");
    assert_field(again, EVENT_BODY, body);
    assert_field(again, EVENT_LEAD_ID, "");
    assert_true(event_has(again, EVENT_IS_TEST));
    assert_false(event_has(again, EVENT_FROM_LOG));
    assert_true(again->record->seq == 42);
    assert_int_equal(again->record->journal_age, 1000);
    assert_true(again->record->received_ms == origin.received_ms);
    event_unref(again);
}

static void every_damaged_byte_is_noticed(void **state)
{
    struct event *event = sealed_event();
    size_t size = event->record->size;
    unsigned char *stored = malloc(size);

    (void)state;
    assert_non_null(stored);
    memcpy(stored, event->record, size);
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct error err = {0};

            stored[i] ^= (unsigned char)(1 << bit);
            assert_null(event_from_record(stored, size, &err));
            assert_int_equal(err.kind, ERROR_INPUT);
            stored[i] ^= (unsigned char)(1 << bit);
        }
    }
    free(stored);
    event_unref(event);
}

static void a_record_of_another_size_is_refused(void **state)
{
    struct event *event = sealed_event();
    size_t size = event->record->size;
    char *stored = calloc(1, size + 8);

    (void)state;
    assert_non_null(stored);
    memcpy(stored, event->record, size);
    for (size_t shorter = 0; shorter < size; shorter++) {
        char *cut = malloc(shorter + 1); /* its own block, so that reading over the end shows */

        assert_non_null(cut);
        memcpy(cut, stored, shorter);
        assert_null(event_from_record(cut, shorter, NULL));
        free(cut);
    }
    assert_null(event_from_record(stored, size + 8, NULL));
    free(stored);
    event_unref(event);
}

static void a_field_outside_the_record_is_refused_even_with_a_true_checksum(void **state)
{
    static const struct {
        uint32_t offset;
        uint32_t size;
        bool ok;
    } cases[] = {
        {0, 0, true},           {0, UINT32_MAX, false},
        {UINT32_MAX, 1, false}, {UINT32_MAX, UINT32_MAX, false},
        {1, UINT32_MAX, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event *event = sealed_event();
        struct error err = {0};
        struct event *again;

        event->record->fields[EVENT_LEAD_ID] = (struct event_slice){cases[i].offset, cases[i].size};
        event_seal(event, 42, 1000);
        again = event_from_record(event->record, event->record->size, &err);
        assert_int_equal(again != NULL, cases[i].ok);
        if (!cases[i].ok)
            assert_string_equal(err.message, "the event record has a field outside itself");
        event_unref(again);
        event_unref(event);
    }
}

static void the_last_reference_frees(void **state)
{
    struct event *event = sealed_event();

    (void)state;
    assert_ptr_equal(event_ref(event), event);
    event_unref(event);
    assert_field(event, EVENT_ID, "ev_1"); /* ASan would tell */
    event_unref(event);
    event_unref(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_gives_the_same_event_again),
        cmocka_unit_test(every_damaged_byte_is_noticed),
        cmocka_unit_test(a_record_of_another_size_is_refused),
        cmocka_unit_test(a_field_outside_the_record_is_refused_even_with_a_true_checksum),
        cmocka_unit_test(the_last_reference_frees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
