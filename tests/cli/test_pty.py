"""Mode ``pty`` from the command line: a terminal for the command, ours behind it."""

import os
import signal
import struct
import termios
from fcntl import ioctl

import pytest

READS = 'echo begun; read word; echo "<$word>"; read rest'


def settings(terminal):
    return termios.tcgetattr(terminal.ours)[:4]


def wait_stopped_by(terminal, number):
    assert terminal.wait() == -number


def test_without_a_terminal_of_ours_the_command_has_one(cli, tmp_path):
    done = cli("--capture=pty", "-C", "file", "sh", "-c", "[ -t 1 ] && [ -t 2 ] && echo yes; echo no >&2; [ ! -t 0 ]; : </dev/tty")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"yes\nno\n", b"")
    assert (tmp_path / "file").read_bytes() == b"yes\nno\n"


def test_stderr_apart_is_apart(cli):
    done = cli("--capture=pty", "--stderr-apart", "sh", "-c", "[ -t 1 ] && echo out; [ ! -t 2 ] && echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_what_is_typed_reaches_the_command_and_is_shown_and_captured(terminal):
    terminal.start("dtee-async", "--capture=pty", "-C", "file", "sh", "-c", READS)
    terminal.read_until(b"begun\n")
    terminal.type(b"hello\r")
    terminal.read_until(b"hello\n<hello>\n")
    terminal.type(b"\x04")
    assert terminal.wait() == 1  # read at the end of its input
    assert (terminal.folder / "file").read_bytes() == b"begun\r\nhello\r\n<hello>\r\n"


def test_ctrl_c_is_typed_to_the_command_and_we_die_as_it_did(terminal):
    before = settings(terminal)
    terminal.start("dtee-async", "--capture=pty", "sh", "-c", READS)
    terminal.read_until(b"begun\n")
    assert settings(terminal) != before
    terminal.type(b"\x03")
    assert terminal.wait() == -signal.SIGINT
    assert settings(terminal) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_us_leaves_our_terminal_as_it_was(terminal, number):
    before = settings(terminal)
    child = terminal.start("dtee-async", "--capture=pty", "sh", "-c", READS).child
    terminal.read_until(b"begun\n")
    child.send_signal(number)
    assert terminal.wait() == -number
    assert settings(terminal) == before


def test_the_window_is_as_large_as_ours_and_follows_it(terminal):
    ioctl(terminal.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    script = "trap 'stty size; exit 0' WINCH; stty size; sleep 100 & wait"
    terminal.start("dtee-async", "--capture=pty", "bash", "-c", script)
    terminal.read_until(b"33 77\n")
    ioctl(terminal.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
    terminal.read_until(b"44 88\n")
    assert terminal.wait() == 0


def test_a_sigint_to_us_is_typed_where_nobody_types(cli, tmp_path):
    os.mkfifo(tmp_path / "go")
    script = "trap 'echo interrupted; exit 5' INT; kill -INT $PPID; read word <go"
    done = cli("--capture=pty", "bash", "-c", script)
    assert (done.returncode, done.stdout) == (5, b"interrupted\n")


def test_begun_in_the_background_it_is_stopped_and_goes_on_in_the_foreground(terminal):
    before = settings(terminal)
    terminal.start_shell()
    terminal.type(b"dtee-async --capture=pty -O file sh -c 'echo be''gun; read word; exit 3' &\n")
    end = terminal.read_until(rb"\[1\] \d+")
    terminal.type(b"until jobs -s | grep -q dtee; do sleep 0.02; done; echo is_''stopped\n")
    end = terminal.read_until(rb"is_stopped", end)
    terminal.type(b"fg\n")
    end = terminal.read_until(rb"begun", end)
    terminal.type(b"word\r")
    end = terminal.read_until(rb"prompt> ", end)
    terminal.type(b"echo status=$?; exit 5\n")
    terminal.read_until(rb"status=3\n", end)
    assert terminal.wait() == 5
    assert (terminal.folder / "file").read_bytes().startswith(b"begun\r\n")
    assert settings(terminal) == before


def test_one_job_can_have_the_terminal_and_the_others_go_on(terminal):
    (terminal.folder / "jobs.toml").write_text(
        f"[jobs.asks]\ncapture = 'pty'\ninteractive = true\ncommand = ['sh', '-c', '{READS}']\n[jobs.other]\ncommand = 'echo from other'\n"
    )
    before = settings(terminal)
    terminal.start("dtee-async", "--jobs", "jobs.toml")
    terminal.read_until(rb"asks  \| begun")
    terminal.type(b"hello\r")
    terminal.read_until(rb"<hello>")
    terminal.type(b"\x03")
    assert terminal.wait() == 130
    assert b"other | from other" in terminal.shown
    assert settings(terminal) == before


def test_two_jobs_cannot_have_the_terminal(cli, tmp_path):
    table = '[jobs.{0}]\ncapture = "pty"\ninteractive = true\ncommand = "{0}"\n'
    (tmp_path / "jobs.toml").write_text(table.format("one") + table.format("two"))
    done = cli("--jobs", "jobs.toml")
    assert done.returncode == 78
    assert done.stderr == b"dtee-async: jobs.toml: jobs.two.interactive: there is one terminal, and it is for jobs.one already\n"
