/* stubborn SEED COUNT FD: a tree of processes that do not want to end. It tells the pid of each that it makes on FD, four bytes each.

   From SEED: each forks some more until about COUNT are there, and of those some double-fork, lead a session or a group of their own,
   ignore what can be ignored, throw away their environment, exec, end early, or, with HOPS in the
   environment, fork and end, and so does the child, and so on, in a session of its own each, thousands of times.
   All hold stdout and stderr. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;
static int report;
static int hops;

static unsigned dice(unsigned sides)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % sides;
}

static void tell(void)
{
    int32_t pid = getpid();
    if (write(report, &pid, sizeof pid) != sizeof pid)
        _exit(1);
}

static void ms(long count)
{
    struct timespec time = {count / 1000, count % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

static void ignore_all(void)
{
    for (int number = 1; number < 32; number++)
        if (number != SIGCHLD)
            signal(number, SIG_IGN);
}

/* A child that is its parent's for a moment only. */
static void leave_parent(void)
{
    if (fork())
        _exit(0);
}

static void hop(void)
{
    for (int i = 0; i < 20000; i++) {
        if (dice(16) == 0)
            ms(1);
        setsid();
        leave_parent();
        tell();
    }
    _exit(0);
}

static void stay(int forgotten)
{
    char number[16];
    snprintf(number, sizeof number, "%d", report);
    if (forgotten) {
        char *nothing[] = {NULL};
        execle("/proc/self/exe", "stubborn", "0", "0", number, (char *)NULL, nothing);
    } else if (dice(3) == 0)
        execl("/proc/self/exe", "stubborn", "0", "0", number, (char *)NULL);
    for (;;)
        pause();
}

static void live(int count, uint64_t seed)
{
    int part = 0, may_forget;
    uint64_t next = 0;
born:
    may_forget = 0;
    state = seed;
    tell();
    if (dice(3) == 0)
        ignore_all();
    switch (dice(6)) {
    case 0:
        setsid();
        break;
    case 1:
        setpgid(0, 0);
        break;
    case 2:
        may_forget = 1;
    }
    while (count > 1) {
        part = 1 + dice(count - 1);
        next = state ^ (dice(1 << 30) * 2654435761u);
        if (!fork()) {
            seed = next;
            count = part;
            if (dice(3) == 0) {
                leave_parent();
                if (dice(2))
                    setsid();
            }
            goto born;
        }
        count -= part;
        ms(dice(3));
    }
    if (dice(8) == 0)
        _exit(0);
    if (hops && dice(3) == 0)
        hop();
    stay(may_forget && dice(2));
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    signal(SIGCHLD, SIG_IGN);
    report = atoi(argv[3]);
    int count = atoi(argv[2]);
    hops = getenv("HOPS") && *getenv("HOPS");
    if (!count)
        for (;;)
            pause();
    live(count, strtoull(argv[1], NULL, 10));
}
