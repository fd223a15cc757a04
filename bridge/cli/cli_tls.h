/*
 * How commands speak TLS with the listeners of a running bridge.
 *
 * They know its certificates: the configuration names the files. So they accept exactly the key of
 * that certificate, whoever signed it and whatever name or address is in it, and nothing else. When
 * the control listener wants certificates of its clients (control.tls.client_ca), they show
 * control.tls.client_certificate.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_TLS_H
#define BRIDGE_CLI_CLI_TLS_H

struct config;
struct error;

/* "https" or "http": of the control listener. */
const char *cli_tls_scheme(const struct config *config);

/* Sets a CURL handle up for the control listener; nothing without control.tls. -1: `err` says which
 * setting or file is wrong. */
int cli_tls_set(void *client, const struct config *config, struct error *err);

/* Has a CURL handle accept the key of this certificate and no other; `setting` names the file. */
int cli_tls_pin(void *client, const char *certificate, const char *setting, struct error *err);

/* What the CURLcode of a request to the control listener means here; NULL: no more than curl says.
 */
const char *cli_tls_hint(const struct config *config, int code);

#endif
