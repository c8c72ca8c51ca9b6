"""The pty transport: its contract, and what a program sees of its terminal."""

import os
import re
import signal
import sys

import pytest

from dtee_async.core.write import Stream
from dtee_async.engine.command import Command
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CaptureError
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput, check_transport, open_fds
from dtee_async.transport.pty import PtyTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer

PYTHON = (sys.executable, "-I", "-S", "-c")
STREAMS = "import os; print(*map(os.isatty, range(3)))"


@pytest.fixture(scope="module")
def buffer():
    return ReceiveBuffer()


@pytest.fixture
def start(buffer):
    """Run a program on a terminal; what is left at the end of a test is killed."""
    running = []

    def start(*argv, kind=PtyTransport, linger_s=0.0, environment=None, **options):
        running.append(Running(kind(buffer, **options), argv, linger_s, environment))
        return running[-1]

    yield start
    for one in running:
        one.end()


class Running:
    """A command, its terminal, and all that it has written."""

    def __init__(self, transport, argv, linger_s, environment):
        self.transport = transport
        self.output = RecordingOutput()
        self.outcomes = []
        self._loop = SelectLoop()
        self._command = Command(self._loop, transport, [self.output], lambda *_: None, self.outcomes.append, linger_s=linger_s)
        self.pid = self._command.start(SpawnPlan(argv, environment=environment))

    def type(self, data):
        assert os.write(self.transport.terminal_fd, data) == len(data)

    def until(self, pattern, after=0):
        """Go on until this has been written; where it ends."""
        found = []

        def is_there():
            found[:] = [match for match in [re.compile(pattern).search(self.output.data(), after)] if match]
            return bool(found or self.outcomes)

        self._loop.run_until(is_there)
        assert found, f"it has ended without {pattern!r}: {self.output.data()!r}"
        return found[0].end()

    def wait(self):
        self._loop.run_until(lambda: bool(self.outcomes))
        return self.outcomes[0]

    def end(self):
        if not self.outcomes:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        if self._loop is not None:
            self._loop.__exit__()
            self._loop = None


def written(running, stream=None):
    """What it writes until its end."""
    assert running.wait().exit.returncode == 0
    return running.output.data(stream)


@pytest.mark.parametrize("stderr_apart", [False, True])
def test_it_keeps_the_contract(buffer, stderr_apart):
    check_transport(lambda: PtyTransport(buffer, stderr_apart=stderr_apart))


@pytest.mark.parametrize(("stderr_apart", "exact", "apart", "fds"), [(False, True, False, 1), (True, False, True, 2)])
def test_it_says_what_it_can(buffer, stderr_apart, exact, apart, fds):
    transport = PtyTransport(buffer, stderr_apart=stderr_apart)
    assert (transport.mode, transport.exact, transport.apart, len(transport.fds)) == ("pty", exact, apart, fds)
    transport.close()
    assert transport.fds == ()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, b"False True True\n"),
        ({"stderr_apart": True}, b"False True False\n"),
        ({"interactive": True}, b"True True True\r\n"),
        ({"interactive": True, "stderr_apart": True}, b"True True False\r\n"),
    ],
)
def test_which_streams_are_the_terminal(start, options, shown):
    assert written(start(*PYTHON, STREAMS, **options)) == shown


def test_one_terminal_has_both_streams_in_order_and_marks_them_as_stdout(start):
    running = start("sh", "-c", "for i in 1 2 3 4 5; do echo $i; echo $i >&2; done")
    assert written(running, Stream.STDOUT) == b"1\n1\n2\n2\n3\n3\n4\n4\n5\n5\n"
    assert running.output.data(Stream.STDERR) == b""


def test_stderr_apart_is_a_pipe_of_its_own(start):
    running = start("sh", "-c", "echo out; echo err >&2; test -t 1; test -p /dev/stderr", stderr_apart=True)
    assert written(running, Stream.STDOUT) == b"out\n"
    assert running.output.data(Stream.STDERR) == b"err\n"


