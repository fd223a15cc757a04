/*
 * journal: what the journal of a bridge that does not run holds, whether its file is sound, making
 * a new one of what is, and forgetting a publisher that was removed.
 */
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_store.h"
#include "bridge/config/config.h"
#include "bridge/journal/journal.h"
#include "bridge/journal/journal_salvage.h"

/* What the command line says. */
struct request {
    const char *config_path;
    const char *path; /* of the journal, instead of a configuration */
    bool is_child;    /* of a bridge that starts */
    bool is_quick;
    const char *action;
    const char *publisher; /* of drop-publisher */
};

/* Its errors concern the folder: somebody uses it, or it is not what it should be. */
static int fail(const struct request *request, const struct error *err)
{
    fprintf(stderr, "%s%s\n", request->is_child ? "" : "close-bridge journal: ", err->message);
    switch (err->kind) {
    case ERROR_CONFIG: /* a bridge that starts must tell it from a folder in use */
        return request->is_child ? EX_CONFIG : EX_UNAVAILABLE;
    case ERROR_IN_USE:
        return EX_UNAVAILABLE;
    case ERROR_INPUT:
        return EX_DATAERR;
    case ERROR_NONE:
    case ERROR_TRANSIENT:
    case ERROR_FATAL:
        break;
    }
    return EX_IOERR;
}

static int no_journal(const char *path)
{
    fprintf(stderr, "close-bridge journal: there is no journal in %s\n", path);
    return EX_NOINPUT;
}

/* ---- stats and drop-publisher ---- */

static void print_cursor(void *context, const char *publisher, uint64_t seq)
{
    const struct journal_numbers *numbers = context;

    printf("publisher %-10s at event %" PRIu64 ", %" PRIu64 " behind\n", publisher, seq,
           numbers->tail - seq);
}

static void print_parked(void *context, const char *publisher, const char *topic, uint64_t count,
                         int64_t first_ms, const char *reason)
{
    struct buf since = {0};

    (void)context;
    buf_append_utc(&since, first_ms);
    printf("parked %" PRIu64 " for %s topic %s: %s since %s\n", count, publisher, topic, reason,
           since.data ? since.data : "");
    buf_release(&since);
}

static int print_stats(struct journal *journal, struct error *err)
{
    struct journal_reader *reader = journal_reader_open(journal, err);
    struct journal_numbers numbers;
    int rc;

    if (!reader)
        return -1;
    journal_numbers(journal, &numbers);
    printf("events %" PRIu64 " to %" PRIu64 "\nspace %" PRIu64 " of %" PRIu64
           " bytes\ndead letters %" PRIu64 ", %" PRIu64 " of %" PRIu64 " bytes\n",
           numbers.head, numbers.tail, numbers.bytes, numbers.max_bytes, numbers.dead_count,
           numbers.dead_bytes, numbers.dead_max_bytes);
    journal_visit_cursors(journal, print_cursor, &numbers);
    rc = journal_visit_parked(reader, print_parked, NULL, err);
    journal_reader_close(reader);
    return rc;
}

static bool is_configured(const struct config *config, const char *publisher)
{
    return (config->kafka.is_configured && strcmp(publisher, "kafka") == 0) ||
           (config->mqtt.is_configured && strcmp(publisher, "mqtt") == 0);
}

static int use_journal(const struct request *request, struct journal *journal)
{
    struct error err = {0};

    if (!request->publisher)
        return print_stats(journal, &err) < 0 ? fail(request, &err) : EX_OK;
    if (journal_drop_publisher(journal, request->publisher, &err) < 0)
        return fail(request, &err);
    printf("%s is forgotten; events that were kept for it alone will be deleted\n",
           request->publisher);
    return EX_OK;
}

static int open_and_use(const struct request *request, const struct config *config)
{
    int rc;
    struct journal *journal = cli_open_journal("journal", config, &rc);

    if (!journal)
        return rc;
    rc = use_journal(request, journal);
    journal_close(journal);
    return rc;
}

/* ---- verify ---- */

static int verify(const struct request *request, const char *path)
{
    struct verify_report report;
    struct error err = {0};
    enum verify_depth depth = request->is_quick   ? VERIFY_PAGES
                              : request->is_child ? VERIFY_PENDING
                                                  : VERIFY_ALL;
    int rc = journal_verify(path, depth, &report, &err);

    if (rc == 0)
        return no_journal(path);
    if (rc < 0)
        return fail(request, &err);
    if (report.is_foreign) {
        error_set(&err, ERROR_CONFIG,
                  "%s/data.mdb is a database of something else; give the journal a folder of its "
                  "own",
                  path);
        fail(request, &err);
        return EX_CONFIG;
    }
    if (report.is_sound && depth != VERIFY_ALL)
        printf("sound: %" PRIu64 " bytes\n", report.bytes);
    else if (report.is_sound)
        printf("sound: %" PRIu64 " bytes, %" PRIu64 " events, %" PRIu64 " parked records, %" PRIu64
               " dead letters, %" PRIu64 " batches of marks\n",
               report.bytes, report.events, report.entries[STORE_PARKED],
               report.entries[STORE_DEAD], report.entries[STORE_MARKS]);
    else
        printf("damaged: %s (%" PRIu64 " problem%s)\n", report.first_problem, report.problems,
               report.problems == 1 ? "" : "s");
    return report.is_sound ? EX_OK : EX_DATAERR;
}

/* ---- salvage ---- */

