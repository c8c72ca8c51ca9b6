"""The start on a terminal: the same process as without one, but for the terminal."""

import os
import signal
import sys
import termios

import pytest

from dtee_async.core.contracts import ChildFds
from dtee_async.errors import CommandNotFoundError, SpawnError
from dtee_async.process.child import reap
from dtee_async.process.spawn import SpawnPlan, spawn

PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    yield Terminal(master, slave)
    os.close(master)
    os.close(slave)


class Terminal:
    def __init__(self, master, slave):
        self._master = master
        self.fds = ChildFds(slave, slave, terminal=True)

    def run(self, plan):
        """How it ended, and what it showed: less than the terminal holds."""
        exit = reap(spawn(plan, self.fds))
        os.set_blocking(self._master, False)
        data = b""
        while True:
            try:
                data += os.read(self._master, 65536)
            except BlockingIOError:
                return exit, data


@pytest.fixture
def without():
    """The same through a pipe."""
    reader, writer = os.pipe()

    def run(plan):
        exit = reap(spawn(plan, ChildFds(writer, writer)))
        os.write(writer, b"\0")  # or there would be nothing to read
        return exit, os.read(reader, 1 << 16)[:-1]

    yield run
    os.close(reader)
    os.close(writer)


@pytest.fixture
def null():
    fd = os.open(os.devnull, os.O_RDWR)
    yield ChildFds(fd, fd)
    os.close(fd)


# What it is.


def test_it_has_the_pid_that_we_know_and_leads_the_session_of_its_terminal(terminal):
    child = spawn(
        SpawnPlan([*PYTHON, "import os; os._exit(not os.getpid() == os.getsid(0) == os.getpgrp() == os.tcgetpgrp(1))"]), terminal.fds
    )
    assert os.getsid(child.pid) == child.pid
    assert reap(child).returncode == 0


def test_a_session_of_its_own_even_if_nobody_asked_for_one_and_still_our_inheritable_fds(terminal, without):
    extra = os.dup(0)
    os.set_inheritable(extra, True)
    script = f"import os; os.fstat({extra}); print(sorted(map(int, os.listdir('/proc/self/fd'))), os.getsid(0) == os.getpid())"
    plan = SpawnPlan([*PYTHON, script], own_session=False)
    expected = without(plan)[1].replace(b"False", b"True")
    exit, shown = terminal.run(plan)
    os.close(extra)
    assert (exit.returncode, shown) == (0, expected)


def test_it_has_null_as_stdin_and_no_fd_of_ours(terminal):
    extra = os.dup(0)
    os.set_inheritable(extra, True)
    script = "import os; print(os.readlink('/proc/self/fd/0'), sorted(map(int, os.listdir('/proc/self/fd'))))"
    _, shown = terminal.run(SpawnPlan([*PYTHON, script]))
    os.close(extra)
    assert shown == b"/dev/null [0, 1, 2, 3]\n"  # 3 is the listing


ENVIRONMENTS = [
    None,
    {},
    {"A": "b", "PATH": "/bin:/usr/bin"},
    {"LANG": "C", "A": "b"},
    {"LC_ALL": "C"},
    {"A": "1", "LC_CTYPE": "C", "B": "2"},
    {"LC_CTYPE": "POSIX"},
    {"LC_CTYPE": "C.UTF-8", "A": "b"},
    {"LC_CTYPE": ""},
    {"LANG": "xx_XX.nonsense"},
    {"LC_ALL": "C.UTF-8", "A": "\udcff\udcc3("},
    {
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": "/nonexistent",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "warn",
        "PYTHONWARNINGS": "error",
    },
]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_environment_is_what_was_given_to_the_byte(terminal, without, monkeypatch, environment):
    for variable in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(variable, raising=False)
    plan = SpawnPlan(["/bin/cat", "/proc/self/environ"], environment=environment)
    exit, shown = terminal.run(plan)
    assert exit.returncode == 0
    assert shown == without(plan)[1]
    if environment is not None:
        assert shown == b"".join(os.fsencode(f"{name}={value}\0") for name, value in environment.items())


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_the_arguments_are_what_was_given_to_the_byte(terminal, locale):
    words = ["", "-", "--", "-c", "-X", " a\n", "ü\udcff\udcc3(", "\udced\udca0\udc80", "\\", "'"]
    _, shown = terminal.run(SpawnPlan(["/usr/bin/printf", "%s|", *words], environment={"LC_ALL": locale}))
    assert shown == b"".join(os.fsencode(word) + b"|" for word in words)


STATE = ["grep", "-E", "^(Sig(Blk|Ign|Cgt)|Cap|Umask|NoNewPrivs|Seccomp|Groups)", "/proc/self/status"]


@pytest.mark.parametrize("ignored", [[], [signal.SIGINT], [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGTERM]])
def test_signals_and_all_else_are_as_without_a_terminal(terminal, without, ignored):
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        _, shown = terminal.run(SpawnPlan(STATE))
        assert shown == without(SpawnPlan(STATE))[1]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_sigpipe_ends_a_program(terminal):
    exit, shown = terminal.run(SpawnPlan(["bash", "-c", "yes | true; echo ${PIPESTATUS[*]}"]))
    assert shown == b"141 0\n"


def test_the_directory(terminal, tmp_path):
    assert terminal.run(SpawnPlan(["pwd", "-P"], str(tmp_path)))[1] == os.fsencode(tmp_path) + b"\n"


