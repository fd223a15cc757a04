/*
 * catch-up: has the running bridge read Close's Event Log, and shows how far it is.
 */
#include "bridge/cli/cli_catch_up.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_progress.h"
#include "bridge/config/config.h"
#include "bridge/config/moment.h"
#include "schemas/json_scan.h"

enum { ANSWER_MS = 60 * 1000, LOOK_MS = 500, TASKS_MAX = 1000 };

static const char command_name[] = "catch-up";

static volatile sig_atomic_t is_interrupted;

struct options {
    const char *config_path;
    const char *since;
    const char *until;
    const char *account;
    const char *object_type;
    const char *action;
    bool is_dry_run;
    bool is_cancel;
    bool does_not_wait;
    bool as_json;
};

/* ---- asking ---- */

/* `*out_answer` is released by the caller. Returns an exit code. */
static int ask(const struct config *config, const char *method, const char *path,
               struct control_answer *out_answer)
{
    enum control_outcome outcome = cli_control_ask(config, method, path, ANSWER_MS, out_answer);

    if (outcome != CONTROL_ANSWERED) {
        fprintf(stderr, "close-bridge %s: %s%s\n", command_name, out_answer->problem,
                outcome == CONTROL_NOBODY ? "; the bridge has to run" : "");
        return EX_UNAVAILABLE;
    }
    if (out_answer->status >= 200 && out_answer->status <= 299)
        return EX_OK;
    return cli_control_refused(command_name, out_answer);
}

/* ---- waiting ---- */

static bool is_settled(const struct cli_task *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!tasks[i].is_done && !tasks[i].has_failed)
            return false;
    }
    return true;
}

static int exit_code_of(const struct cli_task *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tasks[i].has_failed)
            return EX_UNAVAILABLE;
    }
    return EX_OK;
}

static void interrupt(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

static int look_once(const struct config *config, struct cli_progress *progress,
                     struct cli_task *tasks, size_t count)
{
    struct control_answer answer = {0};
    int rc = ask(config, "GET", "/control/catch-up", &answer);

    cli_progress_clear(progress); /* what is printed takes the place of the bar */
    if (rc == EX_OK && cli_catch_up_look(command_name, buf_text(&answer.body), tasks, count) < 0)
        rc = EX_PROTOCOL;
    if (rc == EX_OK && !is_settled(tasks, count))
        cli_catch_up_show(progress, buf_text(&answer.body), tasks, count,
                          clock_monotonic_ms(&clock_system));
    buf_release(&answer.body);
    return rc;
}

/* Until all are done, or until Ctrl-C, which ends the waiting alone. */
static int wait_for(const struct config *config, struct cli_task *tasks, size_t count)
{
    const struct timespec pause = {LOOK_MS / 1000, (long)(LOOK_MS % 1000) * 1000000};
    struct cli_progress progress;
    int rc = EX_OK;

    sigaction(SIGINT, &(struct sigaction){.sa_handler = interrupt}, NULL);
    cli_progress_begin(&progress, clock_monotonic_ms(&clock_system));
    while (rc == EX_OK && !is_settled(tasks, count)) {
        nanosleep(&pause, NULL); /* ends early when it is interrupted */
        if (!is_interrupted)
            rc = look_once(config, &progress, tasks, count);
        if (is_interrupted)
            break;
    }
    cli_progress_clear(&progress);
    if (!is_interrupted || is_settled(tasks, count))
        return rc == EX_OK ? exit_code_of(tasks, count) : rc;
    fprintf(stderr,
            "close-bridge %s: no longer waited for; the bridge goes on. close-bridge catch-up "
            "shows how far it is, with --cancel it is given up\n",
            command_name);
    return EX_TEMPFAIL;
}

/* ---- what was asked for ---- */

static size_t read_tasks(struct text document, struct cli_task *tasks)
{
    struct json_cursor cursor;
    struct text item;
    size_t count = 0;

    if (!json_array_begin(&cursor, cli_json_member(document, "tasks")))
        return 0;
    while (count < TASKS_MAX && json_array_next(&cursor, &item)) {
        struct buf name = {0};

        snprintf(tasks[count].account, sizeof(tasks[count].account), "%s",
                 cli_json_plain(cli_json_member(item, "account"), &name));
        buf_release(&name);
        if (text_to_u64(cli_json_member(cli_json_member(item, "task"), "id"), &tasks[count].id))
            count++;
    }
    return count;
}

static void print_warnings(struct text document)
{
    struct json_cursor cursor;
    struct text warning;

    if (!json_array_begin(&cursor, cli_json_member(document, "warnings")))
        return;
    while (json_array_next(&cursor, &warning)) {
        struct buf plain = {0};

        fprintf(stderr, "close-bridge %s: warning: %s\n", command_name,
                cli_json_plain(warning, &plain));
        buf_release(&plain);
    }
}

static int follow(const struct options *options, const struct config *config, struct text answer)
{
    static struct cli_task tasks[TASKS_MAX];
    struct text document;
    size_t count;

    if (!cli_json_check(command_name, answer, &document))
        return EX_PROTOCOL;
    print_warnings(document);
    count = read_tasks(document, tasks);
    if (options->as_json)
        printf("%s\n", answer.data);
    if (!options->does_not_wait)
        return wait_for(config, tasks, count);
    for (size_t i = 0; i < count && !options->as_json; i++)
        printf("%s: task %" PRIu64 "; close-bridge catch-up shows how far it is\n",
               tasks[i].account, tasks[i].id);
    return EX_OK;
}

static int begin(const struct options *options, const struct config *config)
{
    struct control_answer answer = {0};
    struct buf path = {0};
    int rc;

    buf_append_string(&path, "/control/catch-up");
    cli_control_append_parameter(&path, "since", options->since);
    cli_control_append_parameter(&path, "until", options->until);
    cli_control_append_parameter(&path, "account", options->account);
    cli_control_append_parameter(&path, "object_type", options->object_type);
    cli_control_append_parameter(&path, "action", options->action);
    cli_control_append_parameter(&path, "dry_run", options->is_dry_run ? "true" : NULL);
    rc = ask(config, "POST", path.data, &answer);
    if (rc == EX_OK)
        rc = follow(options, config, buf_text(&answer.body));
    buf_release(&path);
    buf_release(&answer.body);
    return rc;
}

static int cancel(const struct options *options, const struct config *config)
{
    struct control_answer answer = {0};
    struct text document;
    struct buf path = {0};
    int rc;

    buf_append_string(&path, "/control/catch-up");
    cli_control_append_parameter(&path, "account", options->account);
    rc = ask(config, "DELETE", path.data, &answer);
    if (rc == EX_OK && !cli_json_check(command_name, buf_text(&answer.body), &document))
        rc = EX_PROTOCOL;
    if (rc == EX_OK) {
        fputs("cancelled: ", stdout);
        cli_json_print(document, "cancelled", 0);
        putchar('\n');
    }
    buf_release(&path);
    buf_release(&answer.body);
    return rc;
}

static int show(const struct options *options, const struct config *config)
{
    struct control_answer answer = {0};
    int rc = ask(config, "GET", "/control/catch-up", &answer);

    if (rc == EX_OK && options->as_json)
        printf("%s\n", buf_text(&answer.body).data);
    else if (rc == EX_OK)
        rc = cli_catch_up_print(command_name, buf_text(&answer.body));
    buf_release(&answer.body);
    return rc;
}

/* ---- the command ---- */

static int check_options(const struct options *options)
{
    bool has_selection = options->until || options->object_type || options->action ||
                         options->is_dry_run || options->does_not_wait;
    int64_t ms;
    int rc;

    if (options->is_cancel && (options->since || has_selection))
        return cli_usage_error(command_name, "--cancel goes with --account only");
    if (!options->since && has_selection)
        return cli_usage_error(command_name, "--since is missing: where in time to begin");
    rc = cli_read_moment(command_name, "since", options->since, &ms);
    return rc == EX_OK ? cli_read_moment(command_name, "until", options->until, &ms) : rc;
}

static int read_options(int argc, char **argv, struct options *options)
{
    const struct cli_option known[] = {CLI_OPTION_CONFIG(&options->config_path),
                                       {.name = "since", .value = &options->since},
                                       {.name = "until", .value = &options->until},
                                       {.name = "account", .value = &options->account},
                                       {.name = "object-type", .value = &options->object_type},
                                       {.name = "action", .value = &options->action},
                                       {.name = "dry-run", .flag = &options->is_dry_run},
                                       {.name = "cancel", .flag = &options->is_cancel},
                                       {.name = "no-wait", .flag = &options->does_not_wait},
                                       {.name = "json", .flag = &options->as_json},
                                       {0}};
    int rc = cli_read_only_options(command_name, known, argc, argv);

    return rc == EX_OK ? check_options(options) : rc;
}

static int run_catch_up(int argc, char **argv)
{
    struct options options = {0};
    struct config *config;
    int rc = read_options(argc, argv, &options);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(options.config_path), &rc);
    if (!config)
        return rc;
    if (options.is_cancel)
        rc = cancel(&options, config);
    else
        rc = options.since ? begin(&options, config) : show(&options, config);
    config_free(config);
    return rc;
}

