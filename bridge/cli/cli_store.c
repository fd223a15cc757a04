#include "bridge/cli/cli_store.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/cli/cli_control.h"
#include "bridge/config/config.h"
#include "bridge/journal/journal.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/json_reader.h"

enum { ANSWER_MS = 60000 };

static int fail(const char *command, const char *message, int exit_code)
{
    fprintf(stderr, "close-bridge %s: %s\n", command, message);
    return exit_code;
}

/* Zero, or the exit code. */
static int check(const char *command, const char *path)
{
    struct verify_report report;
    struct error err = {0};
    int rc = journal_verify(path, VERIFY_PAGES, &report, &err);

    if (rc < 0)
        return fail(command, err.message,
                    err.kind == ERROR_CONFIG || err.kind == ERROR_IN_USE ? EX_UNAVAILABLE
                                                                         : EX_IOERR);
    if (rc == 0)
        error_set(&err, ERROR_INPUT, "there is no journal in %s", path);
    else if (!report.is_sound)
        error_set(&err, ERROR_INPUT,
                  "the journal in %s is damaged (%s): start the bridge, which salvages it, or say "
                  "close-bridge journal salvage",
                  path, report.first_problem);
    else
        return 0;
    return fail(command, err.message, rc == 0 ? EX_NOINPUT : EX_DATAERR);
}

struct journal *cli_open_journal(const char *command, const struct config *config,
                                 int *out_exit_code)
{
    struct journal_options options = {.path = config->journal.path,
                                      .max_size = config->journal.max_size,
                                      .retention_ms = config->journal.retention_ms,
                                      .dedupe_window_ms = config->journal.dedupe_window_ms,
                                      .dedupe_max = config->journal.dedupe_max};
    struct error err = {0};
    struct journal *journal;

    *out_exit_code = check(command, config->journal.path);
    if (*out_exit_code)
        return NULL;
    journal = journal_open(&options, &clock_system, &err);
    if (!journal)
        *out_exit_code = fail(command, err.message, EX_UNAVAILABLE);
    return journal;
}

static int ask_journal(const struct cli_question *question, const struct config *config,
                       struct buf *out_json)
{
    int rc = question->without_daemon(question->context, config, out_json);

    if (rc == EX_OK && buf_reserve(out_json, JSON_PADDING))
        memset(out_json->data + out_json->size, 0, JSON_PADDING);
    return rc == EX_OK && out_json->failed ? fail(question->command, "out of memory", EX_OSERR)
                                           : rc;
}

/* Without a journal either, why the bridge was not asked is of interest too. */
static int ask_journal_alone(const struct cli_question *question, const struct config *config,
                             const char *problem, struct buf *out_json)
{
    int rc = ask_journal(question, config, out_json);

    return rc == EX_NOINPUT ? fail(question->command, problem, rc) : rc;
}

int cli_ask(const struct cli_question *question, const struct config *config, struct buf *out_json)
{
    struct control_answer answer;
    enum control_outcome outcome =
        cli_control_ask(config, question->method, question->path, ANSWER_MS, &answer);
    int rc = EX_OK;

    if (outcome == CONTROL_NOBODY && config->journal.acknowledge == ACKNOWLEDGE_JOURNAL)
        rc = ask_journal_alone(question, config, answer.problem, out_json);
    else if (outcome != CONTROL_ANSWERED)
        rc = fail(question->command, answer.problem, EX_UNAVAILABLE);
    else if (answer.status < 200 || answer.status > 299)
        rc = cli_control_refused(question->command, &answer);
    else {
        *out_json = answer.body;
        answer.body = (struct buf){0};
    }
    buf_release(&answer.body);
    return rc;
}
