"""Owns what the parity tests share: failures made to order, limits, and processes that we talk to while they run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """English, no core files, and no signal ignored: a shell without job control starts what is behind ``&`` with INT and QUIT ignored."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ignored = [number for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with room for one page, and none left (root only)."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=777", "tmpfs", folder], check=True)
    (folder / "filler").write_bytes(bytes(4096))
    yield folder
    subprocess.run(["umount", folder], check=True)


class Waiting:
    """One of our scripts, and its command, which said its pid and now waits to be killed."""

    def __init__(self, folder: Path, words: tuple[object, ...], before: str, **options: object) -> None:
        os.mkfifo(folder / "go")
        script = f"{before}; echo $$ >go; exec sleep 1000"
        settings: dict[str, object] = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        self.process = subprocess.Popen([BIN / str(words[0]), *map(str, words[1:]), "sh", "-c", script], **settings)
        self.command = int((folder / "go").read_text())

    def end(self) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err

    def kill_command(self) -> None:
        """Raises ProcessLookupError if somebody else has killed it."""
        os.kill(self.command, signal.SIGKILL)


@pytest.fixture
def waiting(tmp_path: Path, cli: object) -> Callable[..., Waiting]:
    return lambda *words, before=":", **options: Waiting(tmp_path, words, before, **options)
