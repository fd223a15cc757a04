#include "bridge/journal/journal_guard.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_salvage.h"
#include "bridge/journal/journal_store.h"
#include "bridge/runtime/child.h"

/* A slow disk reads 50 MB in a second, and writes 10. */
enum {
    VERIFY_MS = 20000,
    VERIFY_MS_PER_GIB = 20000,
    SALVAGE_MS = 300000,
    SALVAGE_MS_PER_GIB = 120000,
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

/* What a wrong file does to who reads it; else somebody, or the lack of memory, has ended it. */
static bool has_crashed(const struct child_result *result)
{
    return result->signal == SIGSEGV || result->signal == SIGBUS || result->signal == SIGABRT ||
           result->signal == SIGFPE || result->signal == SIGILL;
}

static bool was_too_slow(const struct child_result *result)
{
    return result->exit_code < 0 && result->signal == 0;
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
    else if (was_too_slow(&result) || has_crashed(&result))
        rc = give_up(path, why, err);
    else
        rc = error_set(err, kind_of(result.exit_code), "%s", why);
    buf_release(&result.output);
    return rc;
}

enum finding { FOUND_SOUND, FOUND_DAMAGE, FOUND_NOTHING, FOUND_ERROR };

/* Reads the file, or with "--quick" as `how` its pages. Says why it is not sound. */
static enum finding examine(const char *path, const char *how, uint64_t size, struct error *out_why)
{
    struct child_result result;
    enum finding finding = FOUND_ERROR;

    if (run("verify", how, path, time_for(size, VERIFY_MS, VERIFY_MS_PER_GIB), &result, out_why) <
        0)
        return FOUND_NOTHING;
    describe_end(&result, out_why->message, sizeof(out_why->message));
    out_why->kind = kind_of(result.exit_code);
    if (result.exit_code == EX_OK)
        finding = FOUND_SOUND;
    else if (result.exit_code == EX_DATAERR || has_crashed(&result))
        finding = FOUND_DAMAGE;
    else if (was_too_slow(&result))
        finding = FOUND_NOTHING;
    buf_release(&result.output);
    return finding;
}

/* Without room for another file: pages that are sound can be used, and damaged values in them are
 * passed over. */
static enum guard_result salvage_or_go_on(const char *path, uint64_t size, struct error *err)
{
    struct error why = {0};

    if (salvage(path, size, err) == 0)
        return GUARD_SALVAGED;
    if (examine(path, "--quick", size, &why) != FOUND_SOUND)
        return GUARD_FAILED;
    log_error("journal.not_salvaged", log_str("path", path), log_str("error", err->message),
              log_str("action", "its pages are sound: damaged events in them are passed over"));
    return GUARD_SOUND;
}

static enum guard_result verify(const char *path, uint64_t size, struct error *err)
{
    int64_t started_ms = clock_monotonic_ms(&clock_system);
    struct error why = {0};

    switch (examine(path, NULL, size, &why)) {
    case FOUND_SOUND:
        log_info("journal.verified", log_str("path", path), log_i64("bytes", (int64_t)size),
                 log_i64("ms", clock_monotonic_ms(&clock_system) - started_ms));
        return GUARD_SOUND;
    case FOUND_NOTHING:
        log_warn("journal.not_verified", log_str("path", path), log_str("error", why.message),
                 log_str("action", "it is used as it is"));
        return GUARD_PASSED;
    case FOUND_ERROR:
        *err = why;
        return GUARD_FAILED;
    case FOUND_DAMAGE:
        break;
    }
    log_error("journal.damaged", log_str("path", path), log_str("error", why.message),
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
