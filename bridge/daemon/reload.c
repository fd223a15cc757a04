#include "bridge/daemon/reload.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/thread.h"
#include "bridge/catch_up/catch_up.h"
#include "bridge/config/config.h"
#include "bridge/config/config_diff.h"
#include "bridge/control/control.h"
#include "bridge/daemon/supervisor.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/dispatcher/topic_keeper.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "bridge/subscriptions/subscriptions.h"
#include "bridge/webhook/webhook.h"

enum { STATUS_OK = 200, STATUS_MISTAKES = 422, STATUS_UNAVAILABLE = 503 };

/* A request that waits for the outcome. */
struct caller {
    struct http_deferred deferred;
    struct mailbox_node node;
    int status;
    struct buf json;
};

struct reload {
    struct reload_parts parts;
    const struct clock *clock;
    struct wakeup wakeup;
    struct mailbox callers;
    atomic_bool is_asked; /* without a caller */
    pthread_mutex_t lock;
    const struct config *config; /* lock: lock, but for the thread itself. In force: a reference */
    bool is_stopping;            /* lock: lock. No caller comes after it */
    pthread_t thread;
    bool has_thread;
    struct metric *is_good;
    struct metric *good_since;
};

/* One run: what it found and did. */
struct attempt {
    struct buf messages;  /* of the file, one a line */
    struct buf changed;   /* names, each terminated */
    struct error failure; /* kind ERROR_NONE: none besides the messages */
    const struct config *config;
    struct http_credentials *listen;
    struct http_credentials *control;
};

/* ---- what differs ---- */

/* Returns the next name after `name`, the first after NULL; NULL at the end. */
static const char *next_changed(const struct attempt *attempt, const char *name)
{
    const char *next = name ? name + strlen(name) + 1 : attempt->changed.data;

    return next && next < attempt->changed.data + attempt->changed.size ? next : NULL;
}

static void add_changed(struct attempt *attempt, const char *name)
{
    for (const char *at = NULL; (at = next_changed(attempt, at));) {
        if (strcmp(at, name) == 0)
            return;
    }
    buf_append(&attempt->changed, name, strlen(name) + 1);
}

static void visit_changed(void *context, const char *name, const struct directive *row)
{
    (void)row;
    add_changed(context, name);
}

/* ---- preparing: whatever can fail without a trace ---- */

int reload_read_credentials(const struct config *config, const struct config_tls *tls,
                            const char *name, struct buf *messages,
                            struct http_credentials **out_credentials)
{
    struct http_tls_files files = {tls->certificate, tls->key, tls->client_ca};
    struct error err = {0};

    if (!tls->certificate)
        return 0; /* plain HTTP */
    *out_credentials = http_credentials_read(&files, &err);
    if (*out_credentials)
        return 0;
    buf_printf(messages, "%s:%d: %s: %s\n", config->path, tls->line, name, err.message);
    return -1;
}

/* Reads the file and the certificates that it names. -1: `messages` says why. */
static int prepare(const struct reload *reload, struct attempt *attempt)
{
    int rc;

    attempt->config = config_reload(reload->config, &attempt->messages);
    if (!attempt->config)
        return -1;
    rc = reload_read_credentials(attempt->config, &attempt->config->listen.tls, "listen.tls",
                                 &attempt->messages, &attempt->listen);
    if (reload_read_credentials(attempt->config, &attempt->config->control.tls, "control.tls",
                                &attempt->messages, &attempt->control) < 0)
        rc = -1;
    return rc;
}

static void release(struct attempt *attempt)
{
    http_credentials_free(attempt->listen);
    http_credentials_free(attempt->control);
    config_free(attempt->config);
    buf_release(&attempt->messages);
    buf_release(&attempt->changed);
}

/* ---- telling everybody ---- */

static void tell_listeners(const struct reload_parts *parts, struct attempt *attempt)
{
    const struct config *config = attempt->config;

    http_server_set_max_body(parts->webhook_server, config->listen.max_body);
    if (http_server_use(parts->webhook_server, attempt->listen))
        add_changed(attempt, "listen.tls.certificate");
    attempt->listen = NULL;
    control_set_token(parts->control, config->control.token);
    if (http_server_use(parts->control_server, attempt->control))
        add_changed(attempt, "control.tls.certificate");
    attempt->control = NULL;
}

static void put_in_force(struct reload *reload, const struct config *config)
{
    const struct config *before = reload->config;

    pthread_mutex_lock(&reload->lock);
    reload->config = config_ref(config);
    pthread_mutex_unlock(&reload->lock);
    config_free(before);
}

/* Those that may still refuse. The dispatcher comes first, so that no event is let in for an entry
 * that it does not know, and Close is asked last, once everybody is ready for what it sends. */
