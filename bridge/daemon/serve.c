#include "bridge/daemon/serve.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/config/topic_report.h"
#include "bridge/control/control.h"
#include "bridge/control/control_journal.h"
#include "bridge/daemon/reload.h"
#include "bridge/daemon/supervisor.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/dispatcher/topic_keeper.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/delivery.h"
#include "bridge/journal/journal.h"
#include "bridge/journal/journal_guard.h"
#include "bridge/runtime/metrics.h"
#include "bridge/runtime/version.h"
#include "bridge/subscriptions/subscriptions.h"
#include "bridge/webhook/webhook.h"

enum {
    /* Together below the ten seconds in which a stop has to end. */
    ANSWERS_MS = 3000,
    DELIVERIES_MS = 3000,
    TOPICS_MS = 5000, /* for Kafka to answer, when somebody waits */
    MAX_REMOVED = 16,
    CONTROL_MAX_BODY = 1024 * 1024,
    CONTROL_CONNECTIONS = 64,
};

static const char *const publisher_names[PUBLISHER_COUNT] = {"kafka", "mqtt"};

/* One that is open, for the metric of its certificate. */
struct listener {
    const char *name;
    const struct http_server *server;
    struct metrics *metrics;
};

struct daemon {
    const struct config *config; /* of the start */
    const struct clock *clock;
    struct metrics *metrics;
    struct journal *journal; /* NULL in broker mode */
    atomic_bool is_damaged;  /* its file is */
    struct dispatcher *dispatcher;
    struct webhook *webhook;
    struct subscriptions *subscriptions;
    struct catch_up *catch_up;
    struct http_server *webhook_server;
    struct control *control;
    struct control_journal *control_journal;
    struct http_server *control_server;
    struct reload *reload;
    struct topic_keeper *topics;
    struct listener webhook_listener;
    struct listener control_listener;
    struct supervisor *supervisor;
    /* publishers that the journal knows and this program does not */
    char removed[MAX_REMOVED][64];
    size_t removed_count;
};

/* ---- state, for the listeners ---- */

static const char *trouble(void *context)
{
    const struct daemon *daemon = context;
    struct journal_numbers numbers;

    if (!daemon->journal)
        return dispatcher_trouble(daemon->dispatcher);
    journal_numbers(daemon->journal, &numbers);
    return numbers.trouble;
}

static void append_journal(const struct daemon *daemon, struct buf *json)
{
    struct journal_numbers numbers;

    if (!daemon->journal)
        return;
    journal_numbers(daemon->journal, &numbers);
    buf_printf(json, ",\"journal\":{\"bytes\":%llu,\"max_bytes\":%llu,\"dead_letters\":%llu}",
               (unsigned long long)numbers.bytes, (unsigned long long)numbers.max_bytes,
               (unsigned long long)numbers.dead_count);
}

static void append_publishers(const struct daemon *daemon, struct buf *json)
{
    const char *comma = "";

    buf_append_string(json, ",\"publishers\":{");
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        bool is_removed = dispatcher_is_removed(daemon->dispatcher, p);

        if (!is_removed && !dispatcher_is_configured(daemon->dispatcher, p))
            continue;
        buf_printf(json, "%s\"%s\":\"%s\"", comma, publisher_names[p],
                   is_removed                                        ? "removed"
                   : dispatcher_is_down(daemon->dispatcher, p, true) ? "down"
                                                                     : "up");
        comma = ",";
    }
    for (size_t i = 0; i < daemon->removed_count; i++) {
        buf_append_string(json, comma);
        buf_append_json_string(json, text_of(daemon->removed[i]));
        buf_append_string(json, ":\"removed\"");
        comma = ",";
    }
    buf_append_char(json, '}');
}

static bool readiness(void *context, struct buf *json)
{
    const struct daemon *daemon = context;
    const char *reason = trouble(context);

    buf_printf(json, "{\"status\":\"%s\"", reason ? "not_ready" : "ready");
    if (reason) {
        buf_append_string(json, ",\"reason\":");
        buf_append_json_string(json, text_of(reason));
    }
    buf_printf(json, ",\"acknowledge\":\"%s\"", daemon->journal ? "journal" : "broker");
    append_journal(daemon, json);
    append_publishers(daemon, json);
    subscriptions_append_readiness(daemon->subscriptions, json);
    buf_append_char(json, '}');
    return !reason;
}

