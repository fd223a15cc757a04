/*
 * Reads the Event Log of a Close that answers from a list of events: an event is a date, one a
 * millisecond apart unless a test wants it otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/close/close_api.h"
#include "bridge/close/event_log.h"
#include "bridge/http/http_server.h"
#include "schemas/date.h"
#include "schemas/envelope.h"

#define BASE_MS INT64_C(1756970000000)

enum { EVENTS_MAX = 20000 };

static struct http_server *server;
static struct close_api *api;
static struct close_access access;
static char url[64];
static int64_t dates[EVENTS_MAX]; /* oldest first */
static size_t date_count;
static _Atomic int requests;
static int expires_at; /* the request whose cursor has expired; 0: none */
static bool ignores_bounds;
static size_t event_size; /* of each */

static int64_t moment_of(struct http_request *request, const char *name, int64_t otherwise)
{
    struct text value;
    int64_t ms;

    if (!http_request_query(request, name, &value) || ignores_bounds)
        return otherwise;
    assert_true(envelope_parse_date(value, &ms));
    return ms;
}

static void append_event(struct buf *json, size_t index)
{
    const struct instant instant = {.seconds = dates[index] / 1000,
                                    .nanoseconds = (uint32_t)(dates[index] % 1000) * 1000000,
                                    .fraction_digits = 6};
    char date[DATE_MAX];
    size_t size = date_format(&instant, date);

    buf_printf(json, "{\"id\":\"ev_%zu\",\"date_updated\":\"%.*s\",\"data\":\"%*s\"}", index,
               (int)size - 1, date, (int)event_size, "");
}

