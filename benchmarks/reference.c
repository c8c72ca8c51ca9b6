// Owns the floor: in C, the work of `dtee-async -O OUT -E ERR -C ALL CMD`, and nothing more.
//
//   reference [-O FILE] [-E FILE] [-C FILE] CMD [ARGUMENT]...
//
// The same sockets, the same recvmmsg(2) of 64, the same writev(2) calls in the same order, the same look at every sender's
// address. Reports its own CPU seconds, without the child's, on fd 3.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 64, SLOT_BYTES = 4268032, STRIDE_BYTES = SLOT_BYTES + 192, REPORT_FD = 3 };
enum { OUT, ERR, ALL };
enum order { MERGED, APART, RUNS };

static struct mmsghdr headers[BATCH];
static struct iovec slots[BATCH];
static struct sockaddr_un names[BATCH];
static char directory[64];
static size_t letter;  // where in an address the sender's letter stands

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void put(int fd, const struct iovec *views, int count) {
  while (count) {
    ssize_t written = writev(fd, views, count);
    if (written < 0) die("writev");
    for (; count && (size_t)written >= views->iov_len; views++, count--) written -= views->iov_len;
    if (!count || !written) continue;
    for (size_t at = written; at < views->iov_len; at += written)  // the rest of a view that went in part
      if ((written = write(fd, (char *)views->iov_base + at, views->iov_len - at)) < 0) die("write");
    views++, count--;
  }
}

static int make_socket(char name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = SLOT_BYTES / 2;
  snprintf(address.sun_path, sizeof address.sun_path, "%s/%c", directory, name);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  if (bind(fd, (void *)&address, sizeof address)) die("bind");
  return fd;
}

static void make_sockets(int *receiver, int senders[2]) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *parent = getenv("TMPDIR");
  snprintf(directory, sizeof directory, "%s/reference-XXXXXX", parent ? parent : "/tmp");
  if (!mkdtemp(directory)) die("mkdtemp");
  letter = strlen(directory) + 1;
  snprintf(address.sun_path, sizeof address.sun_path, "%s/0", directory);
  *receiver = make_socket('0');
  for (int i = 0; i < 2; i++) {
    senders[i] = make_socket('1' + i);
    if (connect(senders[i], (void *)&address, sizeof address)) die("connect");
    shutdown(senders[i], SHUT_RD);
  }
  for (char name = '0'; name < '3'; name++) {
    address.sun_path[letter] = name;
    unlink(address.sun_path);
  }
  rmdir(directory);
}

static void make_headers(void) {
  char *data = mmap(0, (size_t)BATCH * STRIDE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) die("mmap");
  for (int i = 0; i < BATCH; i++) {
    slots[i] = (struct iovec){data + (size_t)i * STRIDE_BYTES, SLOT_BYTES};
    headers[i].msg_hdr = (struct msghdr){.msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &slots[i], .msg_iovlen = 1};
  }
}

// How our own stdout and stderr keep the order that somebody could see: dtee_async/output/standard.py says why.
static enum order own_order(void) {
  struct stat out, err;
  if (fstat(1, &out) || fstat(2, &err)) die("fstat");
  if (out.st_dev == err.st_dev && out.st_ino == err.st_ino) return MERGED;
  return S_ISREG(out.st_mode) && S_ISREG(err.st_mode) ? APART : RUNS;
}

static void pass_on(int received, enum order order, const int files[3]) {
  struct iovec all[BATCH], apart[2][BATCH];
  int stream[BATCH], counts[2] = {0, 0}, count = 0;
  for (int i = 0; i < received; i++) {
    if (memcmp(names[i].sun_path, directory, letter - 1)) continue;  // a stranger's
    struct iovec view = {slots[i].iov_base, headers[i].msg_len};
    stream[count] = names[i].sun_path[letter] - '1';
    apart[stream[count]][counts[stream[count]]++] = view;
    all[count++] = view;
  }
  if (order == MERGED) put(1, all, count);
  if (order == APART)
    for (int i = 0; i < 2; i++) put(1 + i, apart[i], counts[i]);
  if (order == RUNS)
    for (int begin = 0, end; begin < count; begin = end) {
      for (end = begin + 1; end < count && stream[end] == stream[begin];) end++;
      put(1 + stream[begin], all + begin, end - begin);
    }
  for (int i = 0; i < 2; i++)
    if (files[i] >= 0) put(files[i], apart[i], counts[i]);
  if (files[ALL] >= 0) put(files[ALL], all, count);
}

static void report_cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  struct timeval sum;
  timeradd(&usage.ru_utime, &usage.ru_stime, &sum);
  dprintf(REPORT_FD, "%ld.%06ld\n", (long)sum.tv_sec, (long)sum.tv_usec);
}

int main(int argc, char **argv) {
  int files[3] = {-1, -1, -1}, receiver, senders[2], gone = 0, status;
  fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
  for (int option; (option = getopt(argc, argv, "+O:E:C:")) != -1;) {
    if (option == '?') return 2;
    int fd = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) die(optarg);
    files[option == 'O' ? OUT : option == 'E' ? ERR : ALL] = fd;
  }
  make_sockets(&receiver, senders);
  make_headers();
  enum order order = own_order();
  pid_t child = vfork();
  if (child == 0) {
    dup2(senders[0], 1);
    dup2(senders[1], 2);
    execvp(argv[optind], argv + optind);
    _exit(127);
  }
  close(senders[0]);
  close(senders[1]);
  struct pollfd polled[2] = {{.fd = receiver, .events = POLLIN}, {.fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN}};
  for (;;) {
    int received = recvmmsg(receiver, headers, BATCH, MSG_DONTWAIT, 0);
    if (received > 0) {
      pass_on(received, order, files);
    } else if (gone) {
      break;
    } else {
      poll(polled, 2, -1);
      gone = polled[1].revents;
    }
  }
  waitpid(child, &status, 0);
  report_cpu();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
