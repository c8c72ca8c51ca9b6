"""The contract, "Cron mode": a test for each of its lines, in its order."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("plain")

BIN = Path(sys.executable).parent
CAUGHT = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]


def test_silent_when_there_is_nothing_to_report(cli, programs):
    done = cli("cronty-async", programs / "writes", 1000, 5000, 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_spool_is_replayed_at_the_first_stderr_and_then_all_passes_through(waiting):
    child = waiting("cronty-async", before="echo a; echo b >&2; echo c")
    assert child.process.stdout.read(4) == b"a\nc\n"
    assert child.process.stderr.readline() == b"b\n"
    child.kill_command()
    assert child.end() == (137, b"", b"cronty-async: sh: process terminated by signal 9: Killed\n")


def test_the_order_is_that_of_the_writes(cli, programs, random_writes):
    done = cli("cronty-async", programs / "random_writer", 7, 2000, 20_000, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ending = f"cronty-async: {programs}/random_writer: exited with status 0\n".encode()
    assert (done.returncode, done.stdout) == (0, random_writes(7, 2000, 20_000)[0] + ending)


@pytest.mark.parametrize(
    ("script", "status", "ending"),
    [
        ("exit 1", 1, "exited with status 1"),
        ("echo e >&2", 0, "exited with status 0"),
        ("exit 255", 255, "exited with status 255"),
        ("kill -TERM $$", 143, "process terminated by signal 15: Terminated"),
        ("kill -KILL $$", 137, "process terminated by signal 9: Killed"),
        ("kill -INT $$", -2, "process terminated by signal 2: Interrupt"),
    ],
)
def test_at_the_end_the_rest_of_the_spool_and_the_status_line(cli, script, status, ending):
    done = cli("cronty-async", "sh", "-c", f"echo a; {script}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    written = "a\ne\n" if "echo e" in script else "a\n"
    assert (done.returncode, done.stdout.decode()) == (status, f"{written}cronty-async: sh: {ending}\n")


def test_a_core_dump_is_told(cli, tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    script = "kill -SEGV $$"

    def allow():
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    child = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, preexec_fn=allow)
    dumped = os.WCOREDUMP(os.waitpid(child.pid, 0)[1])
    child.returncode = 0
    done = cli("cronty-async", "sh", "-c", script, preexec_fn=allow)
    ending = " (core dumped)" if dumped else ""
    assert (done.returncode, done.stderr.decode()) == (
        139,
        f"cronty-async: sh: process terminated by signal 11: Segmentation fault{ending}\n",
    )


@pytest.mark.parametrize("number", CAUGHT)
@pytest.mark.parametrize("captured", [True, False])
def test_a_signal_to_us_is_caught_replayed_reported_and_then_our_death(waiting, number, captured):
    child = waiting("cronty-async", before="echo a", env=os.environ | ({} if captured else {"TMPDIR": "/nonexistent"}))
    child.process.send_signal(number)
    status, out, err = child.process.wait(), child.process.stdout.read(2), child.process.stderr
    child.kill_command()
    assert (status, out) == (-number, b"a\n")
    assert err.read().decode().splitlines()[-1] == f"cronty-async: received signal {int(number)}: {signal.strsignal(number)}"
    child.end()


def test_quit_kills_at_once(waiting):
    child = waiting("cronty-async", before="echo a")
    child.process.send_signal(signal.SIGQUIT)
    assert child.end() == (-signal.SIGQUIT, b"", b"")
    child.kill_command()


@pytest.mark.parametrize("captured", [True, False])
def test_with_i_an_interrupt_is_ignored(waiting, captured):
    child = waiting("cronty-async", "-i", env=os.environ | ({} if captured else {"TMPDIR": "/nonexistent"}))
    child.process.send_signal(signal.SIGINT)
    os.kill(child.command, signal.SIGTERM)
    status, _, err = child.end()
    assert status == 143
    assert err.decode().splitlines()[-1] == "cronty-async: sh: process terminated by signal 15: Terminated"


def test_a_signal_that_we_were_told_to_ignore_stays_ignored(waiting):
    child = waiting("cronty-async", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    child.process.send_signal(signal.SIGHUP)
    os.kill(child.command, signal.SIGTERM)
    assert child.end() == (143, b"", b"cronty-async: sh: process terminated by signal 15: Terminated\n")


def test_a_closed_pipe_is_a_caught_signal(cli):
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("cronty-async", "sh", "-c", "echo a; exit 3", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE
    assert b"cronty-async: received signal 13: Broken pipe\n" in done.stderr


def test_a_reader_of_a_file_that_leaves_is_a_failure_of_that_file_only(tmp_path, cli):
    os.mkfifo(tmp_path / "left")
    os.mkfifo(tmp_path / "go")
    script = "echo a; cat go; echo b; echo c; exit 3"
    child = subprocess.Popen(
        [BIN / "cronty-async", "-O", "left", "-O", "kept", "sh", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with open(tmp_path / "left", "rb", 0) as reader:
        assert reader.read(2) == b"a\n"
    (tmp_path / "go").write_text("")
    out, err = child.communicate()
    assert (child.returncode, out) == (74, b"a\nb\nc\n")
    assert err == b"cronty-async: left: Broken pipe\ncronty-async: sh: exited with status 3\n"
    assert (tmp_path / "kept").read_bytes() == b"a\nb\nc\n"


def test_a_second_signal_ends_us_though_nobody_takes_what_is_replayed(tmp_path):
    child = subprocess.Popen(
        [BIN / "cronty-async", "sh", "-c", "head -c 1000000 /dev/zero; exit 1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    full_bytes = fcntl.fcntl(child.stdout, fcntl.F_GETPIPE_SZ)
    while struct.unpack("i", fcntl.ioctl(child.stdout, termios.FIONREAD, bytes(4)))[0] < full_bytes:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    child.stdout.close()
    child.stderr.close()


def test_an_empty_write_to_stderr_is_nothing(cli):
    done = cli("cronty-async", sys.executable, "-c", "import os; os.write(1, b'a'); os.write(2, b'')")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("words", [["-o", "no/file"], ["-O", "/"], ["-o", "no/a", "-e", "no/b"]])
def test_files_that_cannot_be_opened_are_reported_and_the_command_runs(cli, words):
    done = cli("cronty-async", *words, "echo", "x")
    assert (done.returncode, done.stdout) == (73, b"x\n")
    lines = done.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in lines] == [*words[1::2], "echo"]


def test_a_fork_that_fails_does_not_stop_the_command(cli, failing):
    done = cli("cronty-async", "-i", "sh", "-c", "echo x; echo y >&2; exit 4", env=failing("fork", errno.EAGAIN))
    assert (done.returncode, done.stdout) == (4, b"x\n")
    assert done.stderr == b"cronty-async: fork: Resource temporarily unavailable\ny\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="RLIMIT_NPROC does not bind root")
def test_a_limit_of_processes_does_not_stop_the_command(cli):
    limit = lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # noqa: E731
    done = cli("cronty-async", "sh", "-c", "echo x; exit 4", preexec_fn=limit)
    assert (done.returncode, done.stdout) == (4, b"x\n")


def test_a_fork_that_fails_for_a_command_that_is_not_there_is_66(cli, failing):
    done = cli("cronty-async", "nonexistent", env=failing("fork", errno.EAGAIN))
    assert done.returncode == 66
    assert done.stderr.decode().splitlines()[1:] == [
        "cronty-async: nonexistent: No such file or directory",
        "cronty-async: nonexistent: exited with status 66",
    ]


@pytest.mark.parametrize("limit", range(5, 11))
def test_too_few_fds_do_not_stop_the_command(cli, limit):
    done = cli("cronty-async", "sh", "-c", "echo x; exit 5", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    assert (done.returncode, done.stdout) == (5, b"x\n")
    assert b"internal error" not in done.stderr


@pytest.mark.parametrize("call", ["socket", "bind"])
def test_sockets_that_cannot_be_made_do_not_stop_the_command(cli, failing, call):
    done = cli("cronty-async", "sh", "-c", "echo x; exit 5", env=failing(call, errno.ENOBUFS))
    assert (done.returncode, done.stdout) == (5, b"x\n")
    assert done.stderr.endswith(b"socket: No buffer space available\ncronty-async: sh: exited with status 5\n")


@pytest.mark.root
@pytest.mark.parametrize("status", [0, 5])
def test_a_full_disk_under_the_spool_is_reported_and_nothing_is_lost(cli, full_disk, status):
    done = cli("cronty-async", "sh", "-c", f"seq 10000; exit {status}", env=os.environ | {"TMPDIR": str(full_disk)})
    assert done.returncode == status
    assert done.stdout.decode().split() == [str(number) for number in range(1, 10001)]
    assert done.stderr.decode().splitlines() == [
        "cronty-async: standard output: spool: No space left on device",
        f"cronty-async: sh: exited with status {status}",
    ]


def test_a_limit_under_the_spool_is_reported_and_nothing_is_lost(cli):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
    done = cli("cronty-async", "seq", "10000", preexec_fn=limit)
    assert done.stdout.decode().split() == [str(number) for number in range(1, 10001)]
    assert (done.returncode, done.stderr.count(b"spool: File too large")) == (0, 1)


def test_a_spool_that_cannot_be_read_back_is_reported(cli, failing):
    done = cli("cronty-async", "sh", "-c", "echo x; exit 5", env=failing("pread", errno.EIO))
    assert done.returncode == 5
    assert done.stderr == b"cronty-async: standard output: spool: Input/output error\ncronty-async: sh: exited with status 5\n"


def test_a_failing_write_to_a_file_is_reported_sets_74_and_does_not_unspool(cli):
    done = cli("cronty-async", "-o", "/dev/full", "echo", "x")
    assert (done.returncode, done.stdout, done.stderr) == (74, b"", b"cronty-async: /dev/full: No space left on device\n")


def test_receiving_that_fails_is_reported_with_74(cli, failing):
    done = cli("cronty-async", "true", env=failing("recvmmsg", errno.EIO, FAIL_AFTER=1))
    assert done.returncode == 74
    assert done.stderr == b"cronty-async: input socket: Input/output error\ncronty-async: true: exited with status 0\n"


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_the_status_is_the_commands(cli, status):
    assert cli("cronty-async", "sh", "-c", f"exit {status}").returncode == status
