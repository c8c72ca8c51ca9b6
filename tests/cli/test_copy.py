"""``dtee-async -``: standard input to standard output and to files, as tee(1) does it, which is the reference; with and without splice(2)."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "dtee-async")
BOUND_S = 30
MODES = ("warn", "warn-nopipe", "exit", "exit-nopipe")
FAILED = 74
NOT_OPENED = 73
FLOOD_BYTES = 64 << 20
"""So much that no pipes hold it, nor what can be read before a failure is seen."""

DATA = random.Random(5).randbytes(3_000_001)


@pytest.fixture(params=["with splice", "without splice"])
def way(request, monkeypatch):
    """For what has to hold where there is no tee(2) and splice(2), too."""
    set_way(monkeypatch, "" if request.param == "with splice" else "splice")
    return request.param


@pytest.fixture
def spliced(monkeypatch):
    """For what can only be with splice(2)."""
    set_way(monkeypatch, "")


def set_way(monkeypatch, without):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("DTEE_ASYNC_WITHOUT", without)


@pytest.fixture
def copy(tmp_path):
    """Copy these bytes by the program, in tmp_path; options before the dash."""

    def run(*options, data=None, **more):
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path, "timeout": BOUND_S} | more
        if data is not None:
            settings["input"] = data
        return subprocess.run([PROGRAM, *map(str, options), "-"], **settings)

    return run


@contextmanager
def running(words, folder, **more):
    """A copy in progress, which does not outlive the block."""
    settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": folder, "bufsize": 0} | more
    with subprocess.Popen(words, **settings) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


def show(data):
    """What is compared: of much data, no more than is needed to see that it is not the same."""
    return data if len(data) < 100 else (len(data), hashlib.sha256(data).hexdigest())


# What arrives.


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, len(DATA)])
def test_everything_arrives_at_stdout_and_in_files(copy, tmp_path, way, size):
    (tmp_path / "appended").write_bytes(b"old")
    (tmp_path / "written").write_bytes(b"old" * 100)
    done = copy("-O", "written", "-o", "appended", "-O", "new", data=DATA[:size])
    assert (done.returncode, done.stderr, show(done.stdout)) == (0, b"", show(DATA[:size]))
    assert show((tmp_path / "written").read_bytes()) == show((tmp_path / "new").read_bytes()) == show(DATA[:size])
    assert show((tmp_path / "appended").read_bytes()) == show(b"old" + DATA[:size])


def test_stdout_is_appended_to_if_it_was_opened_for_that(copy, tmp_path, way):
    (tmp_path / "out").write_bytes(b"old")
    with open(tmp_path / "out", "ab") as out:
        assert copy("-O", "a", data=DATA, stdout=out).returncode == 0
    assert show((tmp_path / "out").read_bytes()) == show(b"old" + DATA)
    assert show((tmp_path / "a").read_bytes()) == show(DATA)


def test_stdout_is_written_from_where_it_stands(copy, tmp_path, way):
    (tmp_path / "out").write_bytes(b"0123456789")
    with open(tmp_path / "out", "r+b") as out:
        out.seek(4)
        assert copy(data=b"xy", stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes() == b"0123xy6789"


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"island")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["file", "sparse", "rest"])
def test_a_file_as_stdin(copy, tmp_path, way, kind):
    (tmp_path / "in").write_bytes(DATA)
    data = sparse(tmp_path / "in") if kind == "sparse" else DATA[5:] if kind == "rest" else DATA
    with open(tmp_path / "in", "rb") as file:
        if kind == "rest":
            file.seek(5)
        done = copy("-O", "a", stdin=file)
    assert (done.returncode, done.stderr, show(done.stdout)) == (0, b"", show(data))
    assert show((tmp_path / "a").read_bytes()) == show(data)


def test_a_socket_as_stdin_and_as_stdout(tmp_path, way):
    ours, its_in = socket.socketpair()
    its_out, far = socket.socketpair()
    with ours, its_in, its_out, far, running([PROGRAM, "-O", "a", "-"], tmp_path, stdin=its_in, stdout=its_out) as process:
        its_out.close()
        feeding = threading.Thread(target=lambda: (ours.sendall(DATA), ours.shutdown(socket.SHUT_WR)))
        feeding.start()
        with far.makefile("rb") as file:
            assert show(file.read()) == show(DATA)
        feeding.join()
        assert process.wait(BOUND_S) == 0
    assert show((tmp_path / "a").read_bytes()) == show(DATA)


def test_fifos_as_stdin_and_as_a_file(fifo, tmp_path, way):
    source, sink = fifo("source"), fifo("sink")
    writing = threading.Thread(target=source.write_bytes, args=(DATA,))
    writing.start()
    script = f"exec {PROGRAM} -O sink -o sink - <source"
    with running(["sh", "-c", script], tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        data = sink.read_bytes()
        assert process.wait(BOUND_S) == 0
    writing.join()
    assert (len(data), sum(data)) == (2 * len(DATA), 2 * sum(DATA))


def test_a_terminal_as_stdin_until_its_end_of_file(tmp_path, way):
    ours, theirs = pty.openpty()
    try:
        with running([PROGRAM, "-O", "a", "-"], tmp_path, stdin=theirs) as process:
            os.write(ours, b"one\n")
            assert process.stdout.read(4) == b"one\n"
            os.write(ours, b"two\n\x04")
            assert process.stdout.read() == b"two\n"
            assert (process.wait(BOUND_S), process.stderr.read()) == (0, b"")
    finally:
        os.close(ours)
        os.close(theirs)
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"


def test_what_there_is_is_passed_on_at_once(tmp_path, way):
    with running([PROGRAM, "-O", "a", "-"], tmp_path) as process:
        for piece in (b"one", b"two", b"three"):
            process.stdin.write(piece)
            assert process.stdout.read(len(piece)) == piece
        process.stdin.close()
        assert process.wait(BOUND_S) == 0


def test_dev_stdout_dev_null_and_a_process_substitution(fifo, tmp_path, way):
    digests, digest = fifo("digests"), []
    reading = threading.Thread(target=lambda: digest.append(digests.read_text().split()[0]))
    reading.start()
    script = f"{PROGRAM} -O /dev/null -O /dev/stdout -O >(sha256sum >digests) -"
    done = subprocess.run(["bash", "-c", script], input=DATA, cwd=tmp_path, capture_output=True, timeout=BOUND_S)
    reading.join()
    assert (done.returncode, done.stderr, digest) == (0, b"", [hashlib.sha256(DATA).hexdigest()])
    assert (len(done.stdout), sum(done.stdout)) == (2 * len(DATA), 2 * sum(DATA))


def test_the_same_file_twice_is_as_with_tee(copy, tmp_path, way):
    (tmp_path / "appended").write_bytes(b"old")
    assert copy("-O", "a", "-O", "a", "-o", "appended", "-o", "appended", data=b"0123").returncode == 0
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "appended").read_bytes()) == (b"0123", b"old01230123")
    for words in (["tee", "b", "b"], ["tee", "-a", "c", "c"]):
        subprocess.run(words, input=b"0123", cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert ((tmp_path / "b").read_bytes(), (tmp_path / "c").read_bytes()) == (b"0123", b"01230123")


def test_pipes_that_we_were_given_stay_blocking(copy, way):
    (source, feed), (reader, sink) = os.pipe(), os.pipe()
    os.write(feed, b"x")
    os.close(feed)
    assert copy("-O/dev/null", stdin=source, stdout=sink).returncode == 0
    assert (os.get_blocking(source), os.get_blocking(sink), os.read(reader, 2)) == (True, True, b"x")
    for fd in (source, reader, sink):
        os.close(fd)


def test_v_says_how_each_output_got_its_bytes(copy, tmp_path, spliced):
    done = copy("-v", "-O", "a", "-o", "b", "-O", "/dev/null", data=bytes(1_234_567))
    assert done.stderr.decode().splitlines() == [
        "dtee-async: stdout: 1.23 MB, duplicated by tee(2)",
        "dtee-async: a: 1.23 MB, moved by splice(2)",
        "dtee-async: b: 1.23 MB, read and written",
        "dtee-async: /dev/null: 1.23 MB, moved by splice(2)",
    ]


# What fails.


def test_a_full_disk_is_said_and_the_others_go_on(copy, tmp_path, way):
    done = copy("-O", "/dev/full", "-O", "a", data=DATA)
    assert (done.returncode, done.stderr) == (FAILED, b"dtee-async: /dev/full: No space left on device\n")
    assert show(done.stdout) == show((tmp_path / "a").read_bytes()) == show(DATA)


def test_so_it_is_for_stdout(copy, tmp_path, way):
    with open("/dev/full", "wb") as full:
        done = copy("-O", "a", data=DATA, stdout=full)
    assert (done.returncode, done.stderr) == (FAILED, b"dtee-async: stdout: write: No space left on device\n")
    assert show((tmp_path / "a").read_bytes()) == show(DATA)


def test_two_outputs_that_fail_are_both_said(copy, tmp_path, way):
    with open("/dev/full", "wb") as full:
        done = copy("-O", "/dev/full", "-O", "a", data=DATA, stdout=full)
    said = [b"dtee-async: /dev/full: No space left on device", b"dtee-async: stdout: write: No space left on device"]
    assert (done.returncode, sorted(done.stderr.splitlines())) == (FAILED, said)
    assert show((tmp_path / "a").read_bytes()) == show(DATA)


def test_when_nothing_is_left_to_write_to_it_ends(tmp_path, way):
    with open("/dev/full", "wb") as full, running([PROGRAM, "-"], tmp_path, stdout=full) as process:
        with suppress(BrokenPipeError):
            while True:
                process.stdin.write(DATA)
        assert process.wait(BOUND_S) == FAILED


def test_a_file_that_cannot_be_opened_is_said_and_the_others_go_on(copy, tmp_path, way):
    done = copy("-O", "missing/x", "-O", "a", "-O", ".", data=DATA)
    said = b"dtee-async: missing/x: No such file or directory\ndtee-async: .: Is a directory\n"
    assert (done.returncode, done.stderr) == (NOT_OPENED, said)
    assert show(done.stdout) == show((tmp_path / "a").read_bytes()) == show(DATA)


@pytest.mark.parametrize("mode", ["exit", "exit-nopipe"])
def test_with_exit_nothing_is_copied_then(copy, tmp_path, way, mode):
    done = copy(f"--output-error={mode}", "-O", "missing/x", "-O", "a", data=b"data")
    assert (done.returncode, done.stdout) == (NOT_OPENED, b"")
    assert done.stderr == b"dtee-async: missing/x: No such file or directory\n"
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [("</proc/self/mem", b"Input/output error"), ("0>>b", b"Bad file descriptor")],
    ids=["fails", "not for reading"],
)
def test_a_stdin_that_cannot_be_read_is_said(tmp_path, way, redirection, reason):
    done = subprocess.run(["sh", "-c", f"{PROGRAM} -O a - {redirection}"], cwd=tmp_path, capture_output=True, timeout=BOUND_S)
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, b"", b"dtee-async: stdin: read: " + reason + b"\n")


def test_a_stdin_that_is_closed_is_said_and_no_file_takes_its_place(tmp_path, way):
    (tmp_path / "a").write_bytes(b"old")
    done = subprocess.run(["sh", "-c", f"exec {PROGRAM} -o a - <&-"], cwd=tmp_path, capture_output=True, timeout=BOUND_S)
    assert (done.returncode, done.stdout) == (FAILED, b"")
    assert done.stderr == b"dtee-async: stdin: read: Bad file descriptor\n"
    assert (tmp_path / "a").read_bytes() == b"old"


# A consumer that closes early.


def test_a_consumer_that_closes_ends_us_as_any_program(tmp_path, way):
    with running([PROGRAM, "-O", "a", "-"], tmp_path) as process:
        process.stdin.write(b"first")
        assert process.stdout.read(5) == b"first"
        process.stdout.close()
        with suppress(BrokenPipeError):
            while True:
                process.stdin.write(DATA)
        assert (process.wait(BOUND_S), process.stderr.read()) == (-signal.SIGPIPE, b"")


def test_it_does_while_nothing_comes_too(tmp_path, spliced):
    with running([PROGRAM, "-O", "a", "-"], tmp_path) as process:
        process.stdin.write(b"first")
        assert process.stdout.read(5) == b"first"
        process.stdout.close()
        assert (process.wait(BOUND_S), process.stderr.read()) == (-signal.SIGPIPE, b"")
    assert (tmp_path / "a").read_bytes() in (b"", b"first")  # a thread may not have come to write it


class Told(NamedTuple):
    """What can be compared of two runs: how it ended, whether the file is complete, whether anything was said."""

    succeeded: bool
    by_sigpipe: bool
    file_complete: bool
    said: bool


def told(words, folder, *, closes, stdout=subprocess.PIPE):
    """Flood a tee; its reader closes after the first bytes, or reads everything."""
    with running(words, folder, stdout=stdout) as process:
        process.stdin.write(b"first")
        reading = threading.Thread(target=drain, args=(process.stdout,))
        if closes:
            assert process.stdout.read(5) == b"first"
            process.stdout.close()
        else:
            reading.start()
        size_bytes = 5 + flood(process.stdin)
        status = process.wait(BOUND_S)
        if not closes:
            reading.join()
        said = bool(process.stderr.read())
    complete = (folder / "a").stat().st_size == size_bytes == 5 + FLOOD_BYTES
    (folder / "a").unlink()
    return Told(status == 0, status == -signal.SIGPIPE, complete, said)


def drain(file):
    while file.read(1 << 20):
        pass


def flood(pipe):
    """As much as it takes; how much that was."""
    rest = memoryview(bytes(FLOOD_BYTES))
    with suppress(BrokenPipeError):
        while rest:
            rest = rest[pipe.write(rest[: 1 << 20]) :]  # less than that if we are stopped and continued meanwhile
    pipe.close()
    return FLOOD_BYTES - len(rest)


@pytest.mark.parametrize("mode", ["", *MODES])
@pytest.mark.parametrize("files", [["a"], ["/dev/full", "a"]], ids=["file", "full"])
@pytest.mark.parametrize("closes", [True, False], ids=["closes", "reads"])
def test_the_modes_of_output_error_are_those_of_tee(tmp_path, way, mode, files, closes):
    option = [f"--output-error={mode}"] if mode else []
    theirs = told(["tee", *option, *files], tmp_path, closes=closes)
    ours = told([PROGRAM, *option, *(f"-O{file}" for file in files), "-"], tmp_path, closes=closes)
    if mode == "" and closes and files[0] == "/dev/full":  # which of the two is seen first is a matter of chance
        ours = ours._replace(said=theirs.said)
    assert ours == theirs


def test_the_comparison_tells_the_modes_apart(tmp_path):
    """Else it would prove nothing."""
    seen = {mode: told(["tee", *([f"--output-error={mode}"] if mode else []), "a"], tmp_path, closes=True) for mode in ("", *MODES)}
    assert len({*seen.values()}) >= 4


# Signals.


@pytest.mark.parametrize("program", ["tee", "ours"])
def test_i_ignores_interrupts(tmp_path, way, program):
    words = ["tee", "-i", "a"] if program == "tee" else [PROGRAM, "-i", "-O", "a", "-"]
    with running(words, tmp_path) as process:
        process.stdin.write(b"one")
        assert process.stdout.read(3) == b"one"
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"two")
        assert process.stdout.read(3) == b"two"
        process.stdin.close()
        assert (process.wait(BOUND_S), process.stderr.read()) == (0, b"")
    assert (tmp_path / "a").read_bytes() == b"onetwo"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_ends_us_by_it(tmp_path, way, number):
    with running([PROGRAM, "-O", "a", "-"], tmp_path) as process:
        process.stdin.write(b"one")
        assert process.stdout.read(3) == b"one"
        process.send_signal(number)
        assert (process.wait(BOUND_S), process.stdout.read(), process.stderr.read()) == (-number, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_reader_is_stuck_ends_us_by_it(tmp_path, way, number):
    with running([PROGRAM, "-O", "a", "-"], tmp_path) as process:
        os.set_blocking(process.stdin.fileno(), False)
        written = 0
        while (count := process.stdin.write(bytes(65536))) or not written:  # None: full, and so is everything behind it
            written += count or 0
        process.send_signal(number)
        assert process.wait(BOUND_S) == -number


# Progress.


def test_progress_is_a_line_on_a_terminal(tmp_path, spliced):
    ours, theirs = pty.openpty()
    try:
        with running([PROGRAM, "--progress", "-"], tmp_path, stdout=subprocess.DEVNULL, stderr=theirs) as process:
            process.stdin.write(bytes(12_000))
            shown = os.read(ours, 1024)  # after a second
            process.stdin.close()
            assert process.wait(BOUND_S) == 0
        last = os.read(ours, 1024)
    finally:
        os.close(ours)
        os.close(theirs)
    assert re.fullmatch(rb"\r12\.0 kB, [\d.]+ kB/s, 0:00:01\x1b\[K", shown)
    assert re.fullmatch(rb"\r12\.0 kB, [\d.]+ kB/s, 0:00:\d\d\x1b\[K\r\n", last)


def test_progress_is_nothing_where_stderr_is_no_terminal(tmp_path, way):
    with running([PROGRAM, "--progress", "-"], tmp_path) as process:
        assert process.communicate(b"x", timeout=BOUND_S) == (b"x", b"")


def test_force_progress_is_lines_wherever_stderr_goes(tmp_path, spliced):
    with running([PROGRAM, "--force-progress", "-"], tmp_path) as process:
        process.stdin.write(b"x" * 500)
        shown = os.read(process.stderr.fileno(), 1024)  # after a second
        process.stdin.close()
        assert (process.wait(BOUND_S), process.stdout.read()) == (0, b"x" * 500)
        shown += process.stderr.read()
    assert re.fullmatch(rb"(500 B, \d+ B/s, 0:00:\d\d\n){2}", shown)


@pytest.mark.parametrize("stdin", [b"", b"x" * 1500])
def test_the_last_line_is_shown_in_any_case(copy, spliced, stdin):
    done = copy("--force-progress", data=stdin)
    assert done.stderr.startswith(b"1.50 kB, " if stdin else b"0 B, ")
    assert done.stderr.count(b"\n") == 1


# What is wrong, and what is not imported.


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-", "x"], "- copies standard input and takes no arguments: unexpected 'x'"),
        (["-q", "-"], "option '--cron' goes with a command, and - is none"),
        (["--capture=pipe", "-"], "option '--capture' goes with a command, and - is none"),
        (["-O", "ran", "-e", "x", "-"], "- copies one stream: use -o or -O in the place of '--err-append'"),
        (["-O", "ran", "-C", "x", "-"], "- copies one stream: use -o or -O in the place of '--combined-overwrite'"),
        (["--output-error=never", "-"], "option '--output-error': expected warn or warn-nopipe or exit or exit-nopipe, got 'never'"),
        (["--output-error", "-"], "option '--output-error': expected warn or warn-nopipe or exit or exit-nopipe, got '-'"),
        (["--progress", "touch", "ran"], "option '--progress' goes with - as the command: standard input is copied"),
        (["--output-error=warn", "--jobs", "x"], "option '--output-error' goes with - as the command: standard input is copied"),
    ],
)
def test_a_command_line_that_is_wrong_copies_nothing(cli, tmp_path, words, text):
    done = cli(*words)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (64, b"", f"dtee-async: {text}\nTry 'dtee-async -h' for help.\n")
    assert os.listdir(tmp_path) == []


def test_under_the_cron_name_a_dash_is_a_command(cli):
    done = cli("cronty-async", "-")
    assert (done.returncode, done.stdout) == (66, b"")


HEAVY = {"anyio", "asyncio", "dotenv", "gettext", "msgspec", "shutil", "structlog", "subprocess", "tempfile", "uvloop"}


def test_nothing_heavy_is_imported(tmp_path):
    words = [sys.executable, "-X", "importtime", "-m", "dtee_async", "-v", "-O", "a", "-"]
    done = subprocess.run(words, input=b"x", cwd=tmp_path, capture_output=True, text=False, env=os.environ | {"LC_ALL": "C"}, check=True)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "dtee_async.cli.copy" in imported
    assert not imported & HEAVY
