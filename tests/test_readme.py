"""README.md and the pages of docs that show commands, as a test: each command and each example is run, and prints what the page says.

- A ``console`` block is run line by line in a folder of its own; ``$ `` begins a command, the rest is what it
  prints on stdout and stderr. ``...`` stands for anything, on a line of its own for any lines. Times, pids and
  sizes that differ from run to run are not compared.
- A ``toml`` or ``python`` block that begins with ``# NAME`` is written to that file for the console blocks after it, one of which
  has to use it. A ``python`` block without a name is run.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
BIN = str(Path(sys.executable).parent)

NOT_RUN = re.compile(r"make (?P<target>\w+)|pip install .*")
VOLATILE = [
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{6}\b"), "TIME"),
    (re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"'), '"TIME"'),
    (re.compile(r"""(\b(?:pid|duration_s|cpu_s|max_rss_bytes)\b(?:=|": ))[\d.e-]+"""), r"\1N"),
    (re.compile(r"\b\d+\.\d\d s +\d+\.\d\d s +\d+\.\d MB\b"), "N"),  # of a row of the summary
]


class Block(NamedTuple):
    """A fenced block: the number of its first line, its kind, its text."""

    number: int
    kind: str
    text: str

    @property
    def name(self) -> str | None:
        """The file it is to be written to."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found else None


class Case(NamedTuple):
    """What to run, with the named blocks above it as files."""

    block: Block
    files: dict[str, str]


def blocks(text: str) -> list[Block]:
    found = []
    kind, begin, lines = None, 0, []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if "```" not in line and "~~~" not in line:
            lines.append(line)
        elif kind is None:
            fence = re.fullmatch(r"```(\w+)\n", line)
            assert fence, f"line {number}: a fence of an unknown form: {line!r}"
            kind, begin, lines = fence[1], number + 1, []
        else:
            assert line == "```\n", f"line {number}: a fence of an unknown form: {line!r}"
            found.append(Block(begin, kind, "".join(lines)))
            kind = None
    assert kind is None, f"line {begin}: the block has no end"
    return found


def cases(found: list[Block]) -> list[Case]:
    files: dict[str, str] = {}
    runnable = []
    for block in found:
        assert block.kind in ("console", "toml", "python"), f"line {block.number}: nobody would test a block of this kind: {block.kind}"
        if block.kind == "console":
            runnable.append(Case(block, dict(files)))
        elif block.name:
            files[block.name] = block.text
        else:
            assert block.kind == "python", f"line {block.number}: a toml block begins with the name of its file: # jobs.toml"
            runnable.append(Case(block, dict(files)))
    for name in files:
        users = [case for case in runnable if name in case.files and any(name in command for command, _ in transcript(case.block))]
        assert users, f"no command below uses {name}"
    return runnable


def transcript(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it is to print."""
    if block.kind != "console":
        return []
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            assert found, f"line {block.number}: a console block begins with a command"
            found[-1][1].append(line)
    return found


def stable(text: str) -> str:
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


def matches(expected: list[str], printed: str) -> bool:
    pattern = ""
    for line in expected:
        parts = [re.escape(part) for part in stable(line).split("...")]
        pattern += "(?:.*\n)*?" if line == "..." else ".*?".join(parts) + "\n"
    return re.fullmatch(pattern, stable(printed)) is not None


def run(command: str, last_status: int, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "DTEE_ASYNC_DEBUG")}
    environment |= {"PATH": f"{BIN}:{environment['PATH']}", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["/bin/sh", "-c", f"(exit {last_status})\n{command}"],  # so that $? is that of the command before
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def set_up_stack(folder, monkeypatch):
    """The example, on ports that nobody has."""
    if missing := [name for name in ("redis-server", "redis-cli", "node", "curl") if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    shutil.copytree(ROOT / STACK, folder / STACK, ignore=shutil.ignore_patterns("out", "__pycache__"))
    (folder / STACK / "out").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("STACK_PORT", str(one.getsockname()[1]))
        monkeypatch.setenv("STACK_REDIS_PORT", str(other.getsockname()[1]))


STACK = "examples/stack"
NO_EXAMPLES = ("architecture.md", "lifecycle.md")
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name not in NO_EXAMPLES))
CASES = [pytest.param(case, id=f"{page} line{case.block.number}") for page in PAGES for case in cases(blocks((ROOT / page).read_text()))]


@pytest.mark.parametrize("case", CASES)
def test_readme(case, tmp_path, monkeypatch):
    if " node " in case.block.text and shutil.which("node") is None:
        pytest.skip("needs node")
    if STACK in case.block.text:
        set_up_stack(tmp_path, monkeypatch)
    for name, text in case.files.items():
        (tmp_path / name).write_text(text)
    if case.block.kind == "python":
        subprocess.run([sys.executable, "-W", "error", "-c", case.block.text], cwd=tmp_path, check=True)
    status = 0
    for command, expected in transcript(case.block):
        if left_out := NOT_RUN.fullmatch(command):
            assert not expected, f"{command}: is not run, so nothing can be said about what it prints"
            assert not left_out["target"] or f"\n{left_out['target']}:" in (ROOT / "Makefile").read_text()
            continue
        done = run(command, status, tmp_path)
        status = done.returncode
        assert matches(expected, done.stdout), f"$ {command}\n{done.stdout}\nand not:\n" + "\n".join(expected)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize(
    "text",
    [
        "```\nls\n```\n",
        "```sh\nls\n```\n",
        "```toml\n[jobs]\n```\n",
        "```toml\n# unused.toml\n```\n",
        "```console\n$ ls\n",
        "  ```console\n```\n",
    ],
)
def test_nothing_is_left_out_silently(text):
    with pytest.raises(AssertionError):
        cases(blocks(text))


@pytest.mark.parametrize(
    ("expected", "printed", "right"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a"], "a", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["...", "c"], "a\nb\n", False),
        (["it took ... s"], "it took 0.31 s\n", True),
        (["02:51:25.939377 pid=77 x"], "12:00:00.000001 pid=1234 x\n", True),
        ([], "anything\n", False),
    ],
)
def test_matches(expected, printed, right):
    assert matches(expected, printed) is right
