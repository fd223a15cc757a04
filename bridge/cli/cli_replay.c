/*
 * replay: asks the running bridge to publish events of its journal again, and follows how it goes.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_progress.h"
#include "bridge/config/config.h"
#include "bridge/config/moment.h"
#include "schemas/json_scan.h"

enum { ANSWER_MS = 60000, ASK_EVERY_MS = 200, TRIES = 25 };

enum action { START, FOLLOW, STOP };

struct options {
    enum action action;
    const char *config_path;
    const char *since;
    const char *until;
    const char *object_type;
    const char *publisher;
    const char *topic;
    const char *account;
    bool is_dry_run;
    bool as_json;
};

/* The bridge's latest answer. */
struct view {
    struct buf json;
    struct text replay; /* inside it */
};

static const char command_name[] = "replay";
static const char path[] = "/control/replay";
static volatile sig_atomic_t is_interrupted;

static uint64_t number(struct text object, const char *name)
{
    uint64_t value = 0;

    text_to_u64(cli_json_member(object, name), &value);
    return value;
}

static bool is(struct text object, const char *name, const char *wanted)
{
    struct text value = cli_json_member(object, name);

    return text_equal_string(json_is_string(value) ? json_string_inside(value) : value, wanted);
}

/* ---- asking ---- */

/* Takes the answer into `view`. Returns the exit code, when it has said why. */
static int look(const struct config *config, const char *method, const char *where,
                struct view *view)
{
    struct control_answer answer;
    int rc = EX_OK;

    if (cli_control_ask(config, method, where, ANSWER_MS, &answer) != CONTROL_ANSWERED) {
        fprintf(stderr, "close-bridge %s: %s\n", command_name, answer.problem);
        rc = EX_UNAVAILABLE;
    } else if (answer.status < 200 || answer.status > 299) {
        rc = cli_control_refused(command_name, &answer);
    } else {
        buf_release(&view->json);
        view->json = answer.body;
        answer.body = (struct buf){0};
        if (!cli_json_check(command_name, buf_text(&view->json), &view->replay))
            rc = EX_PROTOCOL;
    }
    buf_release(&answer.body);
    return rc;
}

static int start(const struct options *options, const struct config *config, struct view *view)
{
    struct buf query = {0};
    int rc;

    buf_append_string(&query, path);
    cli_control_append_parameter(&query, "since", options->since);
    cli_control_append_parameter(&query, "until", options->until);
    cli_control_append_parameter(&query, "object_type", options->object_type);
    cli_control_append_parameter(&query, "publisher", options->publisher);
    cli_control_append_parameter(&query, "topic", options->topic);
    cli_control_append_parameter(&query, "account", options->account);
    cli_control_append_parameter(&query, "dry_run", options->is_dry_run ? "true" : NULL);
    rc = look(config, "POST", buf_text(&query).data, view);
    buf_release(&query);
    return rc;
}

/* ---- for people ---- */

static void print_reach(struct text replay)
{
    struct text oldest = cli_json_member(replay, "oldest_kept");

    if (is(replay, "reaches_back", "true"))
        return;
    fprintf(stderr, "close-bridge %s: the journal does not reach back so far: ", command_name);
    if (json_is_string(oldest))
        fprintf(stderr,
                "its oldest event came %.*s. What was deleted before (see journal.retention) can "
                "only come from Close: close-bridge catch-up\n",
                (int)oldest.size - 2, oldest.data + 1);
    else
        fputs("it keeps no event\n", stderr);
}

static void print_failures(struct text replay, bool is_dry_run)
{
    struct json_cursor cursor;
    struct text failure;

    if (!json_array_begin(&cursor, cli_json_member(replay, "failures")))
        return;
    while (json_array_next(&cursor, &failure)) {
        printf("  ! %" PRIu64 " %s for ", number(failure, "count"),
               is_dry_run ? "would fail" : "failed");
        cli_json_print(failure, "publisher", 0);
        putchar(' ');
        cli_json_print(failure, "topic", 0);
        fputs(": ", stdout);
        cli_json_print(failure, "reason", 0);
        fputs(", of events received from ", stdout);
        cli_json_print(failure, "first", 0);
        fputs(" to ", stdout);
        cli_json_print(failure, "last", 0);
        putchar('\n');
    }
    if (number(replay, "failures_not_listed"))
        printf("  ! %" PRIu64 " more failed for other topics\n",
               number(replay, "failures_not_listed"));
}

static void print_count(uint64_t count, const char *what)
{
    printf("%" PRIu64 " %s%s", count, what, count == 1 ? "" : "s");
}

static void print_left_out(struct text part, const char *member, const char *mark, const char *why)
{
    if (number(part, member) == 0)
        return;
    fputs(mark, stdout);
    print_count(number(part, member), "event");
    printf(" %s\n", why);
}

