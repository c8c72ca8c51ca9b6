"""The contract, "Which status wins": a test for each cell of its table."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

pytestmark = pytest.mark.usefixtures("plain")

ENDINGS = [("exit 0", 0), ("exit 5", 5), ("kill -KILL $$", 137)]
INT = "kill -INT $$"


@pytest.mark.parametrize(("script", "status"), ENDINGS)
def test_a_file_cannot_be_opened_normal_73_and_nothing_runs(cli, tmp_path, script, status):
    done = cli("-o", "no/file", "sh", "-c", f"echo ran >ran; {script}")
    assert (done.returncode, done.stderr) == (73, b"dtee-async: no/file: No such file or directory\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("script", "status"), ENDINGS)
def test_a_file_cannot_be_opened_cron_runs_and_73_wins(cli, tmp_path, script, status):
    done = cli("cronty-async", "-o", "no/file", "-c", "good", "sh", "-c", f"echo ran; {script}")
    assert done.returncode == 73
    assert done.stderr.startswith(b"cronty-async: no/file: No such file or directory\n")
    assert (tmp_path / "good").read_bytes() == b"ran\n"


@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize(("script", "status"), [*((script, 74) for script, _ in ENDINGS), (INT, -signal.SIGINT)])
def test_a_write_to_a_file_fails_both_74_wins_but_over_a_death_by_int(cli, name, script, status):
    done = cli(name, "-o", "/dev/full", "sh", "-c", f"echo x; {script}")
    assert done.returncode == status
    assert done.stderr.startswith(f"{name}: /dev/full: No space left on device\n".encode())


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(("script", "status"), ENDINGS)
def test_own_stdout_or_stderr_fails_normal_74(cli, stream, script, status):
    with open("/dev/full", "wb") as full:
        done = cli("sh", "-c", f"echo x; echo y >&2; {script}", **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full})
    assert done.returncode == 74
    if stream == "stdout":
        assert sorted(done.stderr.splitlines()) == [b"dtee-async: stdout: write: No space left on device", b"y"]
    else:
        assert done.stdout == b"x\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(("script", "status"), ENDINGS)
def test_own_stdout_or_stderr_fails_cron_the_commands_status(cli, stream, script, status):
    with open("/dev/full", "wb") as full:
        words = ["cronty-async", "sh", "-c", f"echo x; echo y >&2; {script}"]
        done = cli(*words, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full})
    assert done.returncode == status


@pytest.mark.parametrize("what", ["missing", "too long", "socket", "bind"])
def test_no_temporary_directory_or_no_sockets_normal_69_and_nothing_runs(cli, tmp_path, failing, what):
    done = cli("touch", "ran", env=_environment(what, tmp_path, failing))
    assert (done.returncode, done.stdout) == (69, b"")
    assert done.stderr.startswith(b"dtee-async: ")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["missing", "too long", "socket", "bind"])
@pytest.mark.parametrize(("script", "status"), [*ENDINGS, (INT, -signal.SIGINT)])
def test_no_temporary_directory_or_no_sockets_cron_runs_uncaptured_with_the_commands_status(cli, tmp_path, failing, what, script, status):
    done = cli("cronty-async", "sh", "-c", f"echo x; {script}", env=_environment(what, tmp_path, failing))
    assert (done.returncode, done.stdout) == (status, b"x\n")
    assert done.stderr.startswith(b"cronty-async: ")
    assert b"sh: exited with" in done.stderr or b"sh: process terminated" in done.stderr


def test_no_temporary_directory_and_no_file_cron_73_after_the_command(cli, tmp_path, failing):
    done = cli("cronty-async", "-o", "no/file", "sh", "-c", "echo x; echo y >late; exit 4", env=_environment("missing", tmp_path, failing))
    assert (done.returncode, done.stdout, (tmp_path / "late").read_text()) == (73, b"x\n", "y\n")


@pytest.mark.parametrize("words", [["nonexistent"], ["/dev/null"], ["/"], ["/dev/null/x"], [""]])
def test_command_not_found_normal_66(cli, words):
    done = cli(*words)
    assert (done.returncode, done.stdout) == (66, b"")
    assert done.stderr.startswith(f"dtee-async: {words[0]}: ".encode())
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("captured", [True, False])
def test_command_not_found_cron_66_with_its_message_and_the_status_line(cli, captured):
    done = cli("cronty-async", "nonexistent", env=os.environ | ({} if captured else {"TMPDIR": "/nonexistent"}))
    assert (done.returncode, done.stdout) == (66, b"")
    said = ["cronty-async: nonexistent: No such file or directory", "cronty-async: nonexistent: exited with status 66"]
    assert done.stderr.decode().splitlines()[-2:] == said


def _environment(what, tmp_path, failing):
    if what == "missing":
        return os.environ | {"TMPDIR": "/nonexistent"}
    if what == "too long":
        path = tmp_path / ("x" * 120)
        path.mkdir()
        return os.environ | {"TMPDIR": str(path)}
    return failing(what, 23)