const struct command cli_catch_up = {
    "catch-up", "fetch what no webhook brought from Close's Event Log",
    "usage: close-bridge catch-up [-c FILE] --since TIME [--until TIME] [--account NAME]\n"
    "                             [--object-type TYPE] [--action ACTION] [--dry-run] [--no-wait]\n"
    "                             [--json]\n"
    "       close-bridge catch-up [-c FILE] [--json]\n"
    "       close-bridge catch-up [-c FILE] --cancel [--account NAME]\n"
    "\n"
    "Has the running bridge read Close's Event Log and publish what it has not had yet, oldest\n"
    "first; live events go before. Waits for the end and shows a bar on a terminal; the bridge "
    "goes\n"
    "on when the command is stopped, and after a restart. Without --since it shows how far every\n"
    "account is. Accounts need api_key or oauth_token; an admin's, for Close shows others no data\n"
    "of events that are older than an hour.\n"
    "\n"
    "TIME is 2026-01-31T12:00:00Z, a day such as 2026-01-31 (UTC), or how long ago, such as 72h.\n"
    "Close keeps 30 days. They are what changed, not all that there is.\n"
    "\n"
    "--account      only this one; every account with credentials otherwise\n"
    "--object-type  only these events: exact, or activity.*; with --action ACTION\n"
    "--dry-run      only counts: how many the topic map would take, known ones among them\n"
    "--no-wait      does not wait for the end\n"
    "--cancel       gives up what was asked for and is not done\n"
    "--json         prints the answer of the control listener\n"
    "\n"
    "exit codes: 0 done, 64 usage, 65 the bridge refuses it, 66 no configuration file, 69 no "
    "bridge\n"
    "answers, or Close's log cannot be read, 75 no longer waited for (Ctrl-C), the bridge goes "
    "on,\n"
    "77 the control token is wrong, 78 mistakes in the configuration.\n"
    "\n"
    "example: close-bridge catch-up --since 2026-11-20T00:00:00Z --dry-run\n",
    run_catch_up};
