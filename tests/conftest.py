"""Owns what all tests share: both event loops, the leak check, the compiled child programs, and running the command line."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from dtee_async.testing import open_fds

PROGRAMS = Path(__file__).parent / "programs"
BIN = Path(sys.executable).parent
LOOPS = ("asyncio", "uvloop")


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
    assert {fd: what for fd, what in open_fds().items() if fd not in fds} == {}, "fds are left open"
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
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", folder / source.stem, source], check=True)
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


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    """For the command line: --loop."""
    return request.param
