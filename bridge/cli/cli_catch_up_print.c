/*
 * How the command line shows a catch-up.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/cli/cli_catch_up.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_progress.h"
#include "schemas/envelope.h"
#include "schemas/json_scan.h"

enum { WHOLE = 1000 };

static bool is_string(struct text object, const char *name, const char *wanted)
{
    struct text value = cli_json_member(object, name);

    return json_is_string(value) && text_equal_string(json_string_inside(value), wanted);
}

static uint64_t number(struct text object, const char *name)
{
    uint64_t value;

    return text_to_u64(cli_json_member(object, name), &value) ? value : 0;
}

static int64_t moment(struct text object, const char *name)
{
    struct text value = cli_json_member(object, name);
    int64_t ms;

    return json_is_string(value) && envelope_parse_date(json_string_inside(value), &ms) ? ms : -1;
}

/* ---- for people ---- */

static void print_counts(struct text task)
{
    static const char *const others[] = {"duplicate", "ignored", "malformed", "incomplete"};
    bool is_dry_run = text_equal_string(cli_json_member(task, "dry_run"), "true");

    printf("read %" PRIu64 ", %s %" PRIu64, number(task, "read"),
           is_dry_run ? "would hand on" : "new", number(task, "accepted"));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (number(task, others[i]) > 0 || (i == 0 && !is_dry_run))
            printf(", %s %" PRIu64, others[i], number(task, others[i]));
    }
}

static void print_task(struct text task)
{
    fputs("  ", stdout);
    cli_json_print(task, "cause", 10);
    putchar(' ');
    cli_json_print(task, "state", 9);
    fputs(" from ", stdout);
    cli_json_print(task, "since", 0);
    fputs(" until ", stdout);
    cli_json_print(task, "until", 0);
    fputs(", reached ", stdout);
    cli_json_print(task, "reached", 0);
    fputs(": ", stdout);
    print_counts(task);
    if (cli_json_member(task, "eta_seconds").size && !is_string(task, "state", "done") &&
        !json_is_null(cli_json_member(task, "eta_seconds")))
        printf(", about %" PRIu64 " s to go", number(task, "eta_seconds"));
    putchar('\n');
    if (json_is_string(cli_json_member(task, "error"))) {
        fputs("    ", stdout);
        cli_json_print(task, "error", 0);
        putchar('\n');
    }
}

/* Of what is under way: what is done was warned of. */
static void print_warnings(struct text task)
{
    struct json_cursor cursor;
    struct text warning;

    if (!json_array_begin(&cursor, cli_json_member(task, "warnings")))
        return;
    while (json_array_next(&cursor, &warning)) {
        struct buf plain = {0};

        printf("    warning: %s\n", cli_json_plain(warning, &plain));
        buf_release(&plain);
    }
}

static void print_tasks(struct text list, bool are_finished)
{
    struct json_cursor cursor;
    struct text task;

    if (!json_array_begin(&cursor, list))
        return;
    while (json_array_next(&cursor, &task)) {
        print_task(task);
        if (!are_finished)
            print_warnings(task);
    }
}

static void print_account(struct text account)
{
    cli_json_print(account, "account", 0);
    fputs(": ", stdout);
    cli_json_print(account, "state", 0);
    if (json_is_string(cli_json_member(account, "point"))) {
        fputs(", read up to ", stdout);
        cli_json_print(account, "point", 0);
    }
    putchar('\n');
    if (json_is_string(cli_json_member(account, "error"))) {
        fputs("  ", stdout);
        cli_json_print(account, "error", 0);
        putchar('\n');
    }
    print_tasks(cli_json_member(account, "tasks"), false);
    print_tasks(cli_json_member(account, "finished"), true);
}

int cli_catch_up_print(const char *command, struct text answer)
{
    struct json_cursor accounts;
    struct text document;
    struct text account;

    if (!cli_json_check_list(command, answer, "accounts", &document, &accounts))
        return EX_PROTOCOL;
    while (json_array_next(&accounts, &account))
        print_account(account);
    return EX_OK;
}

/* ---- while it runs ---- */

static struct text find_account(struct text document, const char *name)
{
    struct json_cursor accounts;
    struct text account;

    if (!json_array_begin(&accounts, cli_json_member(document, "accounts")))
        return (struct text){NULL, 0};
    while (json_array_next(&accounts, &account)) {
        if (is_string(account, "account", name))
            return account;
    }
    return (struct text){NULL, 0};
}

/* Absent when the list has no task of that number. */
static struct text find_task(struct text account, const char *list, uint64_t id)
{
    struct json_cursor tasks;
    struct text task;