static void set_gauge(const struct daemon *daemon, const char *name, const char *help,
                      uint64_t value)
{
    metric_set(metrics_get(daemon->metrics, METRIC_GAUGE, name, help, ""), (int64_t)value);
}

static void collect(void *context)
{
    const struct daemon *daemon = context;
    struct journal_numbers numbers;

    journal_numbers(daemon->journal, &numbers);
    set_gauge(daemon, "journal_bytes", "Space in use in the journal.", numbers.bytes);
    set_gauge(daemon, "journal_max_bytes", "Space that the journal may use.", numbers.max_bytes);
    set_gauge(daemon, "dedupe_window_seconds", "How far back duplicates are recognised.",
              (uint64_t)numbers.dedupe_window_s);
    set_gauge(daemon, "journal_dead_letters", "Dead letters kept in the journal.",
              numbers.dead_count);
    set_gauge(daemon, "dead_letters_bytes", "Space in use by dead letters.", numbers.dead_bytes);
    set_gauge(daemon, "dead_letters_max_bytes",
              "Space that dead letters may use: with more, their publisher stops.",
              numbers.dead_max_bytes);
    metric_set(metrics_get(daemon->metrics, METRIC_COUNTER, "event_conflicts_total",
                           "Events with the id and date of another one, but other bytes.", ""),
               (int64_t)numbers.conflicts);
    metric_set(metrics_get(daemon->metrics, METRIC_COUNTER, "event_respellings_total",
                           "Duplicates, by webhook and from the Event Log, in two spellings.", ""),
               (int64_t)numbers.respelled);
    metric_set(metrics_get(daemon->metrics, METRIC_COUNTER, "event_trusted_duplicates_total",
                           "Duplicates from the Event Log by id and date alone: the first copy is "
                           "deleted.",
                           ""),
               (int64_t)numbers.trusted);
    metric_set(metrics_get(daemon->metrics, METRIC_COUNTER, "journal_damaged_records_total",
                           "Records of the journal that were passed over because they are damaged.",
                           ""),
               (int64_t)numbers.damaged);
}

static void collect_certificate(void *context)
{
    const struct listener *listener = context;
    int64_t expiry = http_server_certificate_expiry(listener->server);
    char labels[64] = "";

    if (!expiry)
        return;
    metrics_label(labels, sizeof(labels), "listener", listener->name);
    metric_set(metrics_get(listener->metrics, METRIC_GAUGE,
                           "tls_certificate_expiry_timestamp_seconds",
                           "When the certificate ends, in seconds since 1970.", labels),
               expiry);
}

/* ---- start ---- */

static void guard_secrets(void)
{
#if !defined(__SANITIZE_ADDRESS__) /* its leak checker attaches to the process */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (geteuid() == 0)
        log_warn("process.is_root", log_str("action", "no root rights are needed: run it as a user "
                                                      "of its own"));
}

/* The usual soft limit of 1024 is for programs that call select(), which nothing here does. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void visit_cursor(void *context, const char *publisher, uint64_t seq)
{
    struct daemon *daemon = context;
    bool is_known = false;

    (void)seq;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (strcmp(publisher, publisher_names[p]) != 0)
            continue;
        if (dispatcher_is_configured(daemon->dispatcher, p))
            return;
        is_known = true;
    }
    if (!is_known && daemon->removed_count < MAX_REMOVED)
        strncpy(daemon->removed[daemon->removed_count++], publisher,
                sizeof(daemon->removed[0]) - 1);
    log_warn("publisher.removed", log_str("publisher", publisher),
             log_str("action", "it is not configured any more; its events are kept for it"));
}

/* Whoever supervises the process starts it again, and the start salvages the journal. */
static void end_damaged(void *context)
{
    struct daemon *daemon = context;

    atomic_store(&daemon->is_damaged, true);
    log_error("journal.damaged", log_str("path", daemon->config->journal.path),
              log_str("action", "the bridge ends: its next start salvages what is sound"));
    kill(getpid(), SIGTERM);
}