static void print_publisher(struct text part, bool is_dry_run)
{
    uint64_t sent = number(part, "sent");

    cli_json_print(part, "publisher", 0);
    fputs(": ", stdout);
    print_count(number(part, "events"), "event");
    fputs(", ", stdout);
    if (is_dry_run) {
        print_count(sent, "record");
        puts(" would be sent");
    } else {
        printf("%" PRIu64 " of ", number(part, "delivered"));
        print_count(sent, "record");
        puts(" delivered");
    }
    print_left_out(part, "missing", "  ! ", "deleted before being read, or damaged");
    print_left_out(part, "unrouted", "  ", "without a destination here in the topic map");
    print_left_out(part, "left_to_live", "  ", "left out: still waiting for the first publication");
}

static void print_summary(struct text replay)
{
    bool is_dry_run = is(replay, "dry_run", "true");
    struct json_cursor cursor;
    struct text part;

    if (!json_array_begin(&cursor, cli_json_member(replay, "publishers")))
        return;
    while (json_array_next(&cursor, &part))
        print_publisher(part, is_dry_run);
    print_failures(replay, is_dry_run);
}

static void show(struct cli_progress *progress, struct text replay, int64_t now_ms)
{
    uint64_t read = number(replay, "read");
    uint64_t total = read + number(replay, "remaining");
    struct json_cursor cursor;
    struct text part;
    bool waits = false;
    char text[200];

    if (json_array_begin(&cursor, cli_json_member(replay, "publishers"))) {
        while (json_array_next(&cursor, &part))
            waits = waits || is(part, "state", "waiting");
    }
    snprintf(text, sizeof(text),
             "%s%" PRIu64 " of %" PRIu64 " read, %" PRIu64 " delivered, %" PRIu64 " failed",
             waits ? "waiting for a broker: " : "", read, total, number(replay, "delivered"),
             number(replay, "failed"));
    cli_progress_show(progress, read, total, text, now_ms);
}

/* ---- following ---- */

static void interrupt(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

/* Ends early when it is interrupted. */
static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = ASK_EVERY_MS * 1000000L}, NULL);
}

static int lost(const struct view *view, const char *why)
{
    struct text reached = {NULL, 0};
    struct json_cursor cursor;
    struct text part;

    /* The publisher that is least far decides. */
    if (json_array_begin(&cursor, cli_json_member(view->replay, "publishers"))) {
        while (json_array_next(&cursor, &part)) {
            struct text its = cli_json_member(part, "reached");

            if (!json_is_string(its))
                its = cli_json_member(view->replay, "since");
            if (!reached.data ||
                (its.size == reached.size && memcmp(its.data, reached.data, its.size) < 0))
                reached = its;
        }
    }
    fprintf(stderr, "close-bridge %s: %s; a replay ends with the bridge. To go on: --since %.*s\n",
            command_name, why, reached.size > 2 ? (int)reached.size - 2 : 0,
            reached.size > 2 ? reached.data + 1 : "");
    return EX_TEMPFAIL;
}

/* The next answer; a bridge that does not answer is asked for some seconds. */
static int ask_again(const struct config *config, struct view *view)
{
    struct control_answer answer = {0};
    struct view next = {0};

    for (int i = 0; i < TRIES; i++) {
        if (i > 0)
            pause_a_little();
        buf_release(&answer.body);
        if (cli_control_ask(config, "GET", path, ANSWER_MS, &answer) == CONTROL_ANSWERED)
            break;
    }
    if (answer.status != 200) {
        int rc =
            answer.status ? cli_control_refused(command_name, &answer) : lost(view, answer.problem);

        buf_release(&answer.body);
        return rc;
    }
    next.json = answer.body;
    if (!cli_json_check(command_name, buf_text(&next.json), &next.replay)) {
        buf_release(&next.json);
        return EX_PROTOCOL;
    }
    if (number(next.replay, "id") != number(view->replay, "id")) {
        buf_release(&next.json);
        return lost(view, "the bridge was started anew");
    }
    buf_release(&view->json);
    *view = next;
    return EX_OK;
}

/* Until it ends, or until Ctrl-C, which stops it. */
static int follow(const struct config *config, struct view *view)
{
    struct cli_progress progress;
    int rc = EX_OK;

    sigaction(SIGINT, &(struct sigaction){.sa_handler = interrupt}, NULL);
    cli_progress_begin(&progress, clock_monotonic_ms(&clock_system));
    while (rc == EX_OK && is(view->replay, "state", "running")) {
        show(&progress, view->replay, clock_monotonic_ms(&clock_system));
        pause_a_little();
        if (is_interrupted) {
            cli_progress_clear(&progress);
            return look(config, "DELETE", path, view);
        }
        rc = ask_again(config, view);
        if (rc != EX_OK)
            cli_progress_clear(&progress);
    }
    cli_progress_clear(&progress);
    return rc;
}

/* ---- the command ---- */

static bool is_all_delivered(struct text replay)
{
    if (!is(replay, "state", "done") || number(replay, "failed") || number(replay, "missing"))
        return false;
    return is(replay, "dry_run", "true") || number(replay, "sent") == number(replay, "delivered");
}

