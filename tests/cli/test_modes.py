"""``--capture`` and the options around it, as somebody at a shell sees them: what arrives, what is said, and how it ends."""

import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
BOUND_S = 20.0
EXACT = {"ordered", "turnstile"}
RELAYED = ", bytes moved by tee(2) and splice(2)"
PROMISES = {
    "ordered": "capture mode ordered, exact order",
    "turnstile": "capture mode turnstile, exact order",
    "pipe": f"capture mode pipe, order by time of reading{RELAYED}",
}
NESTED = f"{PROMISES['pipe']} (no turnstile: a turnstile is around this process already)"


@contextmanager
def started(words, **options):
    """A program in a process group of its own, which does not outlive the block."""
    with subprocess.Popen(words, process_group=0, **options) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


# What arrives.


def test_each_stream_is_complete_and_both_are_in_order_as_far_as_the_mode_has_one(cli, tmp_path, programs, random_writes, capture_mode):
    combined, out, err = random_writes(5, 1000, 100_000)
    writer = [programs / "random_writer", 5, 1000, 100_000]
    done = cli("--capture", capture_mode, "-O", "out", "-E", "err", "-C", "all", *writer)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()) == (out, err)
    assert (tmp_path / "all").stat().st_size == len(combined)
    if capture_mode in EXACT:
        assert (tmp_path / "all").read_bytes() == combined


@pytest.mark.parametrize("mode", sorted(EXACT))
def test_in_one_pipe_the_order_is_that_of_the_writes(cli, programs, random_writes, mode):
    writer = [programs / "random_writer", 6, 1000, 100_000]
    done = cli("--capture", mode, *writer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == random_writes(6, 1000, 100_000)[0]


@pytest.mark.parametrize(("outer", "inner"), [*product(PROMISES, PROMISES)])
def test_one_within_another_is_complete_and_exact_if_both_are(cli, tmp_path, programs, random_writes, outer, inner):
    combined, out, err = random_writes(3, 300, 100_000)
    command = ["dtee-async", "--capture", inner, "-C", "inner", programs / "random_writer", 3, 300, 100_000]
    done = cli("--capture", outer, "-C", "outer", *command)
    falls_back = outer == inner == "turnstile"
    shown = NESTED.replace(RELAYED, "")  # the file for both streams has to have the batches
    said = f"dtee-async: {shown}\n".encode() if falls_back else b""
    assert (done.returncode, done.stdout, done.stderr) == (0, out, said + err)
    if {outer, inner} <= EXACT and not falls_back:
        assert (tmp_path / "outer").read_bytes() == (tmp_path / "inner").read_bytes() == combined


def test_the_command_has_our_stdin_group_and_environment_and_no_fd_of_ours(capture_mode):
    script = "cat; env; ls /proc/self/fd | tr '\\n' ' '; ps -o pgid= -p $$ | tr -d ' '"
    words = [BIN / "dtee-async", "--capture", capture_mode, "sh", "-c", script]
    done = subprocess.run(words, input=b"in\n", capture_output=True)
    plain = subprocess.run(words[3:], input=b"in\n", capture_output=True)
    assert (done.stdout, done.stderr) == (plain.stdout, b"")


def test_a_command_that_is_left_behind_is_not_waited_for(cli, fifo, capture_mode):
    path = fifo("go")
    done = cli("--capture", capture_mode, "sh", "-c", f"(cat {path}; echo late) & echo now")
    assert (done.returncode, done.stdout) == (0, b"now\n")
    path.write_text("")  # somebody reads it: it lives


def test_with_wait_for_writers_what_the_last_of_them_writes_is_there(fifo, capture_mode, tmp_path):
    path = fifo("go")
    script = f"(cat {path}; echo late >&2) & echo now; exit 3"
    words = [BIN / "dtee-async", "--capture", capture_mode, "--wait-for=writers", "-C", tmp_path / "all", "sh", "-c", script]
    with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"now\n"
        path.write_text("told\n")
        out, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out, err) == (3, b"told\n", b"late\n")
    assert sorted((tmp_path / "all").read_text().split()) == ["late", "now", "told"]