static void print_lost(const struct salvage_report *report)
{
    struct buf line = {0};

    buf_printf(&line, "lost: %" PRIu64 " accepted event%s, received", report->lost,
               report->lost == 1 ? "" : "s");
    if (report->lost_since_ms) {
        buf_append_string(&line, " after ");
        buf_append_utc(&line, report->lost_since_ms);
    }
    if (report->lost_until_ms) {
        buf_append_string(&line, report->lost_since_ms ? " and before " : " before ");
        buf_append_utc(&line, report->lost_until_ms);
    }
    buf_append_string(&line, "; Close's Event Log has them: catch up from that time");
    puts(line.data ? line.data : "");
    buf_release(&line);
}

static void print_salvage(const struct salvage_report *report)
{
    if (report->set_aside[0])
        printf("the old file is kept: %s\n", report->set_aside);
    printf("kept: %" PRIu64 " events, %" PRIu64 " of them to be published, %" PRIu64
           " parked records, %" PRIu64 " dead letters, %" PRIu64 " marks, %" PRIu64 " cursors\n",
           report->events, report->to_publish, report->parked, report->dead, report->marks,
           report->cursors);
    if (report->lost)
        print_lost(report);
    if (!report->are_cursors_known)
        puts("the cursors are damaged: every publisher begins with the oldest event, so consumers "
             "see some again");
    if (!report->is_whole)
        puts("the search was given up: the file holds more damaged values than sound ones");
}

static int salvage(const struct request *request, const char *path)
{
    struct salvage_report report;
    struct error err = {0};
    int rc = journal_salvage(path, &clock_system, &report, &err);

    if (rc == 0)
        return no_journal(path);
    if (rc < 0)
        return fail(request, &err);
    print_salvage(&report);
    return EX_OK;
}

/* ---- the command line ---- */

/* verify and salvage need nothing but the folder. */
static bool is_of_file(const struct request *request)
{
    return strcmp(request->action, "verify") == 0 || strcmp(request->action, "salvage") == 0;
}

static int read_arguments(int argc, char **argv, struct request *request)
{
    const char *action = argc > 0 ? argv[0] : "";

    request->action = action;
    request->publisher = argc == 2 ? argv[1] : NULL;
    if (strcmp(action, "drop-publisher") == 0 && argc == 2)
        return EX_OK;
    if (argc == 1 && (strcmp(action, "stats") == 0 || is_of_file(request)))
        return EX_OK;
    return cli_usage_error("journal", "say stats, verify, salvage or drop-publisher NAME");
}

static int read_request(int argc, char **argv, struct request *request)
{
    const struct cli_option options[] = {CLI_OPTION_CONFIG(&request->config_path),
                                         {.name = "path", .value = &request->path},
                                         {.name = "quick", .flag = &request->is_quick},
                                         {.name = "child", .flag = &request->is_child},
                                         {0}};
    int rc = cli_read_options("journal", options, &argc, &argv);

    return rc == EX_OK ? read_arguments(argc, argv, request) : rc;
}

static int work_on_file(const struct request *request, const char *path)
{
    return strcmp(request->action, "verify") == 0 ? verify(request, path) : salvage(request, path);
}

static int work_with_config(const struct request *request)
{
    int rc;
    struct config *config = cli_load_config(cli_config_path(request->config_path), &rc);

    if (!config)
        return rc;
    if (config->journal.acknowledge == ACKNOWLEDGE_BROKER) {
        fprintf(stderr, "close-bridge journal: with acknowledge: broker there is no journal\n");
        rc = EX_CONFIG;
    } else if (is_of_file(request)) {
        rc = work_on_file(request, config->journal.path);
    } else if (request->publisher && is_configured(config, request->publisher)) {
        fprintf(stderr,
                "close-bridge journal: %s is configured: remove it from the configuration first\n",
                request->publisher);
        rc = EX_USAGE;
    } else {
        rc = open_and_use(request, config);
    }
    config_free(config);
    return rc;
}

static int run(int argc, char **argv)
{
    struct request request = {.action = ""};
    int rc = read_request(argc, argv, &request);

    if (rc != EX_OK)
        return rc;
    assert(request.action); /* it was read */
    if (request.path && !is_of_file(&request))
        return cli_usage_error("journal", "--path goes with verify and salvage");
    log_configure(LOG_ERROR, LOG_LOGFMT);
    if (request.is_child)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* else it would keep the journal locked */
    return request.path ? work_on_file(&request, request.path) : work_with_config(&request);
}

const struct command cli_journal = {
    "journal", "look into the journal of a bridge that does not run",
    "usage: close-bridge journal [-c FILE] stats\n"
    "       close-bridge journal [-c FILE | --path FOLDER] verify [--quick]\n"
    "       close-bridge journal [-c FILE | --path FOLDER] salvage\n"
    "       close-bridge journal [-c FILE] drop-publisher NAME\n"
    "\n"
    "stats says what the journal holds and how far each publisher is.\n"
    "verify reads the whole file and says whether it is sound; with --quick it leaves out events\n"
    "and letters. A bridge that was not stopped in order does that at its next start, without the\n"
    "events that are delivered.\n"
    "salvage builds a new file of all that is sound: events, cursors, parked records, dead\n"
    "letters, marks of what was received. The old file is kept beside it. A bridge that finds\n"
    "its journal damaged does that by itself.\n"
    "drop-publisher forgets a publisher that is configured no more: until then its events are\n"
    "kept for it, and /readyz shows it as removed.\n"
    "The bridge must not be running.\n"
    "\n"
    "exit codes: 0 done or sound, 64 usage, 65 damaged or no such publisher, 66 no such file or\n"
    "journal, 69 the journal is in use or cannot be opened, 74 its disk fails, 78 as for check, "
    "or\n"
    "the file is another program's.\n"
    "\n"
    "example: close-bridge journal -c close-bridge.yaml verify\n",
    run};