static int conclude(const struct options *options, const struct view *view)
{
    if (options->as_json)
        puts(buf_text(&view->json).data);
    else
        print_summary(view->replay);
    if (is_all_delivered(view->replay))
        return EX_OK;
    fflush(stdout);
    fprintf(stderr, "close-bridge %s: %s\n", command_name,
            is(view->replay, "state", "stopped") ? "it was stopped: not everything was sent"
                                                 : "not everything was delivered");
    return EX_TEMPFAIL;
}

static int run_actions(const struct options *options, const struct config *config,
                       struct view *view)
{
    int rc;

    if (options->action == STOP) {
        rc = look(config, "DELETE", path, view);
        if (rc == EX_OK && options->as_json)
            puts(buf_text(&view->json).data);
        else if (rc == EX_OK)
            print_summary(view->replay);
        return rc;
    }
    rc = options->action == START ? start(options, config, view) : look(config, "GET", path, view);
    if (rc != EX_OK)
        return rc;
    if (is(view->replay, "state", "none")) {
        fprintf(stderr, "close-bridge %s: there was none since the bridge was started\n",
                command_name);
        return EX_OK;
    }
    print_reach(view->replay);
    rc = follow(config, view);
    return rc == EX_OK ? conclude(options, view) : rc;
}

static int check_options(const struct options *options)
{
    bool has_filters = options->until || options->object_type || options->publisher ||
                       options->topic || options->account || options->is_dry_run;
    int64_t ms;
    int rc;

    if (options->action != START && (options->since || has_filters))
        return cli_usage_error(command_name, "--follow and --stop stand alone");
    if (options->action == START && !options->since)
        return cli_usage_error(command_name, "say since when: --since 72h");
    rc = cli_read_moment(command_name, "since", options->since, &ms);
    return rc == EX_OK ? cli_read_moment(command_name, "until", options->until, &ms) : rc;
}

static int read_options(int argc, char **argv, struct options *options)
{
    bool follows = false;
    bool stops = false;
    const struct cli_option known[] = {CLI_OPTION_CONFIG(&options->config_path),
                                       {.name = "since", .value = &options->since},
                                       {.name = "until", .value = &options->until},
                                       {.name = "object-type", .value = &options->object_type},
                                       {.name = "publisher", .value = &options->publisher},
                                       {.name = "topic", .value = &options->topic},
                                       {.name = "account", .value = &options->account},
                                       {.name = "dry-run", .flag = &options->is_dry_run},
                                       {.name = "json", .flag = &options->as_json},
                                       {.name = "follow", .flag = &follows},
                                       {.name = "stop", .flag = &stops},
                                       {0}};
    int rc = cli_read_only_options(command_name, known, argc, argv);

    if (rc == EX_OK && follows && stops)
        rc = cli_usage_error(command_name, "--follow and --stop stand alone");
    options->action = follows ? FOLLOW : stops ? STOP : START;
    return rc;
}

static int run(int argc, char **argv)
{
    struct options options = {.action = START};
    struct view view = {0};
    struct config *config;
    int rc = read_options(argc, argv, &options);

    if (rc == EX_OK)
        rc = check_options(&options);
    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(options.config_path), &rc);
    if (!config)
        return rc;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    rc = run_actions(&options, config, &view);
    buf_release(&view.json);
    config_free(config);
    return rc;
}

const struct command cli_replay = {
    "replay", "publish events of the journal again",
    "usage: close-bridge replay [-c FILE] --since WHEN [--until WHEN] [--object-type TYPE]\n"
    "                           [--publisher kafka|mqtt] [--topic TOPIC] [--account NAME]\n"
    "                           [--dry-run] [--json]\n"
    "       close-bridge replay [-c FILE] --follow | --stop [--json]\n"
    "\n"
    "Publishes again what the bridge received since WHEN and still keeps (journal.retention), by\n"
    "the topic map now in force, marked with ce_closereplay: true. WHEN is a point in time such "
    "as\n"
    "2026-01-31T12:00:00Z, a day such as 2026-01-31 (UTC), or how long ago, such as 72h; --until "
    "is\n"
    "now unless given. The options narrow it: TYPE may be a prefix such as activity.*, and "
    "--topic\n"
    "is a topic that events go to now.\n"
    "\n"
    "Live events go first, and the order of a key is kept. Records that fail are reported, "
    "neither\n"
    "parked nor made dead letters; records for a topic that is parked are left out and reported.\n"
    "Events that wait for their first publication are left to it. A replay ends with the bridge.\n"
    "\n"
    "Shows the progress until the end; Ctrl-C stops the replay. --dry-run counts what would be\n"
    "sent. --follow shows the one that runs, or the last one; --stop stops it. --json prints the\n"
    "answer of GET /control/replay at the end.\n"
    "\n"
    "exit codes: 0 everything was delivered, 64 usage, 65 the bridge refuses (one runs already, "
    "or\n"
    "with acknowledge: broker it keeps no events), 69 no bridge answers, 75 not everything was\n"
    "delivered, 77 the control token is wrong, 66 and 78 as for check.\n"
    "\n"
    "example: close-bridge replay --since 72h --object-type lead --publisher kafka\n",
    run};
