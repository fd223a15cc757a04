#include "bridge/daemon/serve.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/daemon/listeners.h"
#include "bridge/daemon/reload.h"
#include "bridge/daemon/status.h"
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
    struct reload *reload;
    struct topic_keeper *topics;
    struct listeners listeners;
    struct status status; /* for the listeners */
    struct supervisor *supervisor;
};

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
    daemon->status.journal = daemon->journal;
    status_add_metrics(&daemon->status);
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
    daemon->status.dispatcher = daemon->dispatcher;
    if (daemon->journal) {
        status_note_removed(&daemon->status);
        if (journal_start(daemon->journal, dispatcher_on_stored, daemon->dispatcher, err) < 0)
            return -1;
    }
    return dispatcher_start(daemon->dispatcher, err);
}

static int use_keys(void *context, const char *account,
                    const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                    struct error *err)
{
    return webhook_set_keys(context, account, keys, count, err);
}

static bool is_kafka_down(void *context)
{
    const struct daemon *daemon = context;

    return dispatcher_is_down(daemon->dispatcher, PUBLISHER_KAFKA, false);
}

/* Whoever waits is not to wait for a Kafka that is known to be away. */
static bool look_at_topics(void *context, struct buf *json)
{
    struct daemon *daemon = context;

    if (json)
        return topic_keeper_look(daemon->topics, TOPICS_MS, is_kafka_down, daemon, json);
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
    daemon->status.subscriptions = daemon->subscriptions;
    return daemon->subscriptions ? 0 : -1;
}

static int open_listeners(struct daemon *daemon, struct error *err)
{
    return listeners_open(&daemon->listeners,
                          &(struct listeners_parts){.config = daemon->config,
                                                    .clock = daemon->clock,
                                                    .metrics = daemon->metrics,
                                                    .journal = daemon->journal,
                                                    .dispatcher = daemon->dispatcher,
                                                    .webhook = daemon->webhook,
                                                    .subscriptions = daemon->subscriptions,
                                                    .catch_up = daemon->catch_up,
                                                    .reload = daemon->reload,
                                                    .status = &daemon->status},
                          err);
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
                                  .is_ready = status_is_ready,
                                  .ready_context = &daemon->status},
        err);
    if (!daemon->webhook || open_catch_up(daemon, err) < 0 || open_subscriptions(daemon, err) < 0 ||
        open_listeners(daemon, err) < 0 || catch_up_start(daemon->catch_up, err) < 0)
        return -1;
    return subscriptions_start(daemon->subscriptions, err);
}

static int start_reload(struct daemon *daemon, struct error *err)
{
    return reload_start(daemon->reload,
                        &(struct reload_parts){.journal = daemon->journal,
                                               .dispatcher = daemon->dispatcher,
                                               .webhook = daemon->webhook,
                                               .webhook_server = daemon->listeners.webhook.server,
                                               .control = daemon->listeners.control_handler,
                                               .control_server = daemon->listeners.control.server,
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
    int64_t loops_ms = http_server_busy_ms(daemon->listeners.webhook.server);
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

/* Whether nothing waits for a publisher. After dispatcher_stop(). */
static bool is_all_published(const struct daemon *daemon)
{
    struct journal_numbers numbers;

    if (!daemon->journal)
        return true;
    journal_numbers(daemon->journal, &numbers);
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        uint64_t settled;

        if (dispatcher_settled(daemon->dispatcher, p, &settled) && settled < numbers.tail)
            return false;
    }
    return true;
}

static void stop(struct daemon *daemon, bool has_started)
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
    listeners_drain_webhooks(&daemon->listeners, ANSWERS_MS);
    if (daemon->dispatcher)
        all_settled =
            dispatcher_stop(daemon->dispatcher, DELIVERIES_MS) && is_all_published(daemon);
    listeners_close_control(&daemon->listeners);
    topic_keeper_free(daemon->topics);
    reload_free(daemon->reload);
    journal_close(daemon->journal);
    dispatcher_close(daemon->dispatcher); /* in broker mode it answers what still waits */
    listeners_close_webhooks(&daemon->listeners);
    subscriptions_free(daemon->subscriptions);
    catch_up_free(daemon->catch_up);
    webhook_free(daemon->webhook);
    metrics_free(daemon->metrics);
    supervisor_free(daemon->supervisor);
    if (has_started)
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
    daemon.status.metrics = daemon.metrics;
    guard_secrets();
    raise_descriptor_limit();
    log_info("process.starting", log_str("version", CLOSE_BRIDGE_VERSION),
             log_str("config", config->path),
             log_str("acknowledge",
                     config->journal.acknowledge == ACKNOWLEDGE_JOURNAL ? "journal" : "broker"));
    rc = start(&daemon, err);
    if (rc == 0)
        obey_signals(&daemon, &signals);
    stop(&daemon, rc == 0);
    if (rc == 0 && atomic_load(&daemon.is_damaged)) {
        error_set(err, ERROR_TRANSIENT, "the file of the journal is damaged");
        return EX_IOERR;
    }
    if (rc == 0)
        return EX_OK;
    return err->kind == ERROR_CONFIG ? EX_CONFIG : EX_UNAVAILABLE;
}
