"""What happens on a terminal: Ctrl-C, what the shell around us sees, and who has the terminal."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

MOMENTS = 60
LAST_S = 0.08


ONE_COMMAND = [["dtee-async"], ["dtee-async", "-C", "file"], ["dtee-async", "-i"], ["cronty-async"]]


@pytest.mark.parametrize("words", ONE_COMMAND)
def test_a_command_that_dies_by_sigint_makes_us_die_by_it(terminal, words):
    child = terminal.start(*words, "sh", "-c", "echo before; kill -INT $$").child
    _, status = os.waitpid(child.pid, 0)
    child.returncode = 0  # it is reaped
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGINT


@pytest.mark.parametrize("words", ONE_COMMAND)
def test_one_real_ctrl_c_stops_a_loop_of_the_shell(terminal, words):
    os.mkfifo(terminal.folder / "go")
    terminal.start("bash", "-c", f"while :; do {' '.join(words)} sh -c 'echo begun >>log; echo >go; exec sleep 100'; done; echo after")
    (terminal.folder / "go").read_bytes()
    terminal.type(b"\x03")
    assert terminal.wait() == -signal.SIGINT
    assert (terminal.folder / "log").read_text() == "begun\n"
    assert b"after" not in terminal.shown
    assert b"Traceback" not in terminal.shown


def test_a_command_that_handles_ctrl_c_and_ends_well_lets_the_loop_go_on_when_we_ignore_it(terminal):
    """What the test above would miss if bash stopped its loop for other reasons."""
    (terminal.folder / "handles.pl").write_text('$SIG{INT} = sub { print "handled\\n"; exit 0 }; $| = 1; print "begun\\n"; sleep 100')
    terminal.start("bash", "-c", "for i in 1 2; do dtee-async -i perl handles.pl; echo status $?; done")
    end = terminal.read_until(rb"begun\n")
    terminal.type(b"\x03")
    end = terminal.read_until(rb"handled\nstatus 0\nbegun\n", end)
    terminal.type(b"\x03")
    terminal.read_until(rb"handled\nstatus 0\n", end)
    assert terminal.wait() == 0


def jobs_alive(folder):
    """The processes that are at work in this folder and are those of JOBS, by their names."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(folder) and job_name(entry) in ("sh", "sleep"):
                found.append(int(entry))
        except OSError:  # gone, or not ours to look at
            continue
    return found


def job_name(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_one_ctrl_c_stops_a_loop_of_an_interactive_shell_and_the_prompt_comes_back(terminal):
    terminal.start_shell()
    terminal.type(b"while :; do dtee-async -C file sh -c 'echo be''gun; exec sleep 100'; done\n")
    end = terminal.read_until(rb"begun\n")
    terminal.type(b"\x03")
    end = terminal.read_until(rb"prompt> ", end)
    terminal.type(b"echo status=$?; exit 5\n")
    terminal.read_until(rb"status=130\n", end)
    assert terminal.wait() == 5
    assert terminal.shown.count(b"begun\n") == 1
    assert b"Traceback" not in terminal.shown


def test_cron_mode_says_what_it_has_at_ctrl_c(terminal):
    os.mkfifo(terminal.folder / "go")
    terminal.start("cronty-async", "sh", "-c", "echo before; echo >go; exec sleep 100")
    (terminal.folder / "go").read_bytes()
    terminal.type(b"\x03")
    assert terminal.wait() == -signal.SIGINT
    assert re.match(rb"(\^C)?before\ncronty-async: received signal 2: Interrupt\n", terminal.shown)
    assert b"Traceback" not in terminal.shown


def python_starts(pid):
    """Whether CPython is still starting itself: it catches SIGINT then, and nobody catches SIGTERM yet (SigCgt in proc_pid_status(5))."""
    with open(f"/proc/{pid}/status") as file:
        caught = int(dict(line.split(":", 1) for line in file)["SigCgt"], 16)
    return caught >> (signal.SIGINT - 1) & 1 and not caught >> (signal.SIGTERM - 1) & 1


def is_past_start(pid):
    """Whether it runs a command, or is over already."""
    with open(f"/proc/{pid}/task/{pid}/children") as children, open(f"/proc/{pid}/stat") as stat:
        return children.read() or ") Z " in stat.read()


def wait_for_our_first_line(pid):
    """Our first line ends that SIGINT is caught: before it, a traceback is Python's own."""
    while not python_starts(pid) and not is_past_start(pid):
        pass
    while python_starts(pid):
        pass


@pytest.mark.parametrize(
    "words", [["dtee-async", "sleep", "100"], ["cronty-async", "sleep", "100"], ["dtee-async", "true"], ["dtee-async", "-V"]]
)
def test_an_interrupt_at_any_moment_of_our_start_up_is_death_by_it_or_a_normal_end_and_never_a_traceback(tmp_path, words, elapse):
    wrong = {}
    for moment in range(MOMENTS):
        delay_s = LAST_S * moment / (MOMENTS - 1)
        child = subprocess.Popen(
            [BIN / words[0], *words[1:]], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        wait_for_our_first_line(child.pid)
        elapse(delay_s)
        os.killpg(child.pid, signal.SIGINT)  # what a terminal does at Ctrl-C; it is a zombie if it has ended
        shown = child.communicate()[0]
        allowed = {-signal.SIGINT} | ({0} if words[-1] != "100" else set())
        if child.returncode not in allowed or b"Traceback" in shown or b"Error" in shown:
            wrong[f"{delay_s * 1000:.1f} ms"] = (child.returncode, shown.decode(errors="replace"))
    assert wrong == {}


@pytest.fixture
def elapse():
    """Wait for a moment: it is the moment itself that is tested."""
    reader, writer = os.pipe()

    def wait(seconds):
        import select

        select.select([reader], [], [], seconds)

    yield wait
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("dtee-async false || echo $?", "1\n"),
        ("dtee-async true && echo yes", "yes\n"),
        ("if ! dtee-async sh -c 'exit 3'; then echo no; fi", "no\n"),
        ("dtee-async sh -c 'kill -TERM $$'; echo $?", "143\n"),
        ("dtee-async -q sh -c 'exit 7' 2>file; echo $?; cat file", "7\ndtee-async: sh: exited with status 7\n"),
        ("set -o pipefail; dtee-async sh -c 'echo x; exit 4' | cat; echo ${PIPESTATUS[0]} $?", "x\n4 4\n"),
        ("set -e; dtee-async false; echo not reached", ""),
        ("x=$(dtee-async sh -c 'echo a; echo b >&2' 2>/dev/null); echo got $x", "got a\n"),
        ("dtee-async sh -c 'echo a; echo b >&2; echo c' 2>&1 | cat", "a\nb\nc\n"),
        ("dtee-async sleep 0 & wait $!; echo $?", "0\n"),
        ("dtee-async dtee-async sh -c 'exit 9' || echo $?", "9\n"),
        ("! dtee-async no-such-command 2>file; echo $?; cat file", "0\ndtee-async: no-such-command: No such file or directory\n"),
    ],
)
def test_the_shell_sees_the_status_of_the_command(terminal, script, shown):
    terminal.start("bash", "-c", script)
    terminal.wait()
    assert terminal.shown.decode() == shown


