"""A receive call that says that output was lost: told, with 74, and the rest is captured."""

import errno

import pytest

LOST = "input socket: No buffer space available"
CALLS = [("recvmmsg", ""), ("recvmsg", "recvmmsg")]
COUNT = 2000


@pytest.fixture(params=CALLS, ids=lambda call: call[0])
def losing(request, failing, monkeypatch):
    """An environment in which the receive call reports a loss, as NetBSD's does; ``after`` so many calls, ``times`` times."""
    call, without = request.param
    monkeypatch.setenv("DTEE_ASYNC_WITHOUT", without)
    return lambda after, times=1: failing(call, errno.ENOBUFS, FAIL_AFTER=after, FAIL_TIMES=times)


@pytest.mark.parametrize("after", [1, 2, 3, 5, 12, 25])
def test_it_is_said_with_74_and_the_rest_is_captured(cli, tmp_path, programs, random_writes, losing, after):
    done = cli("-C", "all", programs / "random_writer", 5, COUNT, 300, env=losing(after))
    combined, out, err = random_writes(5, COUNT, 300)
    assert (tmp_path / "all").read_bytes() == combined
    assert (done.returncode, done.stdout) == (74, out)
    assert done.stderr == err + f"dtee-async: {LOST}\n".encode()


@pytest.mark.parametrize("after", [1, 2])
def test_after_the_exit_too(cli, losing, after):
    done = cli("sh", "-c", "echo a; echo b", env=losing(after))
    assert (done.returncode, done.stdout, done.stderr.decode()) == (74, b"a\nb\n", f"dtee-async: {LOST}\n")


@pytest.mark.parametrize("status", [0, 5])
def test_cron_mode_replays_what_it_has(cli, losing, status):
    done = cli("cronty-async", "sh", "-c", f"echo a; exit {status}", env=losing(1))
    assert (done.returncode, done.stdout) == (74, b"a\n")
    assert done.stderr.decode() == f"cronty-async: {LOST}\ncronty-async: sh: exited with status {status}\n"


def test_a_loss_that_does_not_end_is_an_end(cli, losing):
    done = cli("cronty-async", "-C", "all", "sh", "-c", "echo a; yes", env=losing(1, times=0))
    assert done.returncode == 74
    assert f"cronty-async: {LOST}\n" in done.stderr.decode()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_job_says_that_its_capture_failed_and_a_quiet_one_shows_what_it_has(cli, tmp_path, losing, quiet):
    (tmp_path / "jobs.toml").write_text(f'[jobs.a]\ncommand = "echo hello"\nquiet = {str(quiet).lower()}\n')
    done = cli("--jobs", "jobs.toml", env=losing(1) | {"NO_COLOR": "1"})
    assert done.returncode == 74
    assert b"hello\n" in done.stdout
    assert "capture failed" in done.stderr.decode()
    assert LOST in done.stderr.decode()