def test_32_megabytes_through_a_slow_reader_are_complete_and_take_no_memory(capture_mode, slowly_read, programs):
    size_bytes, count = 64 * 1024, 512
    flood = slowly_read("--capture", capture_mode, programs / "writes", count, size_bytes, 0)
    expected = hashlib.sha256(b"".join(bytes([97 + i % 26]) * (size_bytes - 1) + b"\n" for i in range(count)))
    assert (flood.returncode, flood.size_bytes, flood.sha256) == (0, count * size_bytes, expected.hexdigest())
    assert max(flood.rss_bytes) - flood.rss_bytes[0] < 8 << 20


# How it ends.


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", -signal.SIGINT)],
)
def test_the_exit_status_is_the_commands(cli, script, status, capture_mode):
    assert cli("--capture", capture_mode, "sh", "-c", script).returncode == status


@pytest.mark.parametrize("options", [[mode] for mode in PROMISES] + [["turnstile", "--watch-fds=1-9"]], ids=" ".join)
def test_a_command_that_is_not_there_is_said_and_nobody_hangs(cli, tmp_path, options):
    done = cli("--capture", *options, "-e", "err", "nonexistent-command")
    assert done.returncode == 66
    assert done.stderr == b"dtee-async: nonexistent-command: No such file or directory\n"
    assert (tmp_path / "err").read_bytes() == done.stderr


def pidfd_of(path):
    return os.pidfd_open(int(path.read_text()))


def ends(pidfd):
    try:
        return bool(select.select([pidfd], [], [], BOUND_S)[0])
    finally:
        os.close(pidfd)