static int open_journal(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->config;
    struct journal_options options = {.path = config->journal.path,
                                      .max_size = config->journal.max_size,
                                      .retention_ms = config->journal.retention_ms,
                                      .dedupe_window_ms = config->journal.dedupe_window_ms,
                                      .dedupe_max = config->journal.dedupe_max,
                                      .on_damaged = end_damaged,
                                      .on_damaged_context = daemon};
    enum guard_result guarded;
    struct error doubt;

    if (config->journal.acknowledge != ACKNOWLEDGE_JOURNAL)
        return 0;
    guarded = journal_guard(options.path, false, err);
    if (guarded == GUARD_FAILED)
        return -1;
    daemon->journal = journal_open(&options, daemon->clock, err);
    if (!daemon->journal && guarded == GUARD_PASSED &&
        journal_guard(options.path, true, &doubt) == GUARD_SALVAGED)
        daemon->journal = journal_open(&options, daemon->clock, err);
    if (!daemon->journal)
        return -1;
    metrics_on_scrape(daemon->metrics, collect, daemon);
    return 0;
}

static int start_delivery(struct daemon *daemon, struct error *err)
{
    daemon->dispatcher = dispatcher_open(&(struct dispatcher_options){.config = daemon->config,
                                                                      .journal = daemon->journal,
                                                                      .clock = daemon->clock,
                                                                      .metrics = daemon->metrics},
                                         err);
    if (!daemon->dispatcher)
        return -1;
    if (daemon->journal) {
        journal_visit_cursors(daemon->journal, visit_cursor, daemon);
        if (journal_start(daemon->journal, dispatcher_on_stored, daemon->dispatcher, err) < 0)
            return -1;
    }
    return dispatcher_start(daemon->dispatcher, err);
}

static bool is_ready(void *context)
{
    return !trouble(context);
}

