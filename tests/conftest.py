"""Owns what all tests share: both event loops, the leak check, the compiled child programs, and running the command line."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from dtee_async.testing import open_fds

PROGRAMS = Path(__file__).parent / "programs"
BIN = Path(sys.executable).parent
LOOPS = ("asyncio", "uvloop")
WATCH_FOR_NODE = "anon_inode:inotify"
"""One for a loop; it stays for a second, and ends with the loop: tests/engine/test_losses.py."""
CAPTURE_MODES = ("ordered", "turnstile", "pipe")


def pytest_sessionstart() -> None:
    uvloop.new_event_loop().close()  # libuv makes a pipe for signals with the first loop of a process, and keeps it: no leak of a test


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs to be root: run as root, as CI does"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """On a build server nothing is skipped unseen: a program that is missing fails the test that needs it, by its name."""
    report = yield
    if report.skipped and os.environ.get("CI") and " root" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, but this is CI: {report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves an fd, a child, a thread, a task or a temporary file."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("no_orphan_tasks")
    directory = tempfile.mkdtemp(prefix="dt-")  # short: a socket address has room for 108 bytes
    monkeypatch.setenv("TMPDIR", directory)
    fds, threads = open_fds(), set(threading.enumerate())
    yield
    left = sorted(os.listdir(directory))
    shutil.rmtree(directory)
    assert left == [], "temporary files are left"
    assert set(threading.enumerate()) - threads == set(), "threads are left"
    # pytest's own capturing files and the loop's may come and go; ours are sockets, pipes, pidfds and output files.
    left = {fd: what for fd, what in open_fds().items() if fd not in fds}
    if request.node.get_closest_marker("asyncio"):
        left = {fd: what for fd, what in left.items() if what != WATCH_FOR_NODE}
    assert left == {}, "fds are left open"
    assert end_children() == [], "children are left"


def end_children() -> list[str]:
    """The children of this process, zombies too; killed and reaped, so that the next test does not find them."""
    left = []
    for pid in [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]:
        left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") or f"zombie {pid}")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return left


@pytest.fixture
async def no_orphan_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled C programs."""
    folder = tmp_path_factory.mktemp("programs")
    for source in PROGRAMS.glob("*.c"):
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-pthread", "-o", folder / source.stem, source], check=True)
    return folder


@pytest.fixture(scope="session")
def random_writes(programs: Path) -> Callable[[int, int, int], tuple[bytes, bytes, bytes]]:
    """What random_writer writes: both in order, stdout, stderr; by the shell, without us."""

    def expected(seed: int, count: int, big: int) -> tuple[bytes, bytes, bytes]:
        def shell(redirection: str) -> bytes:
            command = f"{programs}/random_writer {seed} {count} {big} {redirection}"
            return subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout

        return shell("2>&1"), shell("2>/dev/null"), shell("2>&1 >/dev/null")

    return expected


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """parity/preload.c, compiled: calls fail as the environment says."""
    path = tmp_path_factory.mktemp("preload") / "preload.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", path, Path(__file__).parent / "parity" / "preload.c", "-ldl"],
        check=True,
    )
    return path


@pytest.fixture
def failing(library: Path) -> Callable[..., dict[str, str]]:
    """An environment in which a call fails; see parity/preload.c."""

    def environment(call: str = "", errno: int = 0, **more: object) -> dict[str, str]:
        words = {"LD_PRELOAD": library, "FAIL_CALL": call, "FAIL_ERRNO": errno} | more
        return os.environ | {key: str(value) for key, value in words.items()}

    return environment


Cli = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run ``dtee-async`` (or the first word, if it is one of our scripts) in tmp_path, and wait for it."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")

    def run(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        script = "dtee-async"
        if words and words[0] in ("cronty-async", "dtee-async"):
            script, *words = words
        settings: dict[str, object] = {"stdin": subprocess.DEVNULL, "capture_output": True, "cwd": tmp_path, "timeout": 50}
        settings |= options
        if "stdout" in options or "stderr" in options:
            del settings["capture_output"]
        return subprocess.run([BIN / script, *map(str, words)], **settings)

    return run


class Flood(NamedTuple):
    """What came through a supervisor whose own stdout was read slowly, and its resident memory at each megabyte."""

    size_bytes: int
    sha256: str
    rss_bytes: list[int]
    returncode: int


@pytest.fixture
def slowly_read(tmp_path: Path) -> Callable[..., Flood]:
    """Run ``dtee-async`` and take 10 ms for each megabyte that it writes."""

    def read(*words: object) -> Flood:
        digest, size_bytes, samples = hashlib.sha256(), 0, []
        with subprocess.Popen([BIN / "dtee-async", *map(str, words)], stdout=subprocess.PIPE, cwd=tmp_path) as process:
            assert process.stdout is not None
            while data := process.stdout.read(1 << 20):
                digest.update(data)
                size_bytes += len(data)
                samples.append(_rss_bytes(process.pid))
                time.sleep(0.01)  # the slowness
        return Flood(size_bytes, digest.hexdigest(), samples, process.returncode)

    return read


def _rss_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.fixture(params=CAPTURE_MODES)
def capture_mode(request: pytest.FixtureRequest) -> str:
    """For what has to hold in every capture mode."""
    return request.param


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], Path]:
    """Make a FIFO: who opens it waits for the other side, and so two processes meet."""

    def make(name: str) -> Path:
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    """For the command line: --loop."""
    return request.param


class Terminal:
    """A pseudo-terminal that is the controlling one of the process started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = b""
        self.child: subprocess.Popen[bytes] | None = None
        self.ours, self._theirs = pty.openpty()

    def start(self, *words, **options):
        def take_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        settings = {"stdin": self._theirs, "stdout": self._theirs, "stderr": self._theirs, "cwd": self.folder, "start_new_session": True}
        self.child = subprocess.Popen([*map(str, words)], preexec_fn=take_terminal, **(settings | options))
        os.close(self._theirs)
        self._theirs = None
        return self

    def start_shell(self):
        """An interactive bash, at its prompt."""
        self.start("bash", "--norc", "--noprofile", "--noediting", "-i", env=os.environ | {"PS1": "prompt> "})
        self.read_until(rb"prompt> ")

    def type(self, data):
        os.write(self.ours, data)

    def read_until(self, pattern, after=0):
        """Everything shown, when the pattern has been; the end of the match."""
        while not (match := re.compile(pattern).search(self.shown, after)):
            self.shown += os.read(self.ours, 65536).replace(b"\r\n", b"\n")  # EIO: it ended, and had not shown that
        return match.end()

    def wait(self):
        """Read until nobody has the terminal open any more; the status."""
        while True:
            try:
                self.shown += os.read(self.ours, 65536).replace(b"\r\n", b"\n")
            except OSError:
                return self.child.wait()

    def close(self):
        os.close(self.ours)
        if self._theirs is not None:
            os.close(self._theirs)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("HOME", str(tmp_path))
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()
    print(terminal.shown.decode(errors="replace"))  # if the test fails
