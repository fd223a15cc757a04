#include "bridge/catch_up/catch_up_account.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "schemas/event.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define FIRST_STEP_MS (INT64_C(600) * 1000)

enum {
    SECOND_MS = 1000,
    GROWTH = 4, /* at most, from one window to the next */
    WANTED_EVENTS = 1000,
};

static const char *const cause_names[CATCH_UP_CAUSE_COUNT] = {
    [CATCH_UP_SCHEDULED] = "scheduled",
    [CATCH_UP_GAP] = "gap",
    [CATCH_UP_REQUESTED] = "requested",
    [CATCH_UP_INCOMPLETE] = "incomplete",
};

const char *catch_up_cause_name(enum catch_up_cause cause)
{
    return cause_names[cause];
}

bool catch_up_cause_of(const char *name, enum catch_up_cause *out_cause)
{
    for (int i = 0; i < CATCH_UP_CAUSE_COUNT; i++) {
        if (strcmp(name, cause_names[i]) == 0) {
            *out_cause = (enum catch_up_cause)i;
            return true;
        }
    }
    return false;
}

const char *catch_up_result_name(enum catch_up_result result)
{
    static const char *const names[CATCH_UP_RESULT_COUNT] = {
        [CATCH_UP_ACCEPTED] = "accepted",   [CATCH_UP_DUPLICATE] = "duplicate",
        [CATCH_UP_IGNORED] = "ignored",     [CATCH_UP_MALFORMED] = "malformed",
        [CATCH_UP_WITHHELD] = "incomplete",
    };

    return names[result];
}

/* ---- accounts ---- */

struct catch_up_account *catch_up_account_new(const char *name)
{
    struct catch_up_account *account = alloc_zeroed(1, sizeof(*account));

    account->name = alloc_string(name);
    account->next_id = 1;
    account->step_ms = FIRST_STEP_MS;
    return account;
}

static void free_task(struct catch_up_task *task)
{
    if (!task)
        return;
    free(task->warnings);
    free(task->stops);
    free(task);
}

static void free_tasks(struct catch_up_task *task)
{
    while (task) {
        struct catch_up_task *next = task->next;

        free_task(task);
        task = next;
    }
}

void catch_up_account_free(struct catch_up_account *account)
{
    if (!account)
        return;
    event_log_end(account->reading);
    free_tasks(account->tasks);
    free_tasks(account->finished);
    free_task(account->run);
    free(account->name);
    free(account);
}

/* ---- tasks ---- */

struct catch_up_task *catch_up_task_add(struct catch_up_account *account,
                                        const struct catch_up_task *task)
{
    size_t max = task->cause == CATCH_UP_REQUESTED ? CATCH_UP_TASKS_MAX : 1;
    struct catch_up_task **slot = &account->tasks;
    struct catch_up_task *added;
    size_t count = 0;

    for (; *slot; slot = &(*slot)->next)
        count += (*slot)->cause == task->cause;
    if (count >= max)
        return NULL;
    added = alloc_zeroed(1, sizeof(*added));
    added->id = account->next_id++;
    added->cause = task->cause;
    added->since_ms = task->since_ms;
    added->until_ms = task->until_ms;
    added->reached_ms = task->reached_ms > task->since_ms ? task->reached_ms : task->since_ms;
    added->is_dry_run = task->is_dry_run;
    memcpy(added->object_type, task->object_type, sizeof(added->object_type));
    memcpy(added->action, task->action, sizeof(added->action));
    *slot = added;
    return added;
}

static void unlink_task(struct catch_up_account *account, const struct catch_up_task *task)
{
    struct catch_up_task **slot = &account->tasks;

    if (account->run == task)
        account->run = NULL;
    while (*slot && *slot != task)
        slot = &(*slot)->next;
    if (*slot)
        *slot = task->next;
}

/* Of scheduled runs the last is kept, so that they do not push out what was asked for. */
static void forget_run(struct catch_up_account *account)
{
    struct catch_up_task **slot = &account->finished;

    while (*slot && (*slot)->cause != CATCH_UP_SCHEDULED)
        slot = &(*slot)->next;
    if (*slot) {
        struct catch_up_task *run = *slot;

        *slot = run->next;
        free_task(run);
    }
}

void catch_up_task_finish(struct catch_up_account *account, struct catch_up_task *task)
{
    struct catch_up_task **slot = &account->finished;

    unlink_task(account, task);
    if (task->cause == CATCH_UP_SCHEDULED)
        forget_run(account);
    if (account->current == task)
        account->current = NULL;
    task->next = account->finished;
    account->finished = task;
    for (int kept = 0; *slot && kept < CATCH_UP_FINISHED_MAX; kept++)
        slot = &(*slot)->next;
    free_tasks(*slot);
    *slot = NULL;
}

