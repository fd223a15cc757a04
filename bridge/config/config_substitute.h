/*
 * ${NAME} from the environment, ${file:PATH} from a file without its last newline,
 * ${credential:NAME} from a file in systemd's CREDENTIALS_DIRECTORY, $${ for a literal ${, in every
 * scalar of a configuration.
 *
 * It happens after parsing, so that what comes in is always one value. What came in is never part
 * of a message.
 */
#ifndef BRIDGE_CONFIG_CONFIG_SUBSTITUTE_H
#define BRIDGE_CONFIG_CONFIG_SUBSTITUTE_H

struct config_node;
struct config_report;

/* Changes the tree in place. Relative paths begin at `directory`. */
void config_substitute(struct config_node *root, const char *directory,
                       struct config_report *report);

#endif
