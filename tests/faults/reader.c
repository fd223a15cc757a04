/*
 * Preloaded, it ends the process that a bridge starts to read its journal (`journal --child
 * verify`, `... salvage`) by the signal whose number FAULT_VERIFY or FAULT_SALVAGE names: as a
 * damaged file, a lack of memory or a person does. SIGSTOP makes it one that does not end.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *signal_for(int argc, char **argv)
{
    bool is_child = false;

    for (int i = 1; i < argc; i++) {
        is_child = is_child || strcmp(argv[i], "--child") == 0;
        if (is_child && strcmp(argv[i], "verify") == 0)
            return getenv("FAULT_VERIFY");
        if (is_child && strcmp(argv[i], "salvage") == 0)
            return getenv("FAULT_SALVAGE");
    }
    return NULL;
}

static void __attribute__((constructor)) start(int argc, char **argv)
{
    const char *number = signal_for(argc, argv);

    if (number)
        raise((int)strtol(number, NULL, 10));
}
