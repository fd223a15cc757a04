/* The version of simdjson, whose headers are C++. Any thread. */
#ifndef BRIDGE_CLI_SIMDJSON_VERSION_H
#define BRIDGE_CLI_SIMDJSON_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

/* Static text such as "3.0.1". */
const char *simdjson_version(void);

#ifdef __cplusplus
}
#endif

#endif
