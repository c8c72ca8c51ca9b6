"""The relay: a command in mode ``pipe`` whose bytes nobody looks at goes by tee(2) and splice(2), and is in all else as any other."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dtee_async.core.capture import CaptureSpec
from dtee_async.core.write import Stream
from dtee_async.engine.captures import Captures
from dtee_async.engine.command import Command
from dtee_async.engine.relay import Relay, plain_sinks
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CommandNotFoundError
from dtee_async.output.file import FileOutput, open_file
from dtee_async.output.standard import StandardOutput
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput, open_fds

BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "dtee-async")
BOUND_S = 30
OUT, ERR = Stream
RELAYED = b"dtee-async: capture mode pipe, order by time of reading, bytes moved by tee(2) and splice(2)\n"
ORDINARY = b"dtee-async: capture mode pipe, order by time of reading\n"
WORDS = [PROGRAM, "-v", "--capture=pipe"]


@contextmanager
def running(words, folder, **more):
    """A run in progress, in a process group of its own, which does not outlive the block."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "cwd": folder, "process_group": 0}
    with subprocess.Popen([*map(str, words)], **settings | more) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def relayed(*words, **more):
    """Run a shell script; what is said of the way, and the rest."""
    done = subprocess.run([*WORDS, *map(str, words)], **{"capture_output": True, "timeout": BOUND_S} | more)
    first, newline, rest = done.stderr.partition(b"\n")
    return first + newline, done.stdout, rest, done.returncode


# Which outputs make a relay.


SCRIPT = "echo out; echo err >&2; exit 3"


@pytest.mark.parametrize(
    "options", [[], ["-O", "a"], ["-o", "a", "-E", "b", "-e", "c"], ["-O", "/dev/null"], ["-i", "-O", "a"]], ids=" ".join
)
def test_files_pipes_and_the_null_device_are_relayed_to(tmp_path, options):
    assert relayed(*options, "sh", "-c", SCRIPT, cwd=tmp_path) == (RELAYED, b"out\n", b"err\n", 3)
    expected = {"a": "out\n", "b": "err\n", "c": "err\n"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: expected[name] for name in options if name in expected}


@pytest.mark.parametrize(
    "options", [["-C", "a"], ["-c", "a"], ["-O", "b", "-C", "a"], ["-O", "a", "-E", "a"], ["-o", "a", "-e", "./a"]], ids=" ".join
)
def test_both_streams_in_one_file_are_not(tmp_path, options):
    said, *rest = relayed(*options, "sh", "-c", SCRIPT, cwd=tmp_path)
    assert (said, rest) == (ORDINARY, [b"out\n", b"err\n", 3])
    assert sorted((tmp_path / "a").read_text().split()) == ["err", "out"]


def test_our_stdout_and_stderr_in_one_regular_file_are_not(tmp_path):
    with open(tmp_path / "all", "wb") as file:
        subprocess.run([*WORDS, "sh", "-c", SCRIPT], stdout=file, stderr=file)
    assert (tmp_path / "all").read_bytes() == ORDINARY + b"out\nerr\n"


def test_our_stdout_and_stderr_in_two_files_are(tmp_path):
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "ab") as err:
        subprocess.run([*WORDS, "sh", "-c", SCRIPT], stdout=out, stderr=err)
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()) == (b"out\n", RELAYED + b"err\n")


def test_a_terminal_is_not(terminal):
    terminal.start(*WORDS, "sh", "-c", SCRIPT)
    assert terminal.wait() == 3
    assert terminal.shown == ORDINARY + b"out\nerr\n"


