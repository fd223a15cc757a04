#include "bridge/journal_guard.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/child.h"
#include "bridge/journal_salvage.h"
#include "bridge/journal_store.h"

/* A slow disk reads 100 MB in a second. */
enum {
    VERIFY_MS = 20000,
    VERIFY_MS_PER_GIB = 20000,
    SALVAGE_MS = 60000,
    SALVAGE_MS_PER_GIB = 60000,
    PATH_SIZE = 4200,
};

static const uint64_t gib = UINT64_C(1) << 30;

static bool find_file(const char *path, const char *name, uint64_t *out_size)
{
    char full[PATH_SIZE];
    struct stat st;

    snprintf(full, sizeof(full), "%s/%s", path, name);
    if (stat(full, &st) < 0)
        return false;
    *out_size = (uint64_t)st.st_size;
    return true;
}

static int64_t time_for(uint64_t size, int64_t least_ms, int64_t ms_per_gib)
{
    return least_ms + (int64_t)(size / (gib / 1024)) * ms_per_gib / 1024;
}

/* Every line that it printed, into our log. */
static void log_output(enum log_level level, const char *event, const struct buf *output)
{
    const char *at = output->data ? output->data : "";

    while (*at) {
        size_t size = strcspn(at, "\n");

        if (size)
            log_write(level, event, LOG_FIELDS(log_text("report", (struct text){at, size})));
        at += size + (at[size] == '\n');
    }
}

static void first_line(const struct buf *output, char *out, size_t capacity)
{
    const char *text = output->data ? output->data : "it said nothing";

    snprintf(out, capacity, "%.*s", (int)strcspn(text, "\n"), text);
}

static void describe_end(const struct child_result *result, char *out, size_t capacity)
{
    if (result->exit_code >= 0)
        first_line(&result->output, out, capacity);
    else if (result->signal)
        snprintf(out, capacity, "reading it ended with signal %d (%s)", result->signal,
                 strsignal(result->signal));
    else
        snprintf(out, capacity, "reading it did not end in time");
}

static int run(const char *what, const char *how, const char *path, int64_t timeout_ms,
               struct child_result *result, struct error *err)
{
    const char *const arguments[] = {"journal", "--path", path, "--child", what, how, NULL};

    return child_run(arguments, timeout_ms, result, err);
}

/* The last resort, for a file that not even the search gets through: it is kept, and said so. */
static int give_up(const char *path, const char *why, struct error *err)
{
    char name[SALVAGE_NAME_SIZE];

    if (journal_set_aside(path, &clock_system, name, err) < 0)
        return -1;
    log_error("journal.not_salvaged", log_str("path", path), log_str("set_aside", name),
              log_str("error", why),
              log_str("action", "a new journal is begun; keep the file and report this"));
    return 0;
}

/* Of an exit code of `journal --child`. */
static enum error_kind kind_of(int exit_code)
{
    return exit_code == EX_CONFIG        ? ERROR_CONFIG
           : exit_code == EX_UNAVAILABLE ? ERROR_IN_USE
                                         : ERROR_TRANSIENT;
}

static int salvage(const char *path, uint64_t size, struct error *err)
{
    struct child_result result;
    char why[300];
    int rc =
        run("salvage", NULL, path, time_for(size, SALVAGE_MS, SALVAGE_MS_PER_GIB), &result, err);

    if (rc < 0)
        return -1;
    describe_end(&result, why, sizeof(why));
    if (result.exit_code == EX_OK)
        log_output(LOG_WARN, "journal.salvaged", &result.output);
    else if (result.exit_code < 0)
        rc = give_up(path, why, err);
    else
        rc = error_set(err, kind_of(result.exit_code), "%s", why);
    buf_release(&result.output);
    return rc;
}

/* The exit code of `journal verify`, with what it said; -1 when it ended otherwise. */
static int run_verify(const char *how, const char *path, uint64_t size, char *why, size_t capacity,
                      struct error *err)
{
    struct child_result result;

    if (run("verify", how, path, time_for(size, VERIFY_MS, VERIFY_MS_PER_GIB), &result, err) < 0)
        return EX_OSERR;
    describe_end(&result, why, capacity);
    buf_release(&result.output);
    return result.exit_code;
}

/* Without room for another file: pages that are sound can be used, and damaged values in them are
 * passed over. */
static enum guard_result salvage_or_go_on(const char *path, uint64_t size, struct error *err)
{
    struct error salvage_err = {0};
    char why[300] = "";

    if (salvage(path, size, &salvage_err) == 0)
        return GUARD_SALVAGED;
    if (run_verify("--quick", path, size, why, sizeof(why), err) != EX_OK) {
        *err = salvage_err;
        return GUARD_FAILED;
    }
    log_error("journal.not_salvaged", log_str("path", path), log_str("error", salvage_err.message),
              log_str("action", "its pages are sound: damaged events in them are passed over"));
    return GUARD_SOUND;
}

static enum guard_result verify(const char *path, uint64_t size, struct error *err)
{
    int64_t started_ms = clock_monotonic_ms(&clock_system);
    char why[300] = "";
    int exit_code = run_verify(NULL, path, size, why, sizeof(why), err);

    if (exit_code == EX_OSERR) {
        log_warn("journal.not_verified", log_str("path", path), log_str("error", err->message));
        return GUARD_PASSED;
    }
    if (exit_code == EX_OK) {
        log_info("journal.verified", log_str("path", path), log_i64("bytes", (int64_t)size),
                 log_i64("ms", clock_monotonic_ms(&clock_system) - started_ms));
        return GUARD_SOUND;
    }
    if (exit_code >= 0 && exit_code != EX_DATAERR) {
        error_set(err, kind_of(exit_code), "%s", why);
        return GUARD_FAILED;
    }
    log_error("journal.damaged", log_str("path", path), log_str("error", why),
              log_str("action", "what is sound in it is salvaged into a new file"));
    return salvage_or_go_on(path, size, err);
}

enum guard_result journal_guard(const char *path, bool is_doubted, struct error *err)
{
    uint64_t size = 0;

    if (!find_file(path, "data.mdb", &size) && !find_file(path, "data.mdb.salvaged", &size))
        return GUARD_PASSED;
    if (!is_doubted && store_is_clean(path))
        return GUARD_PASSED;
    return verify(path, size, err);
}