    if (!json_array_begin(&tasks, cli_json_member(account, list)))
        return (struct text){NULL, 0};
    while (json_array_next(&tasks, &task)) {
        if (number(task, "id") == id)
            return task;
    }
    return (struct text){NULL, 0};
}

static void complain(const char *command, const struct cli_task *task, struct text where)
{
    struct text error = cli_json_member(where, "error");
    struct buf plain = {0};

    fprintf(stderr, "close-bridge %s: %s: %s\n", command, task->account,
            json_is_string(error) ? cli_json_plain(error, &plain) : "it was cancelled");
    buf_release(&plain);
}

static void look_at(const char *command, struct text document, struct cli_task *task)
{
    struct text account = find_account(document, task->account);
    struct text waiting = find_task(account, "tasks", task->id);
    struct text finished = find_task(account, "finished", task->id);

    if (finished.data && is_string(finished, "state", "done")) {
        task->is_done = true;
        printf("%s: ", task->account);
        print_counts(finished);
        putchar('\n');
    } else if (!waiting.data) {
        task->has_failed = true;
        complain(command, task, (struct text){NULL, 0});
    } else if (is_string(waiting, "state", "held_back")) {
        task->has_failed = true;
        complain(command, task, waiting);
    } else if (!is_string(account, "state", "failing")) {
        task->failing = 0;
    } else if (++task->failing > CLI_TASK_PATIENCE) {
        task->has_failed = true;
        complain(command, task, account);
    }
}

int cli_catch_up_look(const char *command, struct text answer, struct cli_task *tasks, size_t count)
{
    struct text document;

    if (!cli_json_check(command, answer, &document))
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (!tasks[i].is_done && !tasks[i].has_failed)
            look_at(command, document, &tasks[i]);
    }
    fflush(stdout);
    return 0;
}

/* What share of the tasks' time was read, in thousandths. */
static unsigned share_of(struct text document, const struct cli_task *tasks, size_t count,
                         uint64_t *out_read, uint64_t *out_eta_s)
{
    double share = 0;

    *out_read = *out_eta_s = 0;
    for (size_t i = 0; i < count; i++) {
        struct text account = find_account(document, tasks[i].account);
        struct text task = find_task(account, "tasks", tasks[i].id);
        int64_t since_ms = moment(task, "since");
        int64_t length_ms = moment(task, "until") - since_ms;

        if (!task.data) {
            share += 1;
            task = find_task(account, "finished", tasks[i].id);
        } else if (length_ms > 0) {
            share += (double)(moment(task, "reached") - since_ms) / (double)length_ms;
        }
        *out_read += number(task, "read");
        if (number(task, "eta_seconds") > *out_eta_s)
            *out_eta_s = number(task, "eta_seconds");
    }
    return (unsigned)(share * WHOLE / (double)count);
}

/* What holds back the first task that is not done, or "". */
static void find_obstacle(struct text document, const struct cli_task *tasks, size_t count,
                          char *out, size_t capacity)
{
    struct buf plain = {0};
    size_t i = 0;

    out[0] = '\0';
    while (i < count && tasks[i].is_done)
        i++;
    if (i < count) {
        struct text account = find_account(document, tasks[i].account);

        if (is_string(account, "state", "rate_limited"))
            snprintf(out, capacity, ", Close asks for a pause");
        else if (is_string(account, "state", "failing"))
            snprintf(out, capacity, ", tries again: %s",
                     cli_json_plain(cli_json_member(account, "error"), &plain));
        else if (json_is_string(cli_json_member(account, "waits_for")))
            snprintf(out, capacity, ", waits: %s",
                     cli_json_plain(cli_json_member(account, "waits_for"), &plain));
    }
    buf_release(&plain);
}

void cli_catch_up_show(struct cli_progress *progress, struct text answer,
                       const struct cli_task *tasks, size_t count, int64_t now_ms)
{
    struct text document = json_document(answer);
    uint64_t read;
    uint64_t eta_s;
    unsigned share = share_of(document, tasks, count, &read, &eta_s);
    char obstacle[300];
    char rest[60] = "";
    char text[400];

    find_obstacle(document, tasks, count, obstacle, sizeof(obstacle));
    if (eta_s > 0)
        snprintf(rest, sizeof(rest), ", about %" PRIu64 " s to go", eta_s);
    snprintf(text, sizeof(text), "read %" PRIu64 "%s%s", read, rest, obstacle);
    cli_progress_show(progress, share, WHOLE, text, now_ms);
}
