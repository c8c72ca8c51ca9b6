/* mixed_writer SEED N BIG CALLS: N numbered records to stdout and stderr, one after the other, in as many ways as there are.

   A record is "NUMBER:STREAM:SIZE:", filling, and a newline. Six in ten have up to 2 kB, three up to 64 kB, one up to BIG.
   CALLS names the calls that may be used, by a letter each (see calls[]). A record is written by this process, by a forked
   child that is waited for, or by a thread that is joined; to its stream itself, or through the other's fd, which is made
   a copy of it meanwhile, as `>&2` in a shell does it. The same arguments give the same records. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAVED = 10 }; /* the lowest number for a saved fd: those below may be watched */

static const char *what;

static void need(int good)
{
    if (!good) {
        char text[100];
        write(2, text, snprintf(text, sizeof text, "mixed_writer: %s: %m\n", what));
        _exit(1);
    }
}

static void by_write(int fd, char *data, size_t size)
{
    for (ssize_t done; size; data += done, size -= done)
        need((done = write(fd, data, size)) > 0);
}

static int split(struct iovec *parts, char *data, size_t size)
{
    size_t first = size / 3, second = size / 4;
    parts[0] = (struct iovec){data, first};
    parts[1] = (struct iovec){data + first, second};
    parts[2] = (struct iovec){data + first + second, size - first - second};
    return 3;
}

static void by_writev(int fd, char *data, size_t size)
{
    struct iovec parts[3];
    for (ssize_t done; size; data += done, size -= done)
        need((done = writev(fd, parts, split(parts, data, size))) > 0);
}

static void by_pwritev2(int fd, char *data, size_t size)
{
    struct iovec parts[3];
    for (ssize_t done; size; data += done, size -= done)
        need((done = pwritev2(fd, parts, split(parts, data, size), -1, 0)) > 0);
}

static void by_sendmsg(int fd, char *data, size_t size)
{
    struct iovec parts[3];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = split(parts, data, size)};
    need(sendmsg(fd, &message, 0) == (ssize_t)size);
}

static void by_sendfile(int fd, char *data, size_t size)
{
    int file = memfd_create("records", MFD_CLOEXEC);
    need(file >= 0 && write(file, data, size) == (ssize_t)size);
    off_t at = 0;
    while ((size_t)at < size)
        need(sendfile(fd, file, &at, size - at) > 0);
    close(file);
}

static int pipe_with(int *ends, char *data, size_t size)
{
    need(!pipe2(ends, O_CLOEXEC));
    size_t some = size < 65536 ? size : 65536;
    need(write(ends[1], data, some) == (ssize_t)some);
    close(ends[1]);
    return some;
}

static void by_splice(int fd, char *data, size_t size)
{
    for (int ends[2]; size;) {
        size_t some = pipe_with(ends, data, size);
        data += some, size -= some;
        for (ssize_t done; some; some -= done)
            need((done = splice(ends[0], NULL, fd, NULL, some, 0)) > 0);
        close(ends[0]);
    }
}

static void by_tee(int fd, char *data, size_t size)
{
    char sink[65536];
    for (int ends[2]; size;) {
        size_t some = pipe_with(ends, data, size);
        data += some, size -= some;
        while (some) {
            ssize_t done = tee(ends[0], fd, some, 0);
            need(done > 0 && read(ends[0], sink, done) == done);
            some -= done;
        }
        close(ends[0]);
    }
}

/* The pages themselves go into the pipe: nobody may change them any more. */
static void by_vmsplice(int fd, char *data, size_t size)
{
    char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(copy != MAP_FAILED);
    memcpy(copy, data, size);
    for (ssize_t done; size; copy += done, size -= done) {
        struct iovec part = {copy, size};
        need((done = vmsplice(fd, &part, 1, 0)) > 0);
    }
}

static const struct call {
    char letter;
    const char *name;
    void (*function)(int fd, char *data, size_t size);
} calls[] = {
    {'w', "write", by_write},       {'v', "writev", by_writev}, {'p', "pwritev2", by_pwritev2}, {'m', "sendmsg", by_sendmsg},
    {'f', "sendfile", by_sendfile}, {'s', "splice", by_splice}, {'t', "tee", by_tee},           {'V', "vmsplice", by_vmsplice},
};

struct record {
    const struct call *call;
    char *data;
    size_t size;
    int stream, fd;
};

static void put(const struct record *record)
{
    int saved = -1;
    if (record->fd != record->stream) {
        saved = fcntl(record->fd, F_DUPFD_CLOEXEC, SAVED);
        need(saved >= 0 && dup2(record->stream, record->fd) >= 0);
    }
    what = record->call->name;
    record->call->function(record->fd, record->data, record->size);
    if (saved >= 0) {
        need(dup2(saved, record->fd) >= 0);
        close(saved);
    }
}

static void *put_in_thread(void *record)
{
    put(record);
    return NULL;
}

static void put_in_child(const struct record *record)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        put(record);
        _exit(0);
    }
    need(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    unsigned seed = atoi(argv[1]);
    int count = atoi(argv[2]), big = atoi(argv[3]);
    const char *letters = argv[4];
    for (int i = 0; i < count; i++) {
        int dice = rand_r(&seed) % 10, most = dice < 6 ? 2000 : dice < 9 ? 64000 : big;
        struct record record = {.size = 1 + rand_r(&seed) % most};
        char letter = letters[rand_r(&seed) % strlen(letters)];
        for (record.call = calls; record.call->letter != letter;)
            record.call++;
        record.stream = 1 + rand_r(&seed) % 2;
        record.fd = 1 + rand_r(&seed) % 2;
        char head[64];
        size_t length = snprintf(head, sizeof head, "%d:%d:%zu:", i, record.stream, record.size);
        if (record.size < length + 1)
            record.size = length + 1;
        length = snprintf(head, sizeof head, "%d:%d:%zu:", i, record.stream, record.size);
        record.data = malloc(record.size);
        memset(record.data, 'a' + i % 26, record.size);
        memcpy(record.data, head, length);
        record.data[record.size - 1] = '\n';
        what = "start";
        pthread_t thread;
        int who = rand_r(&seed) % 4;
        if (who == 0)
            put_in_child(&record);
        else if (who == 1)
            need(!pthread_create(&thread, NULL, put_in_thread, &record) && !pthread_join(thread, NULL));
        else
            put(&record);
        free(record.data);
    }
    return 0;
}
