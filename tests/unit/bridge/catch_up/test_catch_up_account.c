#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/catch_up/catch_up_account.h"
#include "bridge/catch_up/catch_up_store.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "schemas/json_reader.h"

#define HOUR_MS INT64_C(3600000)

static struct catch_up_account *account;

static int set_up(void **state)
{
    (void)state;
    account = catch_up_account_new("main");
    account->step_ms = HOUR_MS;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    catch_up_account_free(account);
    account = NULL;
    return 0;
}

static struct catch_up_task *add(enum catch_up_cause cause, int64_t since_ms, int64_t until_ms)
{
    return catch_up_task_add(
        account,
        &(struct catch_up_task){.cause = cause, .since_ms = since_ms, .until_ms = until_ms});
}

/* ---- windows ---- */

static void windows_end_at_whole_seconds_and_at_the_end_of_the_task(void **state)
{
    struct catch_up_task *task = add(CATCH_UP_REQUESTED, 1234567, 1234567 + 2 * HOUR_MS);
    struct log_window window = catch_up_next_window(account, task);

    (void)state;
    assert_int_equal(window.since_ms, 1234567);
    assert_int_equal(window.until_ms, 1234000 + HOUR_MS);
    task->reached_ms = task->until_ms - 5000;
    window = catch_up_next_window(account, task);
    assert_int_equal(window.until_ms, task->until_ms);
    account->step_ms = 1;
    window = catch_up_next_window(account, task);
    assert_int_equal(window.until_ms, task->reached_ms + 1);
}

static void quiet_times_make_windows_longer_and_busy_ones_shorter(void **state)
{
    const struct log_window hour = {0, HOUR_MS};

    (void)state;
    catch_up_fit_step(account, hour, 0);
    assert_int_equal(account->step_ms, 4 * HOUR_MS);
    catch_up_fit_step(account, hour, 2000);
    assert_int_equal(account->step_ms, HOUR_MS / 2);
    catch_up_fit_step(account, hour, 1);
    assert_int_equal(account->step_ms, 2 * HOUR_MS);
    for (int i = 0; i < 10; i++)
        catch_up_fit_step(account, hour, 0);
    assert_int_equal(account->step_ms, 24 * HOUR_MS);
    catch_up_fit_step(account, (struct log_window){0, 1}, 100000);
    assert_int_equal(account->step_ms, 1);
}

static void where_the_log_is_dense_windows_end_at_the_stops(void **state)
{
    static const int64_t first[] = {8000, 7000};
    static const int64_t second[] = {6500};
    struct catch_up_task *task = add(CATCH_UP_REQUESTED, 5000, 10000);
    struct log_window window;

    (void)state;
    catch_up_add_stops(task, first, 2);
    catch_up_add_stops(task, second, 1);
    window = catch_up_next_window(account, task);
    assert_int_equal(window.until_ms, 6500);
    task->reached_ms = 6500;
    catch_up_add_stops(task, NULL, 0);
    assert_int_equal(catch_up_next_window(account, task).until_ms, 7000);
    task->reached_ms = 8000;
    catch_up_add_stops(task, NULL, 0);
    assert_int_equal(task->stop_count, 0);
    assert_int_equal(catch_up_next_window(account, task).until_ms, 10000);
}

/* ---- tasks ---- */

static void there_is_an_end_to_what_can_be_asked_for(void **state)
{
    (void)state;
    for (int i = 0; i < CATCH_UP_TASKS_MAX; i++)
        assert_int_equal(add(CATCH_UP_REQUESTED, i, i + 1)->id, i + 1);
    assert_null(add(CATCH_UP_REQUESTED, 0, 1));
    catch_up_task_finish(account, account->tasks);
    assert_non_null(add(CATCH_UP_REQUESTED, 0, 1));
}

static size_t count_tasks(const struct catch_up_task *task)
{
    size_t count = 0;

    for (; task; task = task->next)
        count++;
    return count;
}