static int tell_routes(const struct reload_parts *parts, const struct config *config,
                       struct error *err)
{
    if (dispatcher_reconfigure(parts->dispatcher, config, err) < 0 ||
        webhook_reconfigure(parts->webhook, config, err) < 0 ||
        catch_up_reconfigure(parts->catch_up, config, err) < 0)
        return -1;
    return subscriptions_reconfigure(parts->subscriptions, config, err);
}

/* The one place where every part is told. */
static int tell_all(struct reload *reload, struct attempt *attempt)
{
    const struct reload_parts *parts = &reload->parts;
    const struct config *config = attempt->config;
    struct error ignored;

    if (tell_routes(parts, config, &attempt->failure) < 0) {
        tell_routes(parts, reload->config, &ignored); /* which they had before */
        return -1;
    }
    if (parts->journal)
        journal_set_ages(parts->journal, config->journal.retention_ms,
                         config->journal.dedupe_window_ms);
    tell_listeners(parts, attempt);
    topic_keeper_reconfigure(parts->topics, config);
    put_in_force(reload, config);
    return 0;
}

/* ---- saying what happened ---- */

static bool is_warning(struct text line)
{
    return memmem(line.data, line.size, ": warning: ", strlen(": warning: ")) != NULL;
}

/* Takes the next line off `rest`; false without one. */
static bool next_line(struct text *rest, struct text *out_line)
{
    const char *end = rest->size ? memchr(rest->data, '\n', rest->size) : NULL;

    if (!end)
        return false;
    *out_line = (struct text){rest->data, (size_t)(end - rest->data)};
    *rest = (struct text){end + 1, rest->size - out_line->size - 1};
    return true;
}

static void append_messages(const struct attempt *attempt, bool warnings, struct buf *json)
{
    struct text rest = buf_text(&attempt->messages);
    struct text line;
    const char *comma = "";

    buf_append_char(json, '[');
    while (next_line(&rest, &line)) {
        if (is_warning(line) != warnings)
            continue;
        buf_append_string(json, comma);
        buf_append_json_string(json, line);
        comma = ",";
    }
    buf_append_char(json, ']');
}

static void append_refusal(const struct attempt *attempt, int status, struct buf *json)
{
    buf_printf(json, "{\"error\":\"%s\",\"message\":",
               status == STATUS_MISTAKES ? "bad_configuration" : "not_reloaded");
    buf_append_json_string(json,
                           text_of(status == STATUS_MISTAKES
                                       ? "The configuration has mistakes; the one before stays in "
                                         "force."
                                       : attempt->failure.message));
    buf_append_string(json, ",\"mistakes\":");
    append_messages(attempt, false, json);
    buf_append_char(json, '}');
}

static void render(const struct attempt *attempt, int status, struct buf *json)
{
    const char *comma = "";

    if (status != STATUS_OK) {
        append_refusal(attempt, status, json);
        return;
    }
    buf_printf(json, "{\"result\":\"%s\",\"changed\":[",
               attempt->changed.size ? "reloaded" : "unchanged");
    for (const char *at = NULL; (at = next_changed(attempt, at)); comma = ",") {
        buf_append_string(json, comma);
        buf_append_json_string(json, text_of(at));
    }
    buf_append_string(json, "],\"warnings\":");
    append_messages(attempt, true, json);
    buf_append_char(json, '}');
}

static void log_messages(const struct attempt *attempt)
{
    struct text rest = buf_text(&attempt->messages);
    struct text line;

    while (next_line(&rest, &line)) {
        if (is_warning(line))
            log_warn("config.warning", log_text("warning", line));
        else
            log_error("config.mistake", log_text("mistake", line));
    }
}

static void log_success(const struct reload *reload, const struct attempt *attempt)
{
    struct buf names = {0};

    for (const char *at = NULL; (at = next_changed(attempt, at));)
        buf_printf(&names, "%s%s", names.size ? " " : "", at);
    log_info("config.reloaded", log_str("config", reload->config->path),
             log_str("changed", names.size ? names.data : "nothing"));
    buf_release(&names);
}

static void log_outcome(const struct reload *reload, const struct attempt *attempt, int status)
{
    log_messages(attempt);
    if (status == STATUS_OK)
        log_success(reload, attempt);
    else
        log_error("config.not_reloaded", log_str("config", reload->config->path),
                  log_str("error",
                          status == STATUS_MISTAKES ? "it has mistakes" : attempt->failure.message),
                  log_str("action", "the configuration before stays in force"));
}

/* ---- the thread ---- */

static int run_once(struct reload *reload, struct buf *json)
{
    struct attempt attempt = {0};
    int status = STATUS_OK;

    supervisor_reloading(reload->parts.supervisor);
    if (prepare(reload, &attempt) < 0) {
        status = STATUS_MISTAKES;
    } else {
        config_diff(reload->config, attempt.config, visit_changed, &attempt);
        if (tell_all(reload, &attempt) < 0)
            status = STATUS_UNAVAILABLE;
    }
    metric_set(reload->is_good, status == STATUS_OK);
    if (status == STATUS_OK)
        metric_set(reload->good_since, clock_wall_ms(reload->clock) / 1000);
    log_outcome(reload, &attempt, status);
    render(&attempt, status, json);
    release(&attempt);
    supervisor_reloaded(reload->parts.supervisor, status == STATUS_OK);
    return status;
}

