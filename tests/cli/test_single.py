"""One command on the command line: what passes through, what is copied, how it ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


SCRIPT = "echo a; echo b >&2; echo c"


def test_output_passes_through_apart_and_is_copied_in_order(cli, tmp_path):
    (tmp_path / "log").write_text("old\n")
    done = cli("-o", "o", "-O", "o2", "-eE", "-E", "e2", "-c", "log", "-C", "all", "sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\nc\n", b"b\n")
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"o": "a\nc\n", "o2": "a\nc\n", "E": "b\n", "e2": "b\n", "log": "old\na\nb\nc\n", "all": "a\nb\nc\n"}


def test_in_one_pipe_the_order_is_that_of_the_writes(cli, programs, random_writes):
    done = cli(programs / "random_writer", 5, 2000, 100_000, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == random_writes(5, 2000, 100_000)[0]


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_the_exit_status_is_the_commands(cli, script, status):
    assert cli("sh", "-c", script).returncode == status


def test_a_command_that_dies_by_sigint_makes_us_die_by_it(cli):
    assert cli("sh", "-c", "kill -INT $$").returncode == -signal.SIGINT


def test_a_command_that_is_not_there_is_said_in_its_own_stderr(cli, tmp_path):
    done = cli("-e", "err", "nonexistent-command")
    assert done.returncode == 66
    assert done.stderr == b"dtee-async: nonexistent-command: No such file or directory\n"
    assert (tmp_path / "err").read_bytes() == done.stderr


def test_every_file_that_cannot_be_opened_is_said_and_nothing_runs_or_is_truncated(cli, tmp_path):
    (tmp_path / "precious").write_text("old")
    done = cli("-O", "precious", "-o", "no/a", "-C", "no/b", "touch", "ran")
    assert done.returncode == 73
    assert done.stderr == b"dtee-async: no/a: No such file or directory\ndtee-async: no/b: No such file or directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious").read_text() == "old"


def test_a_full_disk_is_said_once_and_the_rest_goes_on(cli, tmp_path):
    done = cli("-o", "/dev/full", "-O", "good", "sh", "-c", "echo a; sleep 0.01; echo b")
    assert done.returncode == 74
    assert done.stderr == b"dtee-async: /dev/full: No space left on device\n"
    assert (tmp_path / "good").read_text() == done.stdout.decode() == "a\nb\n"


def test_a_closed_pipe_kills_us_by_sigpipe(tmp_path):
    child = subprocess.Popen([BIN / "dtee-async", "yes"], stdout=subprocess.PIPE)
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait() == -signal.SIGPIPE


def test_the_command_has_our_stdin_group_and_extra_fds_and_no_fd_of_ours(cli):
    reader, writer = os.pipe()
    os.write(writer, b"x")
    os.close(writer)
    script = f"cat; cat <&{reader}; ls /proc/self/fd | tr '\\n' ' '; ps -o pgid= -p $$ | tr -d ' '"
    done = subprocess.run([BIN / "dtee-async", "bash", "-c", script], input=b"in", capture_output=True, pass_fds=[reader])
    os.close(reader)
    *fds, group = done.stdout.split()
    assert sorted(fds) == sorted([b"inx0", b"1", b"2", b"3", b"%d" % reader])  # 3 is the listing
    assert int(group) == os.getpgid(0)


def test_cron_mode_is_silent_when_all_is_well(cli, tmp_path):
    done = cli("cronty-async", "-o", "log", "echo", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "log").read_text() == "x\n"


@pytest.mark.parametrize("words", [["cronty-async"], ["dtee-async", "-q"], ["dtee-async", "--cron"]])
@pytest.mark.parametrize(
    ("script", "status", "words_at_the_end"),
    [
        ("echo a; exit 2", 2, "sh: exited with status 2\n"),
        ("echo a; echo b >&2; echo c", 0, "sh: exited with status 0\n"),
        ("echo a; kill -KILL $$", 137, "sh: process terminated by signal 9: Killed\n"),
    ],
)
def test_cron_mode_replays_in_order_when_there_is_something_to_report(cli, words, script, status, words_at_the_end):
    done = cli(*words, "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    plain = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    assert done.stdout.decode() == f"{plain.decode()}{words[0]}: {words_at_the_end}"
    assert done.returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_cron_mode_replays_and_reports_when_it_is_interrupted_and_dies_by_that_signal(cli, tmp_path, number):
    os.mkfifo(tmp_path / "go")
    script = "echo before; echo $$ >go; exec sleep 100"
    child = subprocess.Popen(["cronty-async", "sh", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int((tmp_path / "go").read_text())
    child.send_signal(number)
    out, err = child.communicate()
    os.kill(pid, signal.SIGKILL)
    assert out == b"before\n"
    assert err.decode() == f"cronty-async: received signal {int(number)}: {signal.strsignal(number)}\n"
    assert child.returncode == -number


def test_ignored_interrupts_are_ignored_by_us_and_not_by_the_command(tmp_path):
    os.mkfifo(tmp_path / "go")
    script = "trap 'echo interrupted; exit 3' INT; echo $$ >go; sleep 100 & wait"
    child = subprocess.Popen([BIN / "dtee-async", "-i", "bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, process_group=0)
    (tmp_path / "go").read_text()
    os.killpg(child.pid, signal.SIGINT)
    assert child.communicate()[0] == b"interrupted\n"
    assert child.returncode == 3


def test_a_missing_temporary_directory_is_a_clear_error_and_in_cron_mode_runs_uncaptured(cli):
    environment = os.environ | {"TMPDIR": "/nonexistent"}
    done = cli("echo", "x", env=environment)
    assert (done.returncode, done.stdout) == (69, b"")
    assert done.stderr == b"dtee-async: /nonexistent: temporary directory: No such file or directory\n"
    done = cli("cronty-async", "sh", "-c", "echo x; exit 4", env=environment)
    assert (done.returncode, done.stdout) == (4, b"x\n")


def test_usage_and_version(cli):
    assert cli("-h").stdout.startswith(b"Usage: dtee-async [OPTION]... COMMAND")
    assert cli("-h").returncode == 0
    assert b"--cron" not in cli("cronty-async", "-h").stdout
    assert cli("-V").stdout.startswith(b"dtee-async 0")
    assert (cli().returncode, cli().stdout) == (64, cli("-h").stdout)
    done = cli("--nope", "true")
    assert (done.returncode, done.stderr) == (64, b"dtee-async: unrecognised option '--nope'\nTry 'dtee-async -h' for help.\n")


def test_python_m_is_the_same_program(tmp_path):
    done = subprocess.run([BIN / "python", "-m", "dtee_async", "sh", "-c", SCRIPT], capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\nc\n", b"b\n")


def test_three_deep_is_exact(cli, tmp_path, programs, random_writes):
    combined, out, err = random_writes(3, 500, 100_000)
    inner = ["dtee-async", "-C", "b", "dtee-async", "-C", "c", programs / "random_writer", 3, 500, 100_000]
    done = cli("-C", "a", *inner, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == combined
    done = cli("cronty-async", "-C", "d", *inner)
    assert (done.stdout, done.stderr) == (out, err + b"cronty-async: dtee-async: exited with status 0\n")
    assert all((tmp_path / name).read_bytes() == combined for name in "abcd")


@pytest.mark.parametrize("environment", [{}, {"A": "b"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C"}])
def test_the_environment_is_the_one_that_we_were_given(environment):
    done = subprocess.run([BIN / "dtee-async", "/usr/bin/env"], capture_output=True, env=environment)
    assert dict(line.split("=", 1) for line in done.stdout.decode().splitlines()) == environment


@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "POSIX"}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_command_gets_the_locale_that_we_were_given(cli, given):
    environment = {"PATH": os.environ["PATH"], **given}
    done = cli("sh", "-c", 'echo "${LC_CTYPE-unset}"', env=environment)
    assert done.stdout.decode() == given.get("LC_CTYPE", "unset") + "\n"


def ignored_and_blocked(status):
    """The two masks of a /proc/PID/status, without 32 and 33: the C library has those for its threads, and make ignores them."""
    return [int(line.split()[1], 16) & ~(0b11 << 31) for line in status.splitlines()]


@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe", "pty"])
def test_the_signals_that_are_ignored_and_blocked_in_the_command_are_those_that_were_for_us(cli, mode):
    words = [shutil.which("grep"), "-E", "SigIgn|SigBlk", "/proc/self/status"]
    done = cli(f"--capture={mode}", *words)
    assert ignored_and_blocked(done.stdout) == ignored_and_blocked(subprocess.check_output(words))
    assert len(done.stdout.splitlines()) == 2
