"""The public names, and what an import of the package does not cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dtee_async

SOURCE = Path(dtee_async.__file__)

HEAVY = {"anyio", "asyncio", "dotenv", "msgspec", "structlog", "uvloop"}
"""Packages that a command line which runs one command must not import."""


def type_checking_names():
    """The names of the TYPE_CHECKING block, and the module that each comes from."""
    block, _ = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {alias.name: "." * node.level + node.module for node in block.body for alias in node.names if alias.asname == alias.name}


@pytest.mark.parametrize("name", dtee_async.__all__)
def test_every_public_name_is_there_and_is_the_one_of_its_module(name):
    home = import_module(dtee_async._HOME[name], "dtee_async")
    assert getattr(dtee_async, name) is getattr(home, name)
    assert name == "Event" or getattr(dtee_async, name).__module__ == home.__name__  # which is a union


def test_the_names_are_the_same_for_readers_for_type_checkers_and_for_the_interpreter():
    assert type_checking_names() == dtee_async._HOME
    assert sorted(dtee_async._HOME) == dtee_async.__all__


def test_every_error_of_ours_is_public():
    from dtee_async import errors

    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.DteeError)}
    assert ours <= set(dtee_async.__all__)


def test_a_star_import_gives_exactly_the_public_names():
    names = {}
    exec("from dtee_async import *", names)
    assert names.keys() - {"__builtins__"} == set(dtee_async.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dtee_async' has no attribute 'nonsense'"):
        dtee_async.nonsense  # noqa: B018 - the access is the test
    with pytest.raises(ImportError, match="nonsense"):
        exec("from dtee_async import nonsense")


def test_type_checkers_are_told_that_there_are_types():
    assert SOURCE.with_name("py.typed").exists()


def modules_after(code):
    """The top-level modules that a new interpreter has imported after running the code."""
    report = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import dtee_async",
        "import dtee_async.errors",
        "import dtee_async.cli.main",
        "from dtee_async.cli.main import parse, usage\nparse('dtee-async', ['-qoFILE', 'true'])\nusage('dtee-async', cronty=False)",
        "import dtee_async.cli.single",
        "import dtee_async.core.spec, dtee_async.core.result",
    ],
)
def test_an_import_for_one_command_imports_nothing_heavy(code):
    imported = modules_after(code)
    assert "dtee_async" in imported
    assert not imported & HEAVY


def modules_of_a_run(*words):
    """The top-level modules that a whole run of the command line imports, by what ``-X importtime`` says about it."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "dtee_async", *words], capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("words", [["true"], ["-q", "true"], ["--help"], ["--version"]])
def test_a_run_of_one_command_imports_nothing_heavy(words):
    imported = modules_of_a_run(*words)
    assert "dtee_async" in imported
    assert not imported & HEAVY


def test_what_runs_one_command_writes_its_files_without_anything_heavy(tmp_path):
    imported = modules_of_a_run("-c", str(tmp_path / "a.log"), "sh", "-c", "echo out; echo err >&2")
    assert (tmp_path / "a.log").read_bytes() == b"out\nerr\n"
    assert not imported & HEAVY


def test_heavy_imports_would_be_seen(tmp_path):
    (tmp_path / "jobs.toml").write_text('[jobs.web]\ncommand = "true"\n')
    assert {"asyncio", "anyio", "msgspec", "structlog"} <= modules_of_a_run("--jobs", str(tmp_path / "jobs.toml"))
    assert "asyncio" in modules_after("from dtee_async import run")