JOBS = """
[jobs.a]
command = "sleep 1000 & echo begun; wait"
[jobs.b]
command = ["sh", "-c", "echo begun; exec sleep 1000"]
combined_overwrite = "b.log"
"""


def test_ctrl_c_ends_the_jobs_and_then_the_prompt_comes_back(terminal, loop_name):
    (terminal.folder / "jobs.toml").write_text(JOBS)
    terminal.start_shell()
    terminal.type(f"dtee-async --jobs jobs.toml --loop {loop_name}\n".encode())
    end = terminal.read_until(rb"(?s)\| begun\n.*\| begun\n")
    assert len(jobs_alive(terminal.folder)) >= 2
    terminal.type(b"\x03")
    end = terminal.read_until(rb"prompt> ", end)
    assert jobs_alive(terminal.folder) == []
    assert terminal.shown.endswith(b"prompt> ")  # nothing more is said after it
    terminal.type(b"echo status=$?; exit 5\n")
    terminal.read_until(rb"status=130\n", end)
    assert terminal.wait() == 5
    assert b"Traceback" not in terminal.shown


def test_ctrl_c_stops_a_loop_around_jobs(terminal, loop_name):
    (terminal.folder / "jobs.toml").write_text(JOBS)
    terminal.start("bash", "-c", f"while :; do dtee-async --jobs jobs.toml --loop {loop_name}; done")
    terminal.read_until(rb"(?s)\| begun\n.*\| begun\n")
    terminal.type(b"\x03")
    assert terminal.wait() == -signal.SIGINT
    assert jobs_alive(terminal.folder) == []
    assert terminal.shown.count(b"| begun\n") == 2


def test_an_interrupt_at_any_moment_of_the_start_of_jobs_leaves_no_process_and_no_traceback(tmp_path, loop_name, elapse):
    (tmp_path / "jobs.toml").write_text(JOBS)
    wrong = {}
    for moment in range(MOMENTS):
        delay_s = 4 * LAST_S * moment / (MOMENTS - 1)
        words = [BIN / "dtee-async", "--jobs", "jobs.toml", "--loop", loop_name]
        child = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        wait_for_our_first_line(child.pid)
        elapse(delay_s)
        os.killpg(child.pid, signal.SIGINT)
        shown = child.communicate()[0]
        left = jobs_alive(tmp_path)
        if child.returncode != -signal.SIGINT or b"Traceback" in shown or b"Error" in shown or left:
            wrong[f"{delay_s * 1000:.1f} ms"] = (child.returncode, shown.decode(errors="replace"), left)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert wrong == {}


@pytest.mark.parametrize("words", [["dtee-async"], ["dtee-async", "-C", "file"]])
def test_what_is_typed_reaches_the_command(terminal, words):
    terminal.start(*words, "cat")
    terminal.type(b"first line\n")
    end = terminal.read_until(rb"first line\nfirst line\n")  # the echo of the terminal, and cat's
    terminal.type(b"second\n\x04")
    terminal.read_until(rb"second\nsecond\n", end)
    assert terminal.wait() == 0


def test_the_command_keeps_the_controlling_terminal(terminal):
    terminal.start("dtee-async", "sh", "-c", 'read -r answer </dev/tty; echo "asked: $answer" >/dev/tty; tty; stty -a >file && exit 6')
    terminal.type(b"yes\n")
    assert terminal.wait() == 6
    assert b"asked: yes\n/dev/pts/" in terminal.shown


def test_a_job_that_opens_the_terminal_fails_clearly(terminal, loop_name):
    text = '[jobs.asks]\ncommand = ["bash", "-c", "read -r answer </dev/tty"]\nerr_overwrite = "err"\n'
    (terminal.folder / "jobs.toml").write_text(text)
    terminal.start("dtee-async", "--jobs", "jobs.toml", "--loop", loop_name)
    assert terminal.wait() == 1
    said = b"bash: line 1: /dev/tty: No such device or address\n"
    assert (terminal.folder / "err").read_bytes() == said
    assert b"asks | " + said in terminal.shown
