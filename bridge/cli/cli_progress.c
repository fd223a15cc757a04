#include "bridge/cli/cli_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINE_EVERY_MS = 5000, BAR_WIDTH = 20, UNKNOWN = 20, NARROW = 60, USUAL_COLUMNS = 80 };

void cli_progress_begin(struct cli_progress *progress, int64_t now_ms)
{
    const char *kind = getenv("TERM");
    bool is_dumb = kind && strcmp(kind, "dumb") == 0; /* it cannot draw over a line */

    *progress = (struct cli_progress){.is_terminal = isatty(STDERR_FILENO) == 1 && !is_dumb,
                                      .next_line_ms = now_ms + LINE_EVERY_MS};
}

static int columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < UNKNOWN)
        return USUAL_COLUMNS;
    return size.ws_col;
}

static void draw(uint64_t done, uint64_t total, const char *text)
{
    static const char full[BAR_WIDTH + 1] = "####################";
    static const char empty[BAR_WIDTH + 1] = "....................";
    int width = columns();
    int bar = width < NARROW ? BAR_WIDTH / 2 : BAR_WIDTH;
    double part = total > 0 ? (double)done / (double)total : 1;
    int filled = part < 1 ? (int)(part * bar) : bar;
    int percent = part < 1 ? (int)(part * 100) : 100;
    char line[512];

    snprintf(line, sizeof(line), "[%.*s%.*s] %3d%% %s", filled, full, bar - filled, empty, percent,
             text);
    fprintf(stderr, "\r\033[K%.*s", width - 1, line);
    fflush(stderr);
}

void cli_progress_show(struct cli_progress *progress, uint64_t done, uint64_t total,
                       const char *text, int64_t now_ms)
{
    if (progress->is_terminal) {
        draw(done, total, text);
        progress->has_bar = true;
    } else if (now_ms >= progress->next_line_ms) {
        progress->next_line_ms = now_ms + LINE_EVERY_MS;
        fprintf(stderr, "%s\n", text);
    }
}

void cli_progress_clear(struct cli_progress *progress)
{
    if (progress->has_bar)
        fputs("\r\033[K", stderr);
    progress->has_bar = false;
}