def test_a_program_is_looked_for_in_the_path_that_it_is_given(terminal, without, tmp_path):
    for name, text in (("first", "#!/bin/sh\necho first $0\n"), ("plain", "echo plain $0 $1\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for words in (["first"], ["plain", "x"], [f"{tmp_path}/plain", "y"]):
        plan = SpawnPlan(words, environment={"PATH": f"/nonexistent:{tmp_path}:/usr/bin:/bin"})
        exit, shown = terminal.run(plan)
        assert (exit.returncode, shown) == (0, without(plan)[1])
    relative = SpawnPlan(["./first"], str(tmp_path))
    assert terminal.run(relative)[1] == b"first ./first\n"


# What cannot be started.


@pytest.fixture
def folder(tmp_path):
    for name, text, mode in [
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("no-interpreter", "#!/nonexistent/interpreter\n", 0o755),
        ("plain", "exit 0\n", 0o755),
    ]:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["nonexistent-command"], {}),
        (["/nonexistent/command"], {}),
        ([""], {}),
        (["", "x"], {"environment": {"PATH": "/bin"}}),
        (["not-executable"], {"environment": {"PATH": "{folder}"}}),
        (["not-executable"], {"environment": {"PATH": "/nonexistent:{folder}:/bin"}}),
        (["sh"], {"environment": {"PATH": ""}}),
        (["{folder}/not-executable"], {}),
        (["{folder}/directory"], {}),
        (["directory"], {"environment": {"PATH": "{folder}"}}),
        (["{folder}/plain/below"], {}),
        (["{folder}/no-interpreter"], {}),
        (["{folder}/loop"], {}),
        (["/dev/null"], {}),
        (["./nonexistent"], {"working_dir": "{folder}"}),
        (["true"], {"working_dir": "/nonexistent"}),
        (["true"], {"working_dir": "{folder}/plain"}),
        (["nonexistent-command"], {"working_dir": "/nonexistent"}),
        (["a\0b"], {}),
        (["true", "a\0b"], {}),
        (["true"], {"working_dir": "a\0b"}),
        (["true"], {"environment": {"A=": "b"}}),
        (["true"], {"environment": {"A": "\0"}}),
        (["x" * 5000], {}),
        (["true", "x" * (1 << 18)], {}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_is_the_one_that_there_is_without_a_terminal(terminal, null, folder, words, settings):
    def filled(value):
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return value.replace("{folder}", str(folder))

    plan = SpawnPlan([filled(word) for word in words], **{name: filled(value) for name, value in settings.items()})

    def error(fds):
        with pytest.raises(SpawnError) as caught:
            reap(spawn(plan, fds))
        return type(caught.value), caught.value.errno, caught.value.strerror, caught.value.filename

    assert error(terminal.fds) == error(null)


def test_a_command_that_is_not_there_is_what_it_is_elsewhere(terminal):
    with pytest.raises(CommandNotFoundError) as caught:
        spawn(SpawnPlan(["nonexistent-command"]), terminal.fds)
    assert isinstance(caught.value, FileNotFoundError)
    assert terminal.run(SpawnPlan(["echo", "again"]))[1] == b"again\n"  # the terminal is free for the next one


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Have something else run in place of this interpreter."""

    def replace(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


@pytest.mark.parametrize(("script", "reason"), [("exit 3", "it exited with status 3"), ("kill -KILL $$", "killed by Killed")])
def test_a_launcher_that_ends_before_its_time_is_an_error_that_says_so(terminal, interpreter, script, reason):
    interpreter(script)
    with pytest.raises(SpawnError, match=f"what is to prepare it cannot be started: {reason}") as caught:
        spawn(SpawnPlan(["true"]), terminal.fds)
    assert caught.value.filename == sys.executable


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nonexistent/python", "No such file"), ("/dev/null", "Permission denied"), ("", "no Python"), (None, "no Python")],
)
def test_an_interpreter_that_is_not_there_is_not_a_command_that_is_not_there(terminal, monkeypatch, path, reason):
    monkeypatch.setattr(sys, "executable", path)
    with pytest.raises(SpawnError, match=reason) as caught:
        spawn(SpawnPlan(["true"]), terminal.fds)
    assert not isinstance(caught.value, CommandNotFoundError)
    assert caught.value.filename == (path or "python")


def test_a_stdout_that_is_no_terminal_is_an_error(null):
    with pytest.raises(SpawnError, match="Inappropriate ioctl for device"):
        spawn(SpawnPlan(["true"]), null._replace(terminal=True))


def test_a_terminal_that_somebody_else_leads_is_an_error(terminal):
    first = spawn(SpawnPlan(["sleep", "100"]), terminal.fds)
    with pytest.raises(SpawnError, match="Operation not permitted"):
        spawn(SpawnPlan(["true"]), terminal.fds)
    os.kill(first.pid, signal.SIGKILL)
    reap(first)


def test_nothing_is_left_when_we_are_interrupted_while_it_starts(terminal, interpreter):
    class InterruptedHereError(Exception):
        pass

    def interrupted(*_):
        raise InterruptedHereError

    # Popen has returned when this runs, or is about to: then we wait, for what it has to say.
    interpreter('until grep -q "^State:.S" /proc/$PPID/status; do :; done; kill -USR1 $PPID; exec sleep 100')
    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with pytest.raises(InterruptedHereError):
            spawn(SpawnPlan(["true"]), terminal.fds)
    finally:
        signal.signal(signal.SIGUSR1, before)