def test_a_closed_pipe_ends_us_by_sigpipe_and_the_command_too(fifo, capture_mode):
    path = fifo("pid")
    words = [BIN / "dtee-async", "--capture", capture_mode, "sh", "-c", f"echo $$ >{path}; exec yes"]
    with started(words, stdout=subprocess.PIPE) as process:
        pidfd = pidfd_of(path)
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(BOUND_S) == -signal.SIGPIPE
    assert ends(pidfd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("words", [["dtee-async"], ["cronty-async"]], ids=["dtee", "cronty"])
def test_when_we_are_ended_by_a_signal_the_command_is_not_disturbed_and_its_writes_do_not_hang(fifo, capture_mode, number, words):
    path, go, said = fifo("pid"), fifo("go"), fifo("said")
    script = f"trap '' PIPE; echo before; echo $$ >{path}; cat {go}; echo late; echo late >&2; echo gone on >{said}"
    command = [BIN / words[0], "--capture", capture_mode, "sh", "-c", script]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        pidfd = pidfd_of(path)
        process.send_signal(number)
        assert process.wait(BOUND_S) == -number
    go.write_text("")
    assert said.read_text() == "gone on\n"
    assert ends(pidfd)


# What is said.


def test_v_says_the_mode_and_its_promise_before_anything_else(cli, capture_mode):
    done = cli("-v", "--capture", capture_mode, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", f"dtee-async: {PROMISES[capture_mode]}\nerr\n".encode())


@pytest.mark.parametrize("capture", [[], ["--capture=auto"]], ids=["", "auto"])
def test_v_says_why_auto_is_not_ordered(cli, capture):
    assert cli("-v", *capture, "echo").stderr == f"dtee-async: {PROMISES['ordered']}\n".encode()
    done = cli("-v", *capture, "sh", "-c", "echo x >/dev/stderr")
    assert done.stderr.startswith(b"dtee-async: capture mode ")
    assert b"opens /dev/stderr" in done.stderr.splitlines()[0]
    assert done.stderr.endswith(b"\nx\n")


def test_without_v_nothing_is_said_of_a_mode_that_could_be_had(cli, capture_mode):
    assert cli("--capture", capture_mode, "true").stderr == b""


def test_a_mode_that_cannot_be_had_is_said_in_any_case_with_what_there_is_instead(cli):
    done = cli("--capture=turnstile", "dtee-async", "--capture=turnstile", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", f"dtee-async: {NESTED}\nerr\n".encode())


def test_in_cron_mode_nothing_is_said_of_the_mode(cli):
    for words in (["cronty-async"], ["dtee-async", "-q"], ["dtee-async", "--cron", "-v"]):
        done = cli("--capture=turnstile", *words, "--capture=turnstile", "echo", "x")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        done = cli("--capture=turnstile", *words, "--capture=turnstile", "sh", "-c", "echo x; exit 4")
        assert (done.returncode, done.stdout) == (4, b"x\n")
        assert done.stderr == f"{words[0]}: sh: exited with status 4\n".encode()


def test_cronty_has_the_modes_too_and_is_silent_when_all_is_well(cli, tmp_path, capture_mode):
    done = cli("cronty-async", "--capture", capture_mode, "-o", "log", "echo", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "log").read_text() == "x\n"


@pytest.mark.parametrize("mode", sorted(EXACT))
def test_cronty_replays_in_order(cli, programs, random_writes, mode):
    writer = [programs / "random_writer", 8, 300, 100_000]
    done = cli("cronty-async", "--capture", mode, *writer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == random_writes(8, 300, 100_000)[0] + b"cronty-async: random_writer: exited with status 0\n".replace(
        b"random_writer", os.fsencode(writer[0])
    )


# Privileges.


@pytest.fixture
def unprivileged():
    """Words before a command that take away what a turnstile needs, CAP_SYS_ADMIN; none if we do not have it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    return ["setpriv", "--bounding-set=-sys_admin"]


STATUS = "grep NoNewPrivs /proc/self/status"


def no_new_privs(done):
    return int(done.stdout.split(b":")[1])


def test_without_privileges_a_turnstile_that_was_asked_for_takes_no_new_privs(unprivileged):
    words = [*unprivileged, BIN / "dtee-async", "-v", "--capture=turnstile", "sh", "-c", STATUS]
    done = subprocess.run(words, capture_output=True)
    assert done.stderr == f"dtee-async: {PROMISES['turnstile']}\n".encode()
    assert no_new_privs(done) == 1


def test_without_privileges_auto_takes_nothing_away_from_the_command(unprivileged):
    script = f"echo x >/dev/stderr; {STATUS}"
    done = subprocess.run([*unprivileged, BIN / "dtee-async", "sh", "-c", script], capture_output=True)
    assert (no_new_privs(done), done.stderr) == (0, b"x\n")
    done = subprocess.run([*unprivileged, BIN / "dtee-async", "-v", "sh", "-c", script], capture_output=True)
    assert done.stderr.decode().startswith(f"dtee-async: {PROMISES['pipe']} (opens /dev/stderr; no turnstile: it takes CAP_SYS_ADMIN")


@pytest.mark.root
def test_with_privileges_a_turnstile_takes_nothing_away_from_the_command(cli):
    done = cli("-v", "--capture=turnstile", "sh", "-c", STATUS)
    assert no_new_privs(done) == 0


# What is wrong.


@pytest.mark.parametrize("script", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--capture=nonsense"], "option '--capture': expected auto or ordered or turnstile or pipe or pty, got 'nonsense'"),
        (["--capture", "Pipe"], "option '--capture': expected auto or ordered or turnstile or pipe or pty, got 'Pipe'"),
        (["--capture="], "option '--capture' requires an argument"),
        (["--capture=pipe", "--capture=pipe"], "option '--capture' is given twice"),
        (["--watch-fds=1-9"], "option '--watch-fds' goes with --capture=turnstile"),
        (["--watch-fds=1-9", "--capture=pipe"], "option '--watch-fds' goes with --capture=turnstile"),
        (["--watch-fds=2-3", "--capture=turnstile"], "option '--watch-fds': expected 1-2 or 1-9, got '2-3'"),
        (["--stderr-apart"], "option '--stderr-apart' goes with --capture=pty"),
        (["--wait-for=ever"], "option '--wait-for': expected exit or writers, got 'ever'"),
    ],
)
def test_a_wish_that_cannot_be_is_an_error_and_nothing_runs(cli, tmp_path, script, words, text):
    done = cli(script, *words, "touch", "ran")
    assert (done.returncode, done.stderr.decode()) == (64, f"{script}: {text}\nTry '{script} -h' for help.\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("option", ["--capture=pipe", "--watch-fds=1-9", "--stderr-apart", "--wait-for=writers", "--verbose"])
def test_with_jobs_a_capture_mode_belongs_to_a_job(cli, tmp_path, option):
    (tmp_path / "jobs.toml").write_text('[jobs.web]\ncommand = "touch ran"\n')
    done = cli("--jobs", "jobs.toml", option)
    name = option.partition("=")[0]
    assert done.returncode == 64
    assert done.stderr.decode().startswith(f"dtee-async: with --jobs, option '{name}' belongs to a job: write it into jobs.toml\n")
    assert os.listdir(tmp_path) == ["jobs.toml"]