static void get_refusals(void *context, struct http_request *request)
{
    struct daemon *daemon = context;
    struct buf json = {0};

    webhook_render_refusals(daemon->webhook, &json);
    http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

static int use_keys(void *context, const char *account,
                    const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                    struct error *err)
{
    return webhook_set_keys(context, account, keys, count, err);
}

/* Whoever waits is not to wait for a Kafka that is known to be away. */
static bool look_at_topics(void *context, struct buf *json)
{
    struct daemon *daemon = context;

    if (json)
        return !dispatcher_is_down(daemon->dispatcher, PUBLISHER_KAFKA, false) &&
               topic_keeper_look(daemon->topics, TOPICS_MS, json);
    topic_keeper_ask(daemon->topics);
    return false;
}

static void note_gap(void *context, const char *account, int64_t since_ms, int64_t until_ms)
{
    catch_up_note_gap(context, account, since_ms, until_ms);
}

static int open_catch_up(struct daemon *daemon, struct error *err)
{
    daemon->catch_up = catch_up_open(&(struct catch_up_options){.config = daemon->config,
                                                                .clock = daemon->clock,
                                                                .metrics = daemon->metrics,
                                                                .journal = daemon->journal,
                                                                .dispatcher = daemon->dispatcher},
                                     err);
    return daemon->catch_up ? 0 : -1;
}

static int open_subscriptions(struct daemon *daemon, struct error *err)
{
    daemon->subscriptions =
        subscriptions_open(&(struct subscriptions_options){.config = daemon->config,
                                                           .clock = daemon->clock,
                                                           .metrics = daemon->metrics,
                                                           .use_keys = use_keys,
                                                           .use_keys_context = daemon->webhook,
                                                           .look_at_topics = look_at_topics,
                                                           .topics_context = daemon,
                                                           .note_gap = note_gap,
                                                           .gap_context = daemon->catch_up},
                           err);
    return daemon->subscriptions ? 0 : -1;
}

static struct http_tls_files tls_files_of(const struct config_tls *tls)
{
    return (struct http_tls_files){tls->certificate, tls->key, tls->client_ca};
}

/* With a reference. */
static const struct config *config_in_force(void *context)
{
    const struct daemon *daemon = context;

    return reload_config(daemon->reload);
}

static void get_topic_map(void *context, struct http_request *request)
{
    struct daemon *daemon = context;
    const struct config *config = reload_config(daemon->reload);
    struct topic_report *report = topic_report_make(config);
    struct buf json = {0};

    topic_report_append_json(report, &json);
    topic_report_free(report);
    config_free(config);
    http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

/* Says where a listener is, with the port that "any free one" became. */
static void announce(struct listener *listener, const char *host, const char *socket_path)
{
    char address[160];

    metrics_on_scrape(listener->metrics, collect_certificate, listener);
    if (socket_path)
        snprintf(address, sizeof(address), "unix:%s", socket_path);
    else
        snprintf(address, sizeof(address), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
                 http_server_port(listener->server));
    log_info("listener.ready", log_str("listener", listener->name), log_str("address", address));
}

static int start_control(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->config;

    daemon->control = control_new(&(struct control_options){.token = config->control.token,
                                                            .metrics = daemon->metrics,
                                                            .readiness = readiness,
                                                            .readiness_context = daemon});
    control_add(daemon->control,
                &(struct control_route){"GET", "/control/refusals", get_refusals, daemon});
    subscriptions_add_routes(daemon->subscriptions, daemon->control);
    catch_up_add_routes(daemon->catch_up, daemon->control);
    daemon->control_journal =
        control_journal_new(&(struct control_journal_options){.control = daemon->control,
                                                              .journal = daemon->journal,
                                                              .dispatcher = daemon->dispatcher,
                                                              .metrics = daemon->metrics,
                                                              .clock = daemon->clock,
                                                              .config = config_in_force,
                                                              .config_context = daemon},
                            err);
    if (!daemon->control_journal)
        return -1;
    control_add(daemon->control,
                &(struct control_route){"GET", "/control/topic-map", get_topic_map, daemon});
    control_add(daemon->control,
                &(struct control_route){"POST", "/control/reload", reload_handle, daemon->reload});
    daemon->control_server =
        http_server_start(&(struct http_server_options){.name = "control",
                                                        .host = config->control.host,
                                                        .port = config->control.port,
                                                        .socket_path = config->control.socket_path,
                                                        .tls = tls_files_of(&config->control.tls),
                                                        .threads = 1,
                                                        .max_body = CONTROL_MAX_BODY,
                                                        .max_connections = CONTROL_CONNECTIONS,
                                                        .clock = daemon->clock,
                                                        .context = daemon->control,
                                                        .handle = control_handle},
                          err);
    if (!daemon->control_server)
        return -1;
    daemon->control_listener =
        (struct listener){"control", daemon->control_server, daemon->metrics};
    announce(&daemon->control_listener, config->control.host, config->control.socket_path);
    return 0;
}

static int start_webhook_server(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->config;

    daemon->webhook_server = http_server_start(
        &(struct http_server_options){.name = "webhooks",
                                      .host = config->listen.host,
                                      .port = config->listen.port,
                                      .tls = tls_files_of(&config->listen.tls),
                                      .threads = config->listen.threads,
                                      .max_body = config->listen.max_body,
                                      .max_connections_per_address =
                                          config->listen.max_connections_per_address,
                                      .clock = daemon->clock,
                                      .context = daemon->webhook,
                                      .handle = webhook_handle,
                                      .refused = webhook_refused,
                                      .tick = webhook_tick},
        err);
    if (!daemon->webhook_server)
        return -1;
    daemon->webhook_listener =
        (struct listener){"webhook", daemon->webhook_server, daemon->metrics};
    announce(&daemon->webhook_listener, config->listen.host, NULL);
    return 0;
}

static int start_listeners(struct daemon *daemon, struct error *err)
{
    daemon->webhook = webhook_new(
        &(struct webhook_options){.config = daemon->config,
                                  .threads = daemon->config->listen.threads,
                                  .metrics = daemon->metrics,
                                  .intake = daemon->journal ? journal_intake(daemon->journal)
                                                            : dispatcher_intake(daemon->dispatcher),
                                  .clock = daemon->clock,
                                  .is_ready = is_ready,
                                  .ready_context = daemon},
        err);
    if (!daemon->webhook || open_catch_up(daemon, err) < 0 || open_subscriptions(daemon, err) < 0 ||
        start_control(daemon, err) < 0 || start_webhook_server(daemon, err) < 0)
        return -1;
    if (catch_up_start(daemon->catch_up, err) < 0)
        return -1;
    return subscriptions_start(daemon->subscriptions, err);
}

static int start_reload(struct daemon *daemon, struct error *err)
{
    return reload_start(daemon->reload,
                        &(struct reload_parts){.journal = daemon->journal,
                                               .dispatcher = daemon->dispatcher,
                                               .webhook = daemon->webhook,
                                               .webhook_server = daemon->webhook_server,
                                               .control = daemon->control,
                                               .control_server = daemon->control_server,
                                               .topics = daemon->topics,
                                               .subscriptions = daemon->subscriptions,
                                               .catch_up = daemon->catch_up,
                                               .supervisor = daemon->supervisor},
                        err);
}

/* Of what an event passes on its way to a 200: the slowest step under way. */
static int64_t busy_ms(void *context)
{
    const struct daemon *daemon = context;
    int64_t loops_ms = http_server_busy_ms(daemon->webhook_server);
    int64_t durable_ms =
        daemon->journal ? journal_busy_ms(daemon->journal) : dispatcher_busy_ms(daemon->dispatcher);

    return loops_ms > durable_ms ? loops_ms : durable_ms;
}

static int start(struct daemon *daemon, struct error *err)
{
    char labels[64] = "";

    daemon->supervisor = supervisor_open(daemon->clock, err);
    if (!daemon->supervisor)
        return -1;
    metrics_label(labels, sizeof(labels), "version", CLOSE_BRIDGE_VERSION);
    metric_set(
        metrics_get(daemon->metrics, METRIC_GAUGE, "build_info", "The version that runs.", labels),
        1);
    if (open_journal(daemon, err) < 0 || start_delivery(daemon, err) < 0)
        return -1;
    daemon->reload = reload_new(daemon->config, daemon->metrics, daemon->clock, err);
    daemon->topics = topic_keeper_start(daemon->config, daemon->metrics, err);
    if (!daemon->reload || !daemon->topics || start_listeners(daemon, err) < 0)
        return -1;
    if (start_reload(daemon, err) < 0)
        return -1;
    return supervisor_ready(daemon->supervisor, busy_ms, daemon, err);
}

/* ---- stop ---- */

static void stop(struct daemon *daemon)
{
    bool all_settled = true;

    if (daemon->supervisor)
        supervisor_stopping(daemon->supervisor);
    reload_stop(daemon->reload);
    topic_keeper_stop(daemon->topics);
    subscriptions_stop(daemon->subscriptions);
    catch_up_stop(daemon->catch_up);
    if (daemon->webhook)
        webhook_drain(daemon->webhook);
    if (daemon->webhook_server) {
        http_server_stop_accepting(daemon->webhook_server);
        http_server_wait_idle(daemon->webhook_server, ANSWERS_MS);
    }
    if (daemon->dispatcher)
        all_settled = dispatcher_stop(daemon->dispatcher, DELIVERIES_MS);
    control_journal_stop(daemon->control_journal);
    http_server_free(daemon->control_server);
    control_free(daemon->control);
    control_journal_free(daemon->control_journal);
    topic_keeper_free(daemon->topics);
    reload_free(daemon->reload);
    journal_close(daemon->journal);
    dispatcher_close(daemon->dispatcher); /* in broker mode it answers what still waits */
    http_server_free(daemon->webhook_server);
    subscriptions_free(daemon->subscriptions);
    catch_up_free(daemon->catch_up);
    webhook_free(daemon->webhook);
    metrics_free(daemon->metrics);
    supervisor_free(daemon->supervisor);
    log_info("process.stopped",
             log_str("left", all_settled ? "nothing"
                             : daemon->journal
                                 ? "events in the journal, published after the next start"
                                 : "events that were answered 503"));
}

/* Until one that asks for the end. */
static void obey_signals(struct daemon *daemon, const sigset_t *signals)
{
    for (;;) {
        int number = 0;

        if (sigwait(signals, &number) != 0)
            continue;
        if (number != SIGHUP) {
            log_info("process.stopping",
                     log_str("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
            return;
        }
        reload_request(daemon->reload);
    }
}

int serve(const struct config *config, struct error *err)
{
    struct daemon daemon = {.config = config, .clock = &clock_system, .metrics = metrics_new()};
    sigset_t signals;
    int rc;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* TRAPS H19 */
    guard_secrets();
    raise_descriptor_limit();
    log_info("process.starting", log_str("version", CLOSE_BRIDGE_VERSION),
             log_str("config", config->path),
             log_str("acknowledge",
                     config->journal.acknowledge == ACKNOWLEDGE_JOURNAL ? "journal" : "broker"));
    rc = start(&daemon, err);
    if (rc == 0)
        obey_signals(&daemon, &signals);
    stop(&daemon);
    if (rc == 0 && atomic_load(&daemon.is_damaged)) {
        error_set(err, ERROR_TRANSIENT, "the file of the journal is damaged");
        return EX_IOERR;
    }
    if (rc == 0)
        return EX_OK;
    return err->kind == ERROR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
}