void catch_up_task_widen(struct catch_up_account *account, enum catch_up_cause cause,
                         int64_t since_ms, int64_t until_ms)
{
    struct catch_up_task *task = account->tasks;

    while (task && (task->cause != cause || task->is_cancelled))
        task = task->next;
    if (!task) {
        task = alloc_zeroed(1, sizeof(*task));
        *task = (struct catch_up_task){.next = account->tasks,
                                       .id = account->next_id++,
                                       .cause = cause,
                                       .since_ms = since_ms,
                                       .until_ms = until_ms,
                                       .reached_ms = since_ms};
        account->tasks = task;
        return;
    }
    if (since_ms < task->since_ms)
        task->since_ms = since_ms;
    if (since_ms < task->reached_ms)
        task->reached_ms = since_ms;
    if (until_ms > task->until_ms)
        task->until_ms = until_ms;
}

void catch_up_task_reach(struct catch_up_task *task, struct log_window window)
{
    if (window.since_ms <= task->reached_ms && window.until_ms > task->reached_ms)
        task->reached_ms = window.until_ms;
    catch_up_add_stops(task, NULL, 0);
}

static bool is_of_type(struct text type, const char *wanted)
{
    size_t size = strlen(wanted);

    if (size < 2 || strcmp(wanted + size - 2, ".*") != 0)
        return text_equal_string(type, wanted);
    return type.size > size - 1 && memcmp(type.data, wanted, size - 1) == 0;
}

bool catch_up_task_selects_pair(const struct catch_up_task *task, struct text object_type,
                                struct text action)
{
    if (task->object_type[0] && !is_of_type(object_type, task->object_type))
        return false;
    return !task->action[0] || text_equal_string(action, task->action);
}

bool catch_up_task_selects(const struct catch_up_task *task, const struct event *event)
{
    return catch_up_task_selects_pair(task, event_text(event, EVENT_OBJECT_TYPE),
                                      event_text(event, EVENT_ACTION));
}

int64_t catch_up_task_eta_ms(const struct catch_up_task *task, int64_t now_monotonic_ms)
{
    double done_ms = (double)(task->reached_ms - task->begun_at_ms);
    double left_ms = (double)(task->until_ms - task->reached_ms);

    if (!task->has_started || done_ms <= 0)
        return -1;
    return (int64_t)((double)(now_monotonic_ms - task->begun_monotonic_ms) * left_ms / done_ms);
}

/* ---- windows ---- */

/* Whole seconds as long as there are not too many events in one: nobody says how exactly Close
 * takes a bound. */
static int64_t end_of_step(const struct catch_up_account *account, int64_t begin_ms)
{
    int64_t end_ms = begin_ms + account->step_ms;

    if (account->step_ms >= SECOND_MS)
        end_ms -= end_ms % SECOND_MS;
    return end_ms > begin_ms ? end_ms : begin_ms + 1;
}

struct log_window catch_up_next_window(const struct catch_up_account *account,
                                       const struct catch_up_task *task)
{
    int64_t end_ms = task->stop_count ? task->stops[task->stop_count - 1]
                                      : end_of_step(account, task->reached_ms);

    return (struct log_window){task->reached_ms, end_ms < task->until_ms ? end_ms : task->until_ms};
}

void catch_up_add_stops(struct catch_up_task *task, const int64_t *stops, size_t count)
{
    int64_t *all = alloc_zeroed(task->stop_count + count + 1, sizeof(*all));

    if (task->stop_count)
        memcpy(all, task->stops, task->stop_count * sizeof(*all));
    if (count)
        memcpy(all + task->stop_count, stops, count * sizeof(*all));
    free(task->stops);
    task->stops = all;
    task->stop_count += count;
    while (task->stop_count && task->stops[task->stop_count - 1] <= task->reached_ms)
        task->stop_count--;
}

static int64_t within(int64_t step_ms, int64_t max_ms)
{
    if (step_ms > max_ms)
        step_ms = max_ms;
    return step_ms < 1 ? 1 : step_ms;
}

void catch_up_fit_step(struct catch_up_account *account, struct log_window window, size_t count)
{
    int64_t length_ms = window.until_ms - window.since_ms;
    int64_t longest_ms = within(account->step_ms * GROWTH, DAY_MS);

    account->step_ms =
        count == 0 ? longest_ms : within(length_ms * WANTED_EVENTS / (int64_t)count, longest_ms);
}