/* A cursor is "until.since": the index of the event that the page before ended with. */
static void handle(void *context, unsigned thread, struct http_request *request)
{
    struct text cursor = {NULL, 0};
    struct text limit = {NULL, 0};
    struct buf json = {0};
    uint64_t page = 50;
    int64_t since_ms = moment_of(request, "date_updated__gte", 0);
    int64_t until_ms = moment_of(request, "date_updated__lt", INT64_MAX);
    size_t at = date_count;
    size_t floor = 0;
    const char *comma = "";

    (void)context;
    (void)thread;
    if (http_request_query(request, "_limit", &limit))
        assert_true(text_to_u64(limit, &page));
    if (http_request_query(request, "_cursor", &cursor)) {
        assert_int_equal(sscanf(cursor.data, "%zu/%zu", &at, &floor), 2);
    } else {
        while (at > 0 && dates[at - 1] >= until_ms)
            at--;
        while (floor < at && dates[floor] < since_ms)
            floor++;
    }
    if (++requests == expires_at && cursor.data) {
        http_respond(request, &(struct http_response){.status = 400,
                                                      .body = text_of("{\"error\":\"expired\"}")});
        return;
    }
    buf_append_string(&json, "{\"data\":[");
    for (; page > 0 && at > floor; page--, comma = ",") {
        buf_append_string(&json, comma);
        append_event(&json, --at);
    }
    if (at > floor)
        buf_printf(&json, "],\"cursor_next\":\"%zu/%zu\"}", at, floor);
    else
        buf_append_string(&json, "],\"cursor_next\":null}");
    http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

static int set_up(void **state)
{
    struct error err = {0};

    (void)state;
    server = http_server_start(&(struct http_server_options){.name = "close",
                                                             .host = "127.0.0.1",
                                                             .threads = 1,
                                                             .max_body = 65536,
                                                             .clock = &clock_system,
                                                             .handle = handle},
                               &err);
    api = close_api_new(
        &(struct close_api_options){
            .clock = &clock_system, .first_pause_ms = 1, .max_attempts = 1, .max_body = 200000},
        &err);
    if (!server || !api)
        return -1;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", http_server_port(server));
    access = (struct close_access){.url = url, .api_key = "k"};
    requests = expires_at = 0;
    ignores_bounds = false;
    event_size = 10;
    date_count = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_api_free(api);
    http_server_free(server);
    return 0;
}

static void fill(size_t count)
{
    for (date_count = 0; date_count < count; date_count++)
        dates[date_count] = BASE_MS + (int64_t)date_count;
}

static enum log_progress read_on(struct log_reading *reading, struct error *err)
{
    enum log_progress progress;

    do
        progress = event_log_next(reading, api, &access, err);
    while (progress == LOG_HAS_MORE);
    return progress;
}

static size_t number_of(const struct log_entry *entry)
{
    size_t number = SIZE_MAX;

    sscanf(entry->json.data, "{\"id\":\"ev_%zu\"", &number);
    return number;
}

static void check_entries(const struct log_reading *reading, size_t first, size_t count)
{
    size_t found;
    const struct log_entry *entries = event_log_entries(reading, &found);

    assert_int_equal(found, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(number_of(&entries[i]), first + i);
}

static void a_window_comes_oldest_first(void **state)
{
    struct log_reading *reading =
        event_log_begin((struct log_window){BASE_MS + 100, BASE_MS + 1000});
    struct error err = {0};

    (void)state;
    fill(2000);
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    check_entries(reading, 100, 900);
    assert_int_equal(requests, 18);
    assert_int_equal(event_log_window(reading).until_ms, BASE_MS + 1000);
    event_log_end(reading);
}

static void a_window_that_holds_nothing_is_complete(void **state)
{
    struct log_reading *reading = event_log_begin((struct log_window){BASE_MS, BASE_MS + 10});
    struct error err = {0};

    (void)state;
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    check_entries(reading, 0, 0);
    event_log_end(reading);
}

/* Every event comes in one of the windows, none of them is read a third time. */
static void of_a_window_that_is_too_large_the_oldest_part_comes_first(void **state)
{
    struct log_window window = {BASE_MS - 1000, BASE_MS + 100000};
    struct log_reading *reading = event_log_begin(window);
    struct error err = {0};
    int64_t stops[64];
    const int64_t *found;
    size_t stop_count;
    size_t next = 0;

    (void)state;
    fill(9000);
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    found = event_log_stops(reading, &stop_count);
    assert_int_equal(stop_count, 4);
    memcpy(stops, found, stop_count * sizeof(*stops));
    for (size_t i = stop_count;; i--) {
        size_t count;

        window.until_ms = i > 0 ? stops[i - 1] : BASE_MS + 100000;
        assert_int_equal(event_log_window(reading).until_ms, window.until_ms);
        event_log_entries(reading, &count);
        assert_true(count > 0 && count <= 2050);
        check_entries(reading, next, count);
        next += count;
        event_log_end(reading);
        if (i == 0)
            break;
        reading = event_log_begin(
            (struct log_window){stops[i - 1], i > 1 ? stops[i - 2] : BASE_MS + 100000});
        assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
        assert_int_equal(event_log_window(reading).since_ms, stops[i - 1]);
    }
    assert_int_equal(next, 9000);
    assert_true(requests < 2 * 9000 / 50 + 10);
}

static void events_of_one_millisecond_are_not_parted(void **state)
{
    struct log_reading *reading = event_log_begin((struct log_window){BASE_MS, BASE_MS + 1000});
    struct error err = {0};
    size_t stop_count;

    (void)state;
    fill(5000);
    for (size_t i = 0; i < 5000; i++)
        dates[i] = BASE_MS + 500;
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    event_log_stops(reading, &stop_count);
    assert_int_equal(stop_count, 1); /* before them all */
    check_entries(reading, 0, 5000 - 2050);
    event_log_end(reading);
    reading = event_log_begin((struct log_window){BASE_MS + 500, BASE_MS + 1000});
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    check_entries(reading, 0, 5000);
    event_log_end(reading);
}

static void an_expired_cursor_keeps_what_was_found_out(void **state)
{
    struct log_reading *reading = event_log_begin((struct log_window){BASE_MS, BASE_MS + 10000});
    struct error err = {0};
    size_t stop_count;

    (void)state;
    fill(6000);
    expires_at = 60;
    assert_int_equal(read_on(reading, &err), LOG_EXPIRED);
    event_log_stops(reading, &stop_count);
    assert_int_equal(stop_count, 1);
    event_log_end(reading);
}

static void a_page_that_is_too_large_comes_in_parts(void **state)
{
    struct log_reading *reading = event_log_begin((struct log_window){BASE_MS, BASE_MS + 10000});
    struct error err = {0};

    (void)state;
    fill(60);
    event_size = 30000;
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    check_entries(reading, 0, 60);
    event_log_end(reading);
}

static void what_lies_outside_of_the_window_is_not_taken(void **state)
{
    static const struct log_window windows[] = {{BASE_MS + 90000, BASE_MS + 99000},
                                                {BASE_MS - 99000, BASE_MS - 90000}};

    (void)state;
    fill(200);
    ignores_bounds = true;
    for (size_t i = 0; i < 2; i++) {
        struct log_reading *reading = event_log_begin(windows[i]);
        struct error err = {0};

        assert_int_equal(read_on(reading, &err), LOG_FAILED);
        assert_int_equal(err.kind, ERROR_CONFIG);
        assert_non_null(strstr(err.message, "does not select by date"));
        event_log_end(reading);
    }
}

/* An event that changed after the window was begun has another place. */
static void what_became_newer_meanwhile_is_left_to_a_later_window(void **state)
{
    struct log_reading *reading = event_log_begin((struct log_window){BASE_MS, BASE_MS + 100});
    struct error err = {0};

    (void)state;
    fill(3);
    dates[2] = BASE_MS + 90000;
    ignores_bounds = true;
    assert_int_equal(read_on(reading, &err), LOG_COMPLETE);
    check_entries(reading, 0, 2);
    event_log_end(reading);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_window_comes_oldest_first),
        TEST(a_window_that_holds_nothing_is_complete),
        TEST(of_a_window_that_is_too_large_the_oldest_part_comes_first),
        TEST(events_of_one_millisecond_are_not_parted),
        TEST(an_expired_cursor_keeps_what_was_found_out),
        TEST(a_page_that_is_too_large_comes_in_parts),
        TEST(what_lies_outside_of_the_window_is_not_taken),
        TEST(what_became_newer_meanwhile_is_left_to_a_later_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
