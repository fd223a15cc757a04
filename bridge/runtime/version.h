/*
 * The version of the product, set by the build.
 */
#ifndef BRIDGE_RUNTIME_VERSION_H
#define BRIDGE_RUNTIME_VERSION_H

#ifndef CLOSE_BRIDGE_VERSION
#define CLOSE_BRIDGE_VERSION "unknown"
#endif

#endif
