// Owns the floor of a turnstile: in C, the work of `dtee-async --capture=turnstile -C ALL CMD >/dev/null 2>&1`, and nothing more.
//
//   turnstile_reference FILE CMD [ARGUMENT]...
//
// The same pipes, the same system call filter for write(2) and writev(2), the same poll(2), RECV, read(2) and SEND for each announced
// write, the same 64 announcements until what was read is written to our stdout and to FILE. Reports its own CPU seconds, without the
// child's, on fd 3.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

enum { ANNOUNCEMENTS = 64, PIPE_BYTES = 1 << 20, BATCH_BYTES = 1 << 20, REPORT_FD = 3 };
enum { LISTENER, OUT, ERR, EXIT };

static char *batch;
static size_t size;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void put(int fd) {
  for (size_t at = 0; at < size;) {
    ssize_t written = write(fd, batch + at, size - at);
    if (written < 0) die("write");
    at += written;
  }
}

static int install(void) {
  struct sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 6),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_writev, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
  };
  struct sock_fprog program = {sizeof steps / sizeof *steps, steps};
  unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (fd < 0 && errno == EACCES) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  }
  if (fd < 0) die("seccomp");
  return fd;
}

// One fd over a socket: the listener is made in the child, and is ours.
static int pass(int socket, int fd) {
  char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec view = {&byte, 1};
  struct msghdr message = {.msg_iov = &view, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (fd < 0) {
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !(header = CMSG_FIRSTHDR(&message))) exit(1);
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
  }
  *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, 0) == 1 ? fd : -1;
}

static pid_t start(char **argv, struct pollfd *polled) {
  int pipes[3][2], sockets[2];
  for (int i = OUT; i <= ERR; i++) {
    if (pipe2(pipes[i], O_CLOEXEC)) die("pipe");
    fcntl(pipes[i][0], F_SETPIPE_SZ, PIPE_BYTES);
    fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
    polled[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) die("socketpair");
  pid_t child = fork();
  if (child == 0) {
    for (int i = OUT; i <= ERR; i++) dup2(pipes[i][1], i);
    int listener = install();
    if (pass(sockets[1], listener) < 0) _exit(127);
    close(listener);
    execvp(argv[0], argv);
    _exit(127);
  }
  for (int i = OUT; i <= ERR; i++) close(pipes[i][1]);
  polled[LISTENER] = (struct pollfd){.fd = pass(sockets[0], -1), .events = POLLIN};
  polled[EXIT] = (struct pollfd){.fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
  close(sockets[0]);
  close(sockets[1]);
  ioctl(polled[LISTENER].fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL);  // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, since Linux 6.6
  return child;
}

static void read_empty(struct pollfd *pipe) {
  ssize_t count;
  do {
    count = read(pipe->fd, batch + size, PIPE_BYTES);
    if (count > 0) size += count;
    if (count == 0) pipe->fd = -1;
  } while (count == PIPE_BYTES);
}

// Whether there was anything.
static int serve(struct pollfd *polled, int file) {
  struct seccomp_notif notification;
  size = 0;
  for (int i = 0; i < ANNOUNCEMENTS && size < BATCH_BYTES; i++) {
    if (poll(polled, EXIT, 0) <= 0) break;
    memset(&notification, 0, sizeof notification);
    int waits = polled[LISTENER].revents & POLLIN && !ioctl(polled[LISTENER].fd, SECCOMP_IOCTL_NOTIF_RECV, &notification);
    if (polled[LISTENER].revents & POLLHUP) polled[LISTENER].fd = -1;
    for (int pipe = OUT; pipe <= ERR; pipe++)
      if (polled[pipe].revents) read_empty(&polled[pipe]);
    if (!waits) break;
    struct seccomp_notif_resp answer = {.id = notification.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(polled[LISTENER].fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
  put(1);
  put(file);
  return size > 0;
}

static void report_cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  struct timeval sum;
  timeradd(&usage.ru_utime, &usage.ru_stime, &sum);
  dprintf(REPORT_FD, "%ld.%06ld\n", (long)sum.tv_sec, (long)sum.tv_usec);
}

int main(int argc, char **argv) {
  struct pollfd polled[4];
  int status;
  if (argc < 3) return 2;
  fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
  int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) die(argv[1]);
  batch = mmap(0, 4 * BATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (batch == MAP_FAILED) die("mmap");
  pid_t child = start(argv + 2, polled);
  for (int gone = 0; serve(polled, file) || !gone;) {
    poll(polled, 4, -1);
    gone = polled[EXIT].revents;
  }
  waitpid(child, &status, 0);
  report_cpu();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