def test_a_socket_is_not(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        said, _, rest, _ = relayed("sh", "-c", SCRIPT, stdout=theirs, stderr=subprocess.PIPE, capture_output=False)
        assert (said, rest, ours.recv(9)) == (ORDINARY, b"err\n", b"out\n")


def test_within_another_one_it_is_not(tmp_path):
    done = subprocess.run([PROGRAM, "--capture=ordered", *WORDS, "sh", "-c", SCRIPT], capture_output=True)
    assert (done.stdout, done.stderr) == (b"out\n", ORDINARY + b"err\n")


@pytest.mark.parametrize("mode", ["ordered", "turnstile"])
def test_another_mode_is_not(mode):
    done = subprocess.run([PROGRAM, "-v", f"--capture={mode}", "true"], capture_output=True)
    assert b"tee(2)" not in done.stderr


def test_without_splice_it_is_not(tmp_path):
    without = os.environ | {"DTEE_ASYNC_WITHOUT": "splice"}
    assert relayed("-O", "a", "sh", "-c", SCRIPT, cwd=tmp_path, env=without) == (ORDINARY, b"out\n", b"err\n", 3)


def test_cron_mode_shows_and_keeps_silent_as_ever(cli, tmp_path):
    done = cli("-q", "--capture=pipe", "-O", "a", "echo", "out")
    assert (done.returncode, done.stdout, done.stderr, (tmp_path / "a").read_text()) == (0, b"", b"", "out\n")
    done = cli("-q", "--capture=pipe", "-O", "a", "sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr == b"err\ndtee-async: sh: exited with status 3\n"


def test_who_looks_at_the_bytes_gets_batches(captures, tmp_path):
    file = FileOutput(open_file(str(tmp_path / "a"), append=False), OUT, "a")
    transport, _, _ = captures.open(CaptureSpec("pipe"), SpawnPlan(["true"]))
    assert plain_sinks(transport, [file]) is not None
    assert plain_sinks(transport, [file, RecordingOutput()]) is None
    transport.close()
    file.close()


# What arrives.


def test_all_that_is_written_is_at_every_sink(tmp_path, programs, random_writes):
    _, out, err = random_writes(5, 2000, 100_000)
    (tmp_path / "b").write_bytes(b"old")
    options = ["-O", "a", "-o", "b", "-E", "c", "-O", "/dev/null", "-e", "d"]
    assert relayed(*options, programs / "random_writer", 5, 2000, 100_000, cwd=tmp_path) == (RELAYED, out, err, 0)
    assert [(tmp_path / name).read_bytes() for name in "abcd"] == [out, b"old" + out, err, err]


def test_two_streams_into_one_pipe_lose_nothing(programs, random_writes):
    combined, _, _ = random_writes(6, 500, 100_000)
    words = [*WORDS, str(programs / "random_writer"), "6", "500", "100000"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert sorted(done.stdout.removeprefix(RELAYED)) == sorted(combined)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("kill -INT $$", -signal.SIGINT)])
def test_the_status_is_the_commands(tmp_path, script, status):
    assert relayed("-O", "a", "sh", "-c", f"echo out; {script}", cwd=tmp_path) == (RELAYED, b"out\n", b"", status)


def test_a_command_that_is_not_there_is_said_in_its_file_too(tmp_path):
    message = b"dtee-async: nonexistent-command: No such file or directory\n"
    assert relayed("-e", "err", "nonexistent-command", cwd=tmp_path) == (RELAYED, b"", message, 66)
    assert (tmp_path / "err").read_bytes() == message


# What fails.

TOO_LARGE = b": File too large\n"
MEGABYTES = "head -c 8000000 /dev/zero"


def limited(script, *options, stdout, folder):
    """Run a shell script where no file can be larger than a megabyte; what is said of the way, the rest, and the status."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    words = [*WORDS, *options, "sh", "-c", script]
    done = subprocess.run(words, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, preexec_fn=limit, timeout=BOUND_S)
    said, newline, rest = done.stderr.partition(b"\n")
    return said + newline, sorted(rest.splitlines(keepends=True)), done.returncode, done.stdout


def test_a_full_disk_is_said_and_the_others_go_on(tmp_path):
    said, rest, status, out = limited(MEGABYTES, "-O", "a", "-o", "b", stdout=subprocess.PIPE, folder=tmp_path)
    assert (said, rest, status) == (RELAYED, [b"dtee-async: " + name + TOO_LARGE for name in (b"a", b"b")], 74)
    assert out == bytes(8_000_000)
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [bytes(1 << 20)] * 2


def test_when_every_sink_of_a_stream_is_lost_the_command_goes_on(tmp_path):
    with open(tmp_path / "out", "wb") as out:
        said, rest, status, _ = limited(f"{MEGABYTES}; {MEGABYTES}; echo done >&2", "-O", "a", stdout=out, folder=tmp_path)
    assert (said, status) == (RELAYED, 74)
    assert rest == [b"done\n", b"dtee-async: a" + TOO_LARGE, b"dtee-async: stdout: write" + TOO_LARGE]


def test_what_fails_after_the_end_of_the_command_is_said_too(tmp_path):
    """Its last bytes are still in our pipe when it has ended."""
    said, rest, status, out = limited("head -c 1048577 /dev/zero", "-O", "a", stdout=subprocess.PIPE, folder=tmp_path)
    assert (said, rest, status, len(out)) == (RELAYED, [b"dtee-async: a" + TOO_LARGE], 74, (1 << 20) + 1)


def test_an_early_closing_reader_ends_us_by_sigpipe_and_the_command_too(fifo, tmp_path):
    path = fifo("pid")
    with running([*WORDS, "-O", "a", "sh", "-c", f"echo $$ >{path}; exec yes"], tmp_path) as process:
        pidfd = os.pidfd_open(int(path.read_text()))
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(BOUND_S) == -signal.SIGPIPE
        assert process.stderr.read() == RELAYED
    ended = bool(select.select([pidfd], [], [], BOUND_S)[0])
    os.close(pidfd)
    assert ended


def test_a_reader_that_is_gone_does_no_harm_if_nothing_more_is_written(fifo, tmp_path):
    path = fifo("go")
    with running([*WORDS, "-E", "a", "sh", "-c", f"echo out; cat {path}; echo err >&2; exit 5"], tmp_path) as process:
        assert process.stdout.readline() == b"out\n"
        process.stdout.close()
        path.write_text("")
        assert (process.wait(BOUND_S), process.stderr.read()) == (5, RELAYED + b"err\n")
    assert (tmp_path / "a").read_text() == "err\n"


# Backpressure.


def test_a_slow_reader_holds_the_command_back_and_takes_no_memory(slowly_read, programs):
    size_bytes, count = 64 * 1024, 512
    flood = slowly_read("--capture=pipe", "-O", "a", programs / "writes", count, size_bytes, 0)
    expected = hashlib.sha256(b"".join(bytes([97 + i % 26]) * (size_bytes - 1) + b"\n" for i in range(count)))
    assert (flood.returncode, flood.size_bytes, flood.sha256) == (0, count * size_bytes, expected.hexdigest())
    assert max(flood.rss_bytes) - flood.rss_bytes[0] < 4 << 20


def test_a_reader_that_reads_nothing_stops_the_command(fifo, tmp_path):
    """It cannot say that it has written everything, before somebody reads."""
    said = fifo("said")
    with running([*WORDS, "-O", "a", "sh", "-c", f"head -c 16000000 /dev/zero; echo all >{said}"], tmp_path) as process:
        waiting = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
        poll = select.poll()
        poll.register(waiting, select.POLLIN)
        assert poll.poll(500) == []
        assert len(process.stdout.read()) == 16_000_000
        assert (process.wait(BOUND_S), os.read(waiting, 9)) == (0, b"all\n")
        os.close(waiting)
    assert (tmp_path / "a").stat().st_size == 16_000_000


# The end.


def test_a_daemon_that_writes_for_ever_does_not_keep_us(fifo, tmp_path):
    path = fifo("pid")
    with running([*WORDS, "-O", "a", "sh", "-c", f"sh -c 'echo $$ >{path}; exec yes' & cat {path}"], tmp_path) as process:
        reading = threading.Thread(target=drain, args=(process.stdout,))
        reading.start()
        assert process.wait(BOUND_S) == 0
        reading.join()  # with us, the last who holds our stdout is gone


def drain(file):
    while file.read(1 << 20):
        pass


def test_one_that_is_left_behind_and_silent_does_not_keep_us(fifo, tmp_path):
    path = fifo("go")
    said, out, rest, status = relayed("-O", "a", "sh", "-c", f"(cat {path}; echo late) & echo now", cwd=tmp_path)
    assert (said, out, rest, status, (tmp_path / "a").read_text()) == (RELAYED, b"now\n", b"", 0, "now\n")
    path.write_text("")  # somebody reads it: it lives


def test_with_wait_for_writers_what_the_last_of_them_writes_is_there(fifo, tmp_path):
    path = fifo("go")
    script = f"(cat {path}; echo late >&2) & echo now; exit 3"
    with running([*WORDS, "--wait-for=writers", "-O", "a", "-E", "b", "sh", "-c", script], tmp_path) as process:
        assert process.stdout.readline() == b"now\n"
        path.write_text("told\n")
        out, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out, err) == (3, b"told\n", RELAYED + b"late\n")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("now\ntold\n", "late\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle_ends_us_by_it_and_the_command_is_not_disturbed(fifo, tmp_path, number):
    go, said = fifo("go"), fifo("said")
    script = f"trap '' PIPE; echo before; cat {go}; echo late; echo gone on >{said}"
    with running([*WORDS, "-O", "a", "sh", "-c", script], tmp_path) as process:
        assert process.stdout.readline() == b"before\n"
        process.send_signal(number)
        assert process.wait(BOUND_S) == -number
        go.write_text("")
        assert said.read_text() == "gone on\n"


# On each loop.


@pytest.fixture
def captures():
    captures = Captures()
    yield captures
    captures.close()


@pytest.fixture
def ignored_sigpipe():
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGPIPE, before)


class Run:
    """A relayed command: the files a (stdout) and b (stderr), and pipes in the place of our own stdout and stderr."""

    def __init__(self, loop, captures, folder, argv, *, on_done=lambda: None, linger_s=0.0, files=tuple(Stream)):
        self.errors, self.outcome = [], None
        self._on_done = on_done
        (self.out, self._to_out), (self.err, self._to_err) = os.pipe(), os.pipe()
        outputs = [
            StandardOutput(self._to_out, self._to_err),
            *(FileOutput(open_file(str(folder / stream.name), append=False), stream, stream.name) for stream in files),
        ]
        plan = SpawnPlan(argv)
        transport, _, _ = captures.open(CaptureSpec("pipe"), plan)
        relay = partial(Relay, loop, transport, sinks=plain_sinks(transport, outputs), linger=linger_s > 0)
        self.command = Command(
            loop, transport, outputs, lambda output, error: self.errors.append(error), self._done, linger_s=linger_s, relay=relay
        )
        try:
            self.command.start(plan)
        except CommandNotFoundError:
            self.command.end_unstarted(66, b"not there\n")

    def _done(self, outcome):
        self.outcome = outcome
        os.close(self._to_out)
        os.close(self._to_err)
        self._on_done()

    def read(self):
        try:
            with open(self.out, "rb") as out, open(self.err, "rb") as err:
                return out.read(), err.read()
        finally:
            self.out = self.err = -1


@pytest.fixture
def run(ignored_sigpipe, captures, tmp_path):
    """Run a command on a loop that is not asyncio's; checks that no fd is left."""

    def run(script, **more):
        before = open_fds()
        with SelectLoop() as loop:
            made = Run(loop, captures, tmp_path, ["sh", "-c", script], **more)
            loop.run_until(lambda: made.outcome is not None)
        data = made.read()
        assert open_fds() == before
        return made, data

    return run


def test_the_outcome_says_that_it_was_relayed(run, tmp_path):
    made, data = run(SCRIPT)
    assert (made.outcome.relayed, made.outcome.exit.returncode, made.errors) == (True, 3, [])
    assert data == (b"out\n", b"err\n") == tuple((tmp_path / stream.name).read_bytes() for stream in Stream)


def test_a_run_without_a_relay_says_so(captures):
    done = []
    with SelectLoop() as loop:
        transport, _, _ = captures.open(CaptureSpec("pipe"), SpawnPlan(["true"]))
        Command(loop, transport, [RecordingOutput()], lambda *_: None, done.append, linger_s=0).start(SpawnPlan(["true"]))
        loop.run_until(lambda: bool(done))
    assert not done[0].relayed


@pytest.mark.parametrize("linger_s", [0.0, 5.0])
def test_streams_that_the_command_closes_early(run, linger_s):
    made, data = run("exec >&-; echo err >&2; exec 2>&-; exit 4", linger_s=linger_s)
    assert (made.outcome.exit.returncode, made.outcome.writers_left, data) == (4, False, (b"", b"err\n"))


def test_a_writer_that_stays_is_said_and_is_not_waited_for_longer_than_agreed(run):
    made, (out, _) = run("sleep 30 & echo $!", linger_s=0.05)
    os.kill(int(out), signal.SIGKILL)
    assert made.outcome.writers_left


async def test_on_asyncios_loops_too(ignored_sigpipe, captures, tmp_path):
    before = open_fds()
    done = asyncio.Event()
    made = Run(asyncio.get_running_loop(), captures, tmp_path, ["sh", "-c", SCRIPT], on_done=done.set)
    await done.wait()
    assert made.read() == (b"out\n", b"err\n")
    assert (made.outcome.relayed, made.outcome.exit.returncode) == (True, 3)
    assert open_fds() == before


async def test_a_command_that_is_not_there_leaves_nothing_open(ignored_sigpipe, captures, tmp_path):
    before = open_fds()
    done = asyncio.Event()
    made = Run(asyncio.get_running_loop(), captures, tmp_path, ["nonexistent-command"], on_done=done.set)
    await done.wait()
    assert made.read() == (b"", b"not there\n")
    assert made.outcome.exit.returncode == 66
    assert open_fds() == before


async def test_given_up_while_a_reader_is_stuck(ignored_sigpipe, captures, tmp_path):
    before = open_fds()
    done = asyncio.Event()
    argv = ["sh", "-c", "head -c 50000 /dev/zero; head -c 1000000 /dev/zero >&2 & exit 6"]
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    made = Run(asyncio.get_running_loop(), captures, tmp_path, argv, on_done=done.set)
    made.command.on_exit = made.command.give_up
    await done.wait()
    made.read()
    assert made.outcome.exit.returncode == 6
    await threads_gone()
    assert (open_fds(), problems) == (before, [])


async def test_the_last_output_is_lost_when_the_command_has_ended_and_a_writer_stays(ignored_sigpipe, captures, tmp_path):
    done, exited = asyncio.Event(), asyncio.Event()
    argv = ["sh", "-c", "sleep 30 & echo $! >&2; echo out"]
    made = Run(asyncio.get_running_loop(), captures, tmp_path, argv, on_done=done.set, files=())
    os.write(made._to_out, bytes(fcntl.fcntl(made._to_out, fcntl.F_GETPIPE_SZ)))
    made.command.on_exit = exited.set
    await exited.wait()
    assert not done.is_set()  # "out" has no room
    os.close(made.out)
    await done.wait()
    assert [error.errno for error in made.errors] == [errno.EPIPE]
    with open(made.err, "rb") as err:
        os.kill(int(err.read()), signal.SIGKILL)


async def threads_gone():
    """What the threads have in their hands when all is closed, they write."""
    for thread in threading.enumerate():
        if thread.name == "dtee-async duplicate":
            thread.join(BOUND_S)
    joined = asyncio.Event()
    asyncio.get_running_loop().call_later(0, joined.set)  # after what the threads have called
    await joined.wait()


def test_without_threads_the_command_goes_on_and_it_is_said(run, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made, data = run(f"{MEGABYTES}; echo done >&2; exit 5")
    assert (made.outcome.exit.returncode, data) == (5, (b"", b""))
    assert made.outcome.error.errno == errno.EAGAIN
