/* daemon_writer FOLDER: writes to its stdout and stderr until there is FOLDER/stop, and so does a daemon that it leaves behind, whose
   stdout is FOLDER/log. Nobody has to read the rest. Each appends to FOLDER/said what went wrong with its writes, or "ok". */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *who = "command";

static void say(const char *what, int error)
{
    char line[200];
    int size = snprintf(line, sizeof line, "%s: %s%s\n", who, what, error ? strerror(error) : "");
    int fd = open("said", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0 || write(fd, line, size) != size)
        abort();
    close(fd);
}

static int put(int fd, long i, int read_by_nobody)
{
    char line[32];
    int size = snprintf(line, sizeof line, "%ld\n", i);
    ssize_t written = write(fd, line, size);
    if (written == size || (written < 0 && read_by_nobody && errno == EPIPE))
        return 1;
    say(fd == 1 ? "stdout: " : "stderr: ", written < 0 ? errno : EIO);
    return 0;
}

static int work(int has_log)
{
    for (long i = 0; access("stop", F_OK); i++)
        if (!put(1, i, !has_log) || !put(2, i, 1))
            return 1;
    say("ok", 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]))
        return 2;
    signal(SIGPIPE, SIG_IGN);
    if (fork())
        return work(0);
    who = "daemon";
    setsid();
    if (fork())
        return 0;
    int log = open("log", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (log < 0 || dup2(log, 1) != 1)
        return 2;
    close(log);
    return work(1);
}
