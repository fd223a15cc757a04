#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_values.h"

int config_parse_listen_address(struct config_loader *loader, const char *value, void *base,
                                struct error *err)
{
    struct config *config = base;
    char *host = NULL;

    (void)loader;
    if (config_value_address(text_of(value), &host, &config->listen.port, err) != 0)
        return -1;
    free(config->listen.host);
    config->listen.host = host;
    return 0;
}

static int parse_socket(struct config_loader *loader, const char *path, struct config *config,
                        struct error *err)
{
    char *socket_path;

    if (path[0] == '\0')
        return error_set(err, ERROR_CONFIG, "names no socket: write unix:/path/to/control.sock");
    socket_path = config_value_path(path, loader->directory);
    if (!socket_path)
        return error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
    if (strlen(socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        free(socket_path);
        return error_set(err, ERROR_CONFIG, "is too long for a socket: at most 107 bytes");
    }
    free(config->control.host);
    config->control.host = NULL;
    config->control.port = 0;
    free(config->control.socket_path);
    config->control.socket_path = socket_path;
    return 0;
}

int config_parse_control_address(struct config_loader *loader, const char *value, void *base,
                                 struct error *err)
{
    struct config *config = base;
    char *host = NULL;

    if (strncmp(value, "unix:", 5) == 0)
        return parse_socket(loader, value + 5, config, err);
    if (config_value_address(text_of(value), &host, &config->control.port, err) != 0)
        return -1;
    free(config->control.host);
    config->control.host = host;
    return 0;
}

int config_parse_health_path(struct config_loader *loader, const char *value, void *base,
                             struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~/";
    struct config *config = base;

    (void)loader;
    if (value[0] != '/' || value[1] == '\0' || strlen(value) > 256 ||
        strspn(value, allowed) != strlen(value))
        return error_set(err, ERROR_CONFIG, "is not a path such as /health");
    if (strncmp(value, "/webhooks/", 10) == 0 || strcmp(value, "/webhooks") == 0)
        return error_set(err, ERROR_CONFIG, "is where webhooks arrive; take another path");
    free(config->listen.health_path);
    config->listen.health_path = text_dup(text_of(value));
    return config->listen.health_path
               ? 0
               : error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
}
