#include "bridge/daemon/listeners.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"
#include "bridge/control/control.h"
#include "bridge/control/control_journal.h"
#include "bridge/daemon/reload.h"
#include "bridge/daemon/status.h"
#include "bridge/http/http_server.h"
#include "bridge/runtime/metrics.h"
#include "bridge/subscriptions/subscriptions.h"
#include "bridge/webhook/webhook.h"

enum {
    CONTROL_MAX_BODY = 1024 * 1024,
    CONTROL_CONNECTIONS = 64,
};

/* ---- either ---- */

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

static int open_listener(struct listener *listener, const char *name, struct metrics *metrics,
                         const struct http_server_options *options, struct error *err)
{
    struct http_server *server = http_server_start(options, err);

    if (!server)
        return -1;
    *listener = (struct listener){name, server, metrics};
    announce(listener, options->host, options->socket_path);
    return 0;
}

static struct http_tls_files tls_files_of(const struct config_tls *tls)
{
    return (struct http_tls_files){tls->certificate, tls->key, tls->client_ca};
}

/* ---- the control listener ---- */

static void get_refusals(void *context, struct http_request *request)
{
    struct buf json = {0};

    webhook_render_refusals(context, &json);
    http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

/* With a reference. */
static const struct config *config_in_force(void *context)
{
    return reload_config(context);
}

static void get_topic_map(void *context, struct http_request *request)
{
    const struct config *config = reload_config(context);
    struct topic_report *report = topic_report_make(config);
    struct buf json = {0};

    topic_report_append_json(report, &json);
    topic_report_free(report);
    config_free(config);
    http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

static int open_control_routes(struct listeners *listeners, const struct listeners_parts *parts,
                               struct error *err)
{
    struct control *control =
        control_new(&(struct control_options){.token = parts->config->control.token,
                                              .metrics = parts->metrics,
                                              .readiness = status_append_readiness,
                                              .readiness_context = parts->status});

    listeners->control_handler = control;
    control_add(control,
                &(struct control_route){"GET", "/control/refusals", get_refusals, parts->webhook});
    subscriptions_add_routes(parts->subscriptions, control);
    catch_up_add_routes(parts->catch_up, control);
    listeners->control_journal =
        control_journal_new(&(struct control_journal_options){.control = control,
                                                              .journal = parts->journal,
                                                              .dispatcher = parts->dispatcher,
                                                              .metrics = parts->metrics,
                                                              .clock = parts->clock,
                                                              .config = config_in_force,
                                                              .config_context = parts->reload},
                            err);
    if (!listeners->control_journal)
        return -1;
    control_add(control,
                &(struct control_route){"GET", "/control/topic-map", get_topic_map, parts->reload});
    control_add(control,
                &(struct control_route){"POST", "/control/reload", reload_handle, parts->reload});
    return 0;
}

static int open_control(struct listeners *listeners, const struct listeners_parts *parts,
                        struct error *err)
{
    const struct config *config = parts->config;

    if (open_control_routes(listeners, parts, err) < 0)
        return -1;
    return open_listener(&listeners->control, "control", parts->metrics,
                         &(struct http_server_options){.name = "control",
                                                       .host = config->control.host,
                                                       .port = config->control.port,
                                                       .socket_path = config->control.socket_path,
                                                       .tls = tls_files_of(&config->control.tls),
                                                       .threads = 1,
                                                       .max_body = CONTROL_MAX_BODY,
                                                       .max_connections = CONTROL_CONNECTIONS,
                                                       .clock = parts->clock,
                                                       .context = listeners->control_handler,
                                                       .handle = control_handle},
                         err);
}

void listeners_close_control(struct listeners *listeners)
{
    control_journal_stop(listeners->control_journal);
    http_server_free(listeners->control.server);
    control_free(listeners->control_handler);
    control_journal_free(listeners->control_journal);
}

/* ---- the one for webhooks ---- */

static int open_webhooks(struct listeners *listeners, const struct listeners_parts *parts,
                         struct error *err)
{
    const struct config *config = parts->config;

    return open_listener(
        &listeners->webhook, "webhook", parts->metrics,
        &(struct http_server_options){.name = "webhooks",
                                      .host = config->listen.host,
                                      .port = config->listen.port,
                                      .tls = tls_files_of(&config->listen.tls),
                                      .threads = config->listen.threads,
                                      .max_body = config->listen.max_body,
                                      .max_connections_per_address =
                                          config->listen.max_connections_per_address,
                                      .clock = parts->clock,
                                      .context = parts->webhook,
                                      .handle = webhook_handle,
                                      .refused = webhook_refused,
                                      .tick = webhook_tick},
        err);
}

void listeners_drain_webhooks(struct listeners *listeners, int64_t timeout_ms)
{
    if (!listeners->webhook.server)
        return;
    http_server_stop_accepting(listeners->webhook.server);
    http_server_wait_idle(listeners->webhook.server, timeout_ms);
}

void listeners_close_webhooks(struct listeners *listeners)
{
    http_server_free(listeners->webhook.server);
}

/* ---- both ---- */

int listeners_open(struct listeners *listeners, const struct listeners_parts *parts,
                   struct error *err)
{
    return open_control(listeners, parts, err) < 0 ? -1 : open_webhooks(listeners, parts, err);
}
