/*
 * h2o keeps a few chunks of memory for each thread and has no way to give them back when the thread
 * ends. Linked into every test that starts an HTTP server.
 */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libh2o-evloop\n";
}