static void answer(struct mailbox_node *node, int status, const struct buf *json)
{
    while (node) {
        struct caller *caller = container_of(node, struct caller, node);

        node = node->next; /* first: the caller is gone once it is answered */
        caller->status = status;
        buf_append_text(&caller->json, buf_text(json));
        http_resume(&caller->deferred);
    }
}

static void refuse(struct mailbox_node *node)
{
    struct buf json = {0};

    buf_append_string(&json, "{\"error\":\"not_reloaded\",\"message\":\"The bridge is shutting "
                             "down.\",\"mistakes\":[]}");
    answer(node, STATUS_UNAVAILABLE, &json);
    buf_release(&json);
}

static bool is_stopping(struct reload *reload)
{
    bool is;

    pthread_mutex_lock(&reload->lock);
    is = reload->is_stopping;
    pthread_mutex_unlock(&reload->lock);
    return is;
}

/* One run answers everybody who asked before it began. */
static void *run(void *argument)
{
    struct reload *reload = argument;

    while (!is_stopping(reload)) {
        struct mailbox_node *callers;
        struct buf json = {0};
        int status;

        wakeup_wait(&reload->wakeup, -1);
        if (is_stopping(reload))
            break;
        callers = mailbox_take(&reload->callers);
        if (!atomic_exchange(&reload->is_asked, false) && !callers)
            continue;
        status = run_once(reload, &json);
        answer(callers, status, &json);
        buf_release(&json);
    }
    refuse(mailbox_take(&reload->callers));
    return NULL;
}

/* ---- requests ---- */

const struct config *reload_config(struct reload *reload)
{
    const struct config *config;

    pthread_mutex_lock(&reload->lock);
    config = config_ref(reload->config);
    pthread_mutex_unlock(&reload->lock);
    return config;
}

void reload_request(struct reload *reload)
{
    atomic_store(&reload->is_asked, true);
    wakeup_signal(&reload->wakeup);
}

static void respond(struct http_deferred *deferred)
{
    struct caller *caller = container_of(deferred, struct caller, deferred);

    if (deferred->request)
        http_respond(deferred->request, &(struct http_response){.status = caller->status,
                                                                .body = buf_text(&caller->json)});
    buf_release(&caller->json);
}

void reload_handle(void *context, struct http_request *request)
{
    struct reload *reload = context;
    struct caller *caller = (struct caller *)(void *)http_defer(request, sizeof(*caller), respond);

    pthread_mutex_lock(&reload->lock);
    if (reload->is_stopping)
        refuse(&caller->node);
    else
        mailbox_push(&reload->callers, &caller->node);
    pthread_mutex_unlock(&reload->lock);
}

/* ---- life ---- */

struct reload *reload_new(const struct config *config, struct metrics *metrics,
                          const struct clock *clock, struct error *err)
{
    struct reload *reload = alloc_zeroed(1, sizeof(*reload));

    if (wakeup_init(&reload->wakeup, err) < 0) {
        free(reload);
        return NULL;
    }
    mailbox_init(&reload->callers, &reload->wakeup);
    pthread_mutex_init(&reload->lock, NULL);
    reload->config = config_ref(config);
    reload->clock = clock;
    reload->is_good =
        metrics_get(metrics, METRIC_GAUGE, "config_last_reload_successful",
                    "1 when the configuration in force is what the file last read says.", "");
    reload->good_since =
        metrics_get(metrics, METRIC_GAUGE, "config_last_reload_success_timestamp_seconds",
                    "When the configuration in force was read, in seconds since 1970.", "");
    metric_set(reload->is_good, 1);
    metric_set(reload->good_since, clock_wall_ms(clock) / 1000);
    return reload;
}

int reload_start(struct reload *reload, const struct reload_parts *parts, struct error *err)
{
    reload->parts = *parts;
    if (thread_start(&reload->thread, "reload", run, reload, err) < 0)
        return -1;
    reload->has_thread = true;
    return 0;
}

void reload_stop(struct reload *reload)
{
    if (!reload)
        return;
    pthread_mutex_lock(&reload->lock);
    reload->is_stopping = true;
    pthread_mutex_unlock(&reload->lock);
    wakeup_signal(&reload->wakeup);
    if (reload->has_thread)
        pthread_join(reload->thread, NULL);
    else
        refuse(mailbox_take(&reload->callers));
    reload->has_thread = false;
}

void reload_free(struct reload *reload)
{
    if (!reload)
        return;
    config_free(reload->config);
    pthread_mutex_destroy(&reload->lock);
    wakeup_release(&reload->wakeup);
    free(reload);
}