def test_the_terminal_is_the_controlling_one_and_the_child_leads_its_session(start):
    code = """
import os
print(os.getsid(0) == os.getpid() == os.tcgetpgrp(1))
tty = os.open("/dev/tty", os.O_RDWR)
print(os.ttyname(tty) == "/dev/tty", os.fstat(1).st_rdev == int(open("/proc/self/stat").read().rpartition(")")[2].split()[4]))
os.write(tty, b"by its name" + bytes([10]))
"""
    lines = written(start(*PYTHON, code)).splitlines()
    assert sorted(lines) == [b"True", b"True True", b"by its name"]


def test_a_window_has_a_size(start):
    assert written(start("sh", "-c", "stty size </dev/tty")) == b"24 80\n"
    assert written(start("sh", "-c", "stty size </dev/tty", size=(50, 132))) == b"50 132\n"


def test_a_resize_is_told_to_the_program(start):
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do :; done"
    running = start("bash", "-c", script, interactive=True)
    running.until(rb"ready\r\n")
    running.transport.resize(40, 111)
    assert written(running) == b"ready\r\n40 111\r\n"


def test_colours(start):
    assert b"\x1b[" in written(start("ls", "--color=auto", "-d", "/", environment={"PATH": os.environ["PATH"], "TERM": "xterm"}))


def test_a_line_arrives_as_soon_as_it_is_complete(start):
    running = start(sys.executable, "-c", "print('a line'); input()", interactive=True)
    running.until(rb"a line\r\n")
    assert running.outcomes == []
    running.type(b"\n")
    assert running.wait().exit.returncode == 0


@pytest.mark.parametrize("program", [["cat"], ["sleep", "100"]])
def test_ctrl_c_as_it_is_typed_ends_a_program(start, program):
    running = start("sh", "-c", 'echo ready; exec "$@"', "sh", *program, interactive=True)
    running.until(rb"ready\r\n")
    running.type(b"\x03")
    assert running.wait().exit.signal == signal.SIGINT
    assert running.output.data() == b"ready\r\n^C"


def test_an_interrupt_of_ours_reaches_who_does_not_read_and_is_not_shown(start):
    running = start("sh", "-c", "echo ready; exec sleep 100")
    running.until(rb"ready\n")
    running.transport.interrupt()
    assert running.wait().exit.signal == signal.SIGINT
    assert running.output.data() == b"ready\n"


def test_an_interrupt_is_the_key_that_the_terminal_has_for_it(start):
    running = start("sh", "-c", "stty intr ^X; echo ready; exec sleep 100", interactive=True)
    running.until(rb"ready\r\n")
    running.transport.interrupt()
    assert running.wait().exit.signal == signal.SIGINT


def test_what_is_typed_is_read_by_the_line(start):
    running = start("cat", interactive=True)
    running.type(b"one\ntwo\n\x04")
    assert sorted(written(running).splitlines()) == [b"one", b"one", b"two", b"two"]


JOB = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"continued" + bytes([10])))
os.write(1, b"begun" + bytes([10]))
while True:
    signal.pause()