static void the_last_finished_ones_are_kept_and_one_scheduled_run(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct catch_up_task *run = calloc(1, sizeof(*run));

        run->since_ms = i;
        account->run = run;
        catch_up_task_finish(account, run);
        if (i % 2 == 0)
            catch_up_task_finish(account, add(CATCH_UP_REQUESTED, i, i + 1));
    }
    assert_null(account->run);
    assert_null(account->tasks);
    assert_int_equal(count_tasks(account->finished), CATCH_UP_FINISHED_MAX);
    assert_int_equal(account->finished->cause, CATCH_UP_SCHEDULED);
    assert_int_equal(account->finished->since_ms, 19);
    for (const struct catch_up_task *task = account->finished->next; task; task = task->next)
        assert_int_equal(task->cause, CATCH_UP_REQUESTED);
}

/* It grows at its begin while a window of it is read, as a gap does that is told of meanwhile. */
static void what_lies_before_the_window_that_was_read_stays_to_be_read(void **state)
{
    const struct log_window window = {5000, 6000};
    struct catch_up_task *task = add(CATCH_UP_GAP, 5000, 9000);

    (void)state;
    catch_up_task_widen(account, CATCH_UP_GAP, 2000, 5000);
    assert_int_equal(count_tasks(account->tasks), 1);
    catch_up_task_reach(task, window);
    assert_int_equal(task->reached_ms, 2000);
    assert_int_equal(task->until_ms, 9000);
    catch_up_task_reach(task, (struct log_window){2000, 5500});
    assert_int_equal(task->reached_ms, 5500);
    catch_up_task_reach(task, window);
    assert_int_equal(task->reached_ms, 6000);
}

static void what_came_without_data_is_one_stretch_of_time(void **state)
{
    (void)state;
    add(CATCH_UP_REQUESTED, 1, 2);
    catch_up_task_widen(account, CATCH_UP_INCOMPLETE, 5000, 6001);
    assert_int_equal(account->tasks->cause, CATCH_UP_INCOMPLETE);
    assert_int_equal(account->tasks->until_ms, 6001);
    account->tasks->reached_ms = 5500;
    catch_up_task_widen(account, CATCH_UP_INCOMPLETE, 7000, 7001);
    assert_int_equal(account->tasks->reached_ms, 5500);
    assert_int_equal(account->tasks->until_ms, 7001);
    catch_up_task_widen(account, CATCH_UP_INCOMPLETE, 4000, 4001);
    assert_int_equal(account->tasks->since_ms, 4000);
    assert_int_equal(account->tasks->reached_ms, 4000);
    assert_int_equal(count_tasks(account->tasks), 2);
}

static bool selects(const char *type, const char *action, const char *object_type)
{
    struct event_parser *parser = event_parser_new(NULL);
    struct event_origin origin = {.account = text_of("main")};
    struct catch_up_task task = {0};
    struct buf json = {0};
    struct event *event;
    bool is_selected;

    strcpy(task.object_type, type);
    strcpy(task.action, action);
    buf_printf(&json, "{\"id\":\"ev_1\",\"object_type\":\"%s\",\"action\":\"created\"}",
               object_type);
    event = event_parse_object(parser, &origin, buf_text(&json), NULL);
    assert_non_null(event);
    is_selected = catch_up_task_selects(&task, event);
    event_unref(event);
    event_parser_free(parser);
    buf_release(&json);
    return is_selected;
}

static void a_request_selects_by_type_family_and_action(void **state)
{
    (void)state;
    assert_true(selects("", "", "lead"));
    assert_true(selects("lead", "created", "lead"));
    assert_false(selects("lead", "updated", "lead"));
    assert_false(selects("lead", "", "leads"));
    assert_true(selects("activity.*", "", "activity.note"));
    assert_true(selects("activity.*", "", "note"));
    assert_false(selects("activity.*", "", "activity"));
    assert_false(selects("activity.*", "", "lead"));
}

static void how_long_it_takes_follows_from_how_it_went(void **state)
{
    struct catch_up_task *task = add(CATCH_UP_REQUESTED, 0, 10000);

    (void)state;
    assert_int_equal(catch_up_task_eta_ms(task, 0), -1);
    task->has_started = true;
    task->begun_monotonic_ms = 100;
    assert_int_equal(catch_up_task_eta_ms(task, 600), -1);
    task->reached_ms = 2500;
    assert_int_equal(catch_up_task_eta_ms(task, 600), 1500);
}

