/*
 * The configuration in force, and its exchange while the bridge runs: by SIGHUP and by
 * POST /control/reload.
 *
 * All or nothing: the file is read again and checked whole, certificates included; a setting that
 * cannot change while the bridge runs is a mistake when it differs. With any mistake, and when the
 * journal cannot make a place for a new publisher, the configuration before stays in force as it
 * was, and log and answer say why. Otherwise every part is told, and nobody's connection or event
 * is dropped for it.
 *
 * Threads: one of its own; requests come from any.
 */
#ifndef BRIDGE_DAEMON_RELOAD_H
#define BRIDGE_DAEMON_RELOAD_H

struct buf;
struct catch_up;
struct clock;
struct config;
struct config_tls;
struct control;
struct dispatcher;
struct error;
struct http_credentials;
struct http_request;
struct http_server;
struct journal;
struct metrics;
struct reload; /* opaque: defined in reload.c */
struct subscriptions;
struct supervisor;
struct topic_keeper;
struct webhook;

/* Reads the certificate of a listener of `config`; NULL without TLS. `name` is its setting. -1:
 * appends a line to `messages`, as config_load does. `*out_credentials` is owned
 * (http_credentials_free). Any thread. */
int reload_read_credentials(const struct config *config, const struct config_tls *tls,
                            const char *name, struct buf *messages,
                            struct http_credentials **out_credentials);

/* Who is told of another configuration. */
struct reload_parts {
    struct journal *journal; /* NULL in broker mode */
    struct dispatcher *dispatcher;
    struct webhook *webhook;
    struct http_server *webhook_server;
    struct control *control;
    struct http_server *control_server;
    struct topic_keeper *topics;
    struct subscriptions *subscriptions;
    struct catch_up *catch_up;
    struct supervisor *supervisor; /* told when one begins and ends */
};

/* `config` is in force: a reference of its own is taken. Borrows the rest. Returns owned
 * (reload_free), NULL on failure. Requests wait until it is started. */
struct reload *reload_new(const struct config *config, struct metrics *metrics,
                          const struct clock *clock, struct error *err);

/* Starts the thread. Borrows the parts until reload_stop(). */
int reload_start(struct reload *reload, const struct reload_parts *parts, struct error *err);

/* The configuration in force, with a reference for the caller (config_free). Any thread. */
const struct config *reload_config(struct reload *reload);

/* Reads the file again, soon. Any thread. */
void reload_request(struct reload *reload);

/* The handler of POST /control/reload; the struct reload is the context. */
void reload_handle(void *context, struct http_request *request);

/* Finishes what is under way, refuses what waits and what comes, ends the thread. NULL is a no-op.
 */
void reload_stop(struct reload *reload);

/* After reload_stop() and after the control listener is gone. NULL is a no-op. */
void reload_free(struct reload *reload);

#endif