"""


def test_job_control_of_a_shell(start, tmp_path):
    (tmp_path / "job").write_text(JOB)
    environment = {"PATH": os.environ["PATH"], "PS1": "prompt> ", "TERM": "dumb"}
    running = start("bash", "--norc", "--noprofile", "--noediting", "-i", interactive=True, environment=environment)
    end = running.until(rb"prompt> ")
    running.type(f"{sys.executable} {tmp_path}/job\n".encode())
    end = running.until(rb"begun\r\n", end)
    running.type(b"\x1a")
    end = running.until(rb"Stopped.*\r\nprompt> ", end)
    running.type(b"fg\n")
    end = running.until(rb"continued\r\n", end)
    running.type(b"\x03")
    end = running.until(rb"prompt> ", end)
    running.type(b"echo status=$?; exit 5\n")
    running.until(rb"status=130\r\n", end)
    assert running.wait().exit.returncode == 5
    assert b"job control" not in running.output.data()


# The end.


class WithoutLauncher(PtyTransport):
    """The terminal is not the controlling one: a start takes a tenth of the time, and the race is as it was."""

    def launch(self, spawn):
        return super().launch(lambda fds: spawn(fds._replace(terminal=False)))


@pytest.mark.parametrize(("kind", "runs"), [(PtyTransport, 50), (WithoutLauncher, 500)])
def test_nothing_is_missing_of_a_program_that_writes_and_ends_at_once(start, kind, runs):
    """Also while the kernel still moves it from one of its buffers to the next."""
    for run in range(runs):
        running = start("sh", "-c", "printf '%03000d' 7", kind=kind)
        data = written(running)
        assert (run, len(data)) == (run, 3000)
        running.end()


def test_much_arrives_whole(start):
    seen = written(start("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo $i; echo e$i >&2; i=$((i+1)); done; head -c 3000000 /dev/zero"))
    assert seen == b"".join(b"%d\ne%d\n" % (i, i) for i in range(3000)) + bytes(3000000)


def test_nothing_is_there_before_the_launch_and_that_is_no_end(buffer):
    transport = PtyTransport(buffer, stderr_apart=True)
    fds = transport.fds
    assert transport.receive() is None
    transport.launch(lambda fds: None)
    assert transport.receive() is None
    assert transport.fds[0] == fds[0]
    transport.close()


def test_the_end_is_when_nobody_has_the_terminal_any_more(buffer):
    transport = PtyTransport(buffer)
    copy = transport.launch(lambda fds: os.dup(fds.stdout))
    os.write(copy, b"last")
    assert transport.writers_left()
    os.close(copy)
    assert not transport.writers_left()
    assert bytes(transport.receive().views[0]) == b"last"
    assert transport.fds == ()
    assert transport.receive() is None
    assert not transport.writers_left()
    transport.resize(1, 1)
    transport.interrupt()
    transport.close()
    transport.resize(1, 1)
    transport.interrupt()


def test_a_program_that_gave_its_terminal_away_can_open_it_again(start, tmp_path):
    os.mkfifo(tmp_path / "go")
    running = start("sh", "-c", f"echo begun; exec >{tmp_path}/log 2>&1; read line <{tmp_path}/go; echo again >/dev/tty")
    running.until(rb"begun\n")
    with open(tmp_path / "go", "wb") as go:  # it has been opened there, so the terminal was given away before
        assert running.transport.receive() is None
        go.write(b"\n")
    assert written(running) == b"begun\nagain\n"


IN_THE_BACKGROUND = """
trap '' HUP
exec 3<"$1"
(read -r line <&3; echo late; exec 1>&- 2>&-; read -r line <&3) &
echo now
"""


def test_a_process_that_is_left_behind_is_a_writer_as_long_as_it_has_the_terminal(start, tmp_path):
    """It lives on only if it ignores SIGHUP, which the kernel sends to the terminal's foreground group when the leader ends."""
    os.mkfifo(tmp_path / "go")
    go = os.open(tmp_path / "go", os.O_RDWR)
    running = start("sh", "-c", IN_THE_BACKGROUND, "sh", f"{tmp_path}/go", linger_s=30)
    running.until(rb"now\n")
    os.write(go, b"\n")
    outcome = running.wait()
    os.write(go, b"\n")
    os.close(go)
    assert running.output.data() == b"now\nlate\n"
    assert not outcome.writers_left


def test_a_process_that_stays_is_said_to(start, tmp_path):
    os.mkfifo(tmp_path / "go")
    go = os.open(tmp_path / "go", os.O_RDWR)
    outcome = start("sh", "-c", IN_THE_BACKGROUND, "sh", f"{tmp_path}/go", linger_s=0.01).wait()
    os.write(go, b"\n\n")
    os.close(go)
    assert outcome.writers_left


def test_what_is_left_behind_in_the_foreground_is_hung_up(start, tmp_path):
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    written(start("sh", "-c", f"exec 3>{tmp_path}/alive; sleep 100 & exec 3>&-"))
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # nobody has it open
    os.close(reader)


def test_no_terminal_can_be_had(buffer, monkeypatch):
    def openpty():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "openpty", openpty)
    with pytest.raises(CaptureError, match="terminal: No space left on device"):
        PtyTransport(buffer)


def test_a_size_that_no_terminal_has_leaves_nothing_open(buffer):
    before = open_fds()
    with pytest.raises(OverflowError):
        PtyTransport(buffer, size=(1 << 20, 1))
    assert open_fds() == before