/* ---- what is stored ---- */

static struct text padded(struct buf *content)
{
    size_t size = content->size;

    buf_append(content, (char[JSON_PADDING]){0}, JSON_PADDING);
    return (struct text){content->data, size};
}

static void what_is_stored_is_read_again(void **state)
{
    struct buf content = {0};
    struct buf again = {0};
    struct catch_up_account *read = NULL;
    struct catch_up_task *task = add(CATCH_UP_REQUESTED, 1000, 9000);
    struct error err = {0};

    (void)state;
    account->has_point = true;
    account->point_ms = INT64_C(1756970837674);
    account->covered_ms = INT64_C(1756900000000);
    task->reached_ms = 5000;
    strcpy(task->object_type, "activity.*");
    add(CATCH_UP_GAP, 1, 0)->is_cancelled = true;
    add(CATCH_UP_REQUESTED, 1, 0)->is_dry_run = true;
    account->next = catch_up_account_new("an \"other\"");
    catch_up_store_format(account, &content);
    assert_int_equal(catch_up_store_parse(padded(&content), &read, &err), 0);
    assert_string_equal(read->name, "main");
    assert_true(read->has_point && read->point_ms == account->point_ms);
    assert_int_equal(read->covered_ms, account->covered_ms);
    assert_int_equal(read->next_id, 4);
    assert_int_equal(read->tasks->id, 1);
    assert_int_equal(read->tasks->reached_ms, 5000);
    assert_string_equal(read->tasks->object_type, "activity.*");
    assert_null(read->tasks->next);
    assert_string_equal(read->next->name, "an \"other\"");
    assert_false(read->next->has_point);
    catch_up_store_format(read, &again);
    assert_string_equal(again.data, content.data);
    catch_up_account_free(read->next);
    catch_up_account_free(read);
    catch_up_account_free(account->next);
    account->next = NULL;
    buf_release(&content);
    buf_release(&again);
}

/* What nobody asked for finds room beside all that can be asked for, also when it is read again. */
static void as_many_tasks_as_there_can_be_are_read_again(void **state)
{
    struct catch_up_account *read = NULL;
    struct buf content = {0};
    struct error err = {0};

    (void)state;
    for (int i = 0; i < CATCH_UP_TASKS_MAX; i++)
        assert_non_null(add(CATCH_UP_REQUESTED, i, i + 1));
    catch_up_task_widen(account, CATCH_UP_GAP, 1, 2);
    catch_up_task_widen(account, CATCH_UP_INCOMPLETE, 1, 2);
    catch_up_store_format(account, &content);
    assert_int_equal(catch_up_store_parse(padded(&content), &read, &err), 0);
    assert_int_equal(count_tasks(read->tasks), CATCH_UP_TASKS_MAX + 2);
    catch_up_account_free(read);
    buf_release(&content);
}

static void a_flipped_bit_is_damage(void **state)
{
    struct catch_up_account *read = NULL;
    struct buf content = {0};
    struct error err = {0};
    char *digit;

    (void)state;
    account->has_point = true;
    account->point_ms = 1234;
    catch_up_store_format(account, &content);
    digit = strstr(content.data, "1234");
    assert_non_null(digit);
    *digit = '3';
    assert_int_equal(catch_up_store_parse(padded(&content), &read, &err), -1);
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_null(read);
    buf_release(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(windows_end_at_whole_seconds_and_at_the_end_of_the_task,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(quiet_times_make_windows_longer_and_busy_ones_shorter,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(where_the_log_is_dense_windows_end_at_the_stops, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(there_is_an_end_to_what_can_be_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_last_finished_ones_are_kept_and_one_scheduled_run,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_came_without_data_is_one_stretch_of_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_lies_before_the_window_that_was_read_stays_to_be_read,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_tasks_as_there_can_be_are_read_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_request_selects_by_type_family_and_action, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(how_long_it_takes_follows_from_how_it_went, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_stored_is_read_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_damage, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
