/* Loaded before libc by LD_PRELOAD, for failures that no real means brings about. The environment says what fails:
   FAIL_CALL=name[,name...]   these calls fail ...
   FAIL_ERRNO=number          ... with this errno
   FAIL_AFTER=count           ... after so many that do not (for each process; default 0)
   FAIL_TIMES=count           ... and only so often (default: always)
   FAIL_PATH=path             ... only on an fd that is this file (write, writev, pread, close)
   SIGNAL_AT_BIND=number      a signal to this process in its first bind(): the directory of the sockets exists then
   STRANGER_FD=number         the first connect() to a path leaves a socket of somebody else, connected to the same path, on this fd */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static int named(const char *call)
{
    const char *list = getenv("FAIL_CALL");
    size_t length = strlen(call);
    while (list) {
        if (!strncmp(list, call, length) && (list[length] == ',' || !list[length]))
            return 1;
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    return 0;
}

static int is_path(int fd)
{
    char link[64], target[4096];
    const char *path = getenv("FAIL_PATH");
    if (!path)
        return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0)
        return 0;
    target[length] = 0;
    return !strcmp(target, path);
}

static int fails(const char *call, int fd)
{
    static int count;
    if (!named(call) || (fd >= 0 && !is_path(fd)))
        return 0;
    int after = atoi(getenv("FAIL_AFTER") ? getenv("FAIL_AFTER") : "0");
    int times = atoi(getenv("FAIL_TIMES") ? getenv("FAIL_TIMES") : "0");
    int call_number = count++;
    if (call_number < after || (times && call_number >= after + times))
        return 0;
    errno = atoi(getenv("FAIL_ERRNO"));
    return 1;
}

pid_t fork(void)
{
    return fails("fork", -1) ? -1 : REAL(fork)();
}

pid_t vfork(void)  /* a wrapper of the real one cannot return; fork is what POSIX allows it to be */
{
    return fork();
}

int socket(int domain, int type, int protocol)
{
    return fails("socket", -1) ? -1 : REAL(socket)(domain, type, protocol);
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    const char *number = getenv("SIGNAL_AT_BIND");
    if (number) {
        int sent = atoi(number);
        unsetenv("SIGNAL_AT_BIND");
        raise(sent);
    }
    return fails("bind", -1) ? -1 : REAL(bind)(fd, address, size);
}

ssize_t write(int fd, const void *data, size_t size)
{
    return fails("write", fd) ? -1 : REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *vector, int count)
{
    return fails("write", fd) ? -1 : REAL(writev)(fd, vector, count);
}

ssize_t pread64(int fd, void *data, size_t size, __off64_t offset)
{
    return fails("pread", -1) ? -1 : REAL(pread64)(fd, data, size, offset);
}

int close(int fd)
{
    if (!fails("close", fd))
        return REAL(close)(fd);
    int error = errno;
    REAL(close)(fd);
    errno = error;
    return -1;
}

int recvmmsg(int fd, struct mmsghdr *vector, unsigned count, int flags, struct timespec *timeout)
{
    return fails("recvmmsg", -1) ? -1 : REAL(recvmmsg)(fd, vector, count, flags, timeout);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails("recvmsg", -1) ? -1 : REAL(recvmsg)(fd, message, flags);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    const char *stranger = getenv("STRANGER_FD");
    if (stranger && address->sa_family == AF_UNIX && ((const struct sockaddr_un *) address)->sun_path[0]) {
        unsetenv("STRANGER_FD");
        int other = REAL(socket)(AF_UNIX, SOCK_DGRAM, 0);
        REAL(connect)(other, address, size);
        dup2(other, atoi(stranger));
        REAL(close)(other);
    }
    return REAL(connect)(fd, address, size);
}
