"""Who may import whom: the rules are the tables below, and every import of the package is held against them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "dtee_async"

ERRORS = {"errors"}
ALL_LAYERS = {"core", "config", "transport", "process", "output", "engine", "supervisor", "api", "cli", "errors", "version"}

MAY_IMPORT = {
    "core": ERRORS,
    "errors": set(),
    "transport": {"core"} | ERRORS,
    "process": {"core"} | ERRORS,
    "output": {"core"} | ERRORS,
    "engine": {"core", "transport", "process", "output"} | ERRORS,
    "supervisor": {"core", "process", "engine"} | ERRORS,
    "config": {"core", "process"} | ERRORS,
    "api": {"core", "config", "process", "output", "engine", "supervisor"} | ERRORS,
    "testing": {"core", "output", "engine", "api"} | ERRORS,
    "pytest_plugin": {"core", "api"} | ERRORS,
    "zerocopy": {"engine", "transport"} | ERRORS,
    "cli": ALL_LAYERS,
    "__main__": {"cli"},
    "__init__": {"version"},
    "version": set(),
}
"""For each layer the other layers that it may import. A layer always sees itself."""

MAY_COMPOSE = {
    "supervisor.files": {"output"},
    "supervisor.health": {"output"},
    "supervisor.job": {"transport"},
}
"""Modules that put the parts together: they may import these layers too."""

MAY_NAME = {
    "errors": {"core"},
    "__init__": ALL_LAYERS,
}
"""What may be imported only for the types, under TYPE_CHECKING."""

OUTSIDE = {
    "anyio": {"supervisor", "api", "testing", "zerocopy", "cli"},
    "asyncio": {"api", "cli.jobs", "zerocopy"},
    "dotenv": {"config"},
    "httpx": {"supervisor"},
    "msgspec": {"config"},
    "pytest": {"pytest_plugin"},
    "structlog": {"cli"},
    "tabulate": {"cli.summary"},
    "uvloop": {"cli.jobs"},
}
"""Who may import what is not ours: asyncio, and every package that is not in the standard library."""

NOT_IN_CORE = {"ctypes", "fcntl", "mmap", "multiprocessing", "select", "selectors", "socket", "subprocess", "threading", "time"}
"""core has no fd, no clock and no loop."""

NO_SLEEP = {"engine", "supervisor"}


class Import(NamedTuple):
    """One imported module. ``ours``: relative, and ``target`` is counted from the package root; ``""`` is the root itself."""

    line: int
    target: str
    ours: bool
    for_types: bool
    at_once: bool
    """When the module is imported, and not only when a function is called."""


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(module, source, known=frozenset()):
    """Every import of a module, as it is written and wherever it stands; ``known``: our modules, to tell them from names."""
    package = module.split(".")[:-1]

    def walk(node, for_types, at_once):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield Import(node.lineno, name.name, False, for_types, at_once)
            case ast.ImportFrom(level=0, module=name):
                yield Import(node.lineno, name, False, for_types, at_once)
            case ast.ImportFrom(level=level, module=name, names=names):
                base = [*package[: len(package) + 1 - level], *(name.split(".") if name else [])]
                for one in names:
                    inner = ".".join([*base, one.name])
                    yield Import(node.lineno, inner if inner in known else ".".join(base), True, for_types, at_once)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                for child in ast.iter_child_nodes(node):
                    yield from walk(child, for_types, False)
            case ast.If() if is_type_checking(node):
                for child in node.body:
                    yield from walk(child, True, at_once)
                for child in node.orelse:
                    yield from walk(child, for_types, at_once)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from walk(child, for_types, at_once)

    return list(walk(ast.parse(source), False, True))


def layer(module):
    return module.split(".")[0]


def allowed_layers(module, *, for_types):
    allowed = MAY_IMPORT[layer(module)] | MAY_COMPOSE.get(module, set()) | {layer(module)}
    return allowed | MAY_NAME.get(module, set()) if for_types else allowed


def import_faults(module, found):
    """What is wrong with one import, in words."""
    if found.ours:
        if not found.target:
            yield "imports the package root: import from the module that has the name"
        elif layer(found.target) not in allowed_layers(module, for_types=found.for_types):
            yield f"{layer(module)} may not import {layer(found.target)}" + (", not even for its types" if found.for_types else "")
        return
    name = layer(found.target)
    if name == PACKAGE.name:
        yield "imports the package by its name: inside it, imports are relative"
    elif name in OUTSIDE:
        if not {module, layer(module)} & OUTSIDE[name]:
            yield f"{name} may be imported only in {', '.join(sorted(OUTSIDE[name]))}"
    elif name not in sys.stdlib_module_names:
        yield f"{name} is in no rule: add it to OUTSIDE"
    elif layer(module) == "core" and name in NOT_IN_CORE:
        yield f"core may not import {name}: it has no fd, no clock and no loop"


def name_faults(module, tree):
    """Names that may not be used at all, or not here."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.arg(arg=name):
                pass
            case ast.alias(name=name):
                name = name.rpartition(".")[2]
            case ast.Constant(value=str(name)):  # {"preexec_fn": ...}
                pass
            case _:
                continue
        if name == "preexec_fn":
            yield node.lineno, "preexec_fn runs Python between fork and exec: unsafe in a process with threads"
        if name == "sleep" and layer(module) in NO_SLEEP and not isinstance(node, ast.Constant):
            yield node.lineno, f"no sleep in {layer(module)}: wait for what is to happen"


def faults(module, source, known=frozenset()):
    """Everything that is wrong with a module, each as ``file:line: import: why``."""
    path = PACKAGE.name + "/" + module.replace(".", "/") + ".py"
    if layer(module) not in MAY_IMPORT:
        return [f"{path}:1: {layer(module)} is in no rule: add it to MAY_IMPORT"]
    found = []
    for one in imports(module, source, known):
        target = "." * one.ours + one.target
        found += [f"{path}:{one.line}: {target}: {why}" for why in import_faults(module, one)]
    return found + [f"{path}:{line}: {why}" for line, why in name_faults(module, ast.parse(source))]


def cycle_in(graph):
    """The modules of one cycle, or None. ``graph``: for each module those that it imports."""
    done = set()

    def visit(module, path):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for target in graph.get(module, ()):
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return None

    return next(filter(None, (visit(module, []) for module in graph)), None)


def import_graph(sources):
    """For each module those of ours that are imported when it is."""
    graph = {}
    for module, source in sources.items():
        found = [one.target for one in imports(module, source, sources.keys()) if one.ours and one.at_once and not one.for_types]
        graph[module] = [target if target in sources else f"{target}.__init__" for target in found]
    return graph


def sources_of(package):
    """The source of each module, by its name below the package; a package's own module is the name of its folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts)] = path.read_text()
    return found


SOURCES = sources_of(PACKAGE)


@pytest.mark.parametrize("module", SOURCES)
def test_each_module_imports_only_what_its_layer_may(module):
    found = faults(module, SOURCES[module], SOURCES.keys())
    assert found == []


def test_no_module_imports_itself_in_a_circle():
    assert cycle_in(import_graph(SOURCES)) is None


def test_the_package_was_found():
    assert {"api.jobs", "core.batch", "cli.main", "__init__", "core.__init__"} <= SOURCES.keys()


def test_the_pump_is_a_program_on_its_own():
    """It is run as ``python -I -S pump.py``: neither the package nor anything installed is there."""
    assert {layer(one.target) for one in imports("output.pump", SOURCES["output.pump"])} <= sys.stdlib_module_names


@pytest.mark.parametrize(("module", "layers"), [*MAY_COMPOSE.items(), *((m, ls) for m, ls in MAY_NAME.items() if m != "__init__")])
def test_no_exception_is_there_that_nobody_needs(module, layers):
    used = {layer(one.target) for one in imports(module, SOURCES[module], SOURCES.keys()) if one.ours}
    assert layers <= used


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_package_is_allowed_that_nobody_imports(name):
    users = {module for module in SOURCES for one in imports(module, SOURCES[module]) if not one.ours and layer(one.target) == name}
    assert all(any(one in (user, layer(user)) for user in users) for one in OUTSIDE[name])


# The checker itself: each of these must be found.

TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("core.bad", "from ..output.file import open_file", "core may not import output"),
        ("core.bad", "import socket", "core may not import socket"),
        ("core.bad", "def now():\n    import time", "core may not import time"),
        ("core.bad", "import asyncio.events", "asyncio may be imported only in api, cli.jobs"),
        ("errors", "from .core.result import Result", "errors may not import core"),
        ("errors", TYPES + "from .output.file import FileOutput", "errors may not import output, not even for its types"),
        ("transport.bad", "from ..process.stdio import same_file", "transport may not import process"),
        ("process.bad", "from ..output import file", "process may not import output"),
        ("output.bad", "from ..process.spawn import spawn", "output may not import process"),
        ("output.bad", TYPES + "from ..engine.command import Command", "output may not import engine, not even for its types"),
        ("output.bad", "if True:\n    from ..cli import parse", "output may not import cli"),
        ("engine.bad", "from ..supervisor.job import Job", "engine may not import supervisor"),
        ("engine.bad", "try:\n    import uvloop\nexcept ImportError: ...", "uvloop may be imported only in cli.jobs"),
        ("engine.bad", "from asyncio import get_running_loop", "asyncio may be imported only in api, cli.jobs"),
        ("supervisor.bad", "from ..transport.datagram import DatagramTransport", "supervisor may not import transport"),
        ("supervisor.bad", "from ..cli.log import Log", "supervisor may not import cli"),
        ("supervisor.supervisor", "from ..transport.recvmmsg import ReceiveBuffer", "supervisor may not import transport"),
        ("api", "from .cli.parse import parse", "api may not import cli"),
        ("api", "import structlog", "structlog may be imported only in cli"),
        ("cli.bad", "from .. import __version__", "imports the package root"),
        ("cli.bad", "from .. import run", "imports the package root"),
        ("cli.bad", "import dtee_async.core.batch", "imports the package by its name"),
        ("cli.bad", "from dtee_async import run", "imports the package by its name"),
        ("cli.bad", "import requests", "requests is in no rule"),
        ("cli.bad", "def f():\n    async def g():\n        from asyncio import sleep", "asyncio may be imported only in api, cli.jobs"),
        ("process.bad", "Popen(['x'], preexec_fn=os.setsid)", "preexec_fn"),
        ("cli.bad", "options = {'preexec_fn': os.setsid}", "preexec_fn"),
        ("engine.bad", "import time\nwhile not done: time.sleep(0.1)", "no sleep in engine"),
        ("supervisor.bad", "from time import sleep as nap", "no sleep in supervisor"),
        ("supervisor.bad", "async def f():\n    await anyio.sleep(1)", "no sleep in supervisor"),
        ("elsewhere.bad", "", "elsewhere is in no rule"),
    ],
)
def test_the_checker_finds_what_is_wrong(module, source, why):
    found = faults(module, source, SOURCES.keys())
    assert any(why in fault for fault in found)
    assert all(fault.startswith(f"dtee_async/{module.replace('.', '/')}.py:") for fault in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.good", "from .batch import Batch\nfrom ..errors import ConfigError\nimport os"),
        ("errors", TYPES + "from .core.result import Result"),
        ("errors", "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from .core.result import Result"),
        ("engine.good", "from ..transport.datagram import DatagramTransport\nfrom ..output import pump"),
        ("supervisor.good", "import anyio\nname = 'sleep'"),
        ("cli.jobs", "def f():\n    import asyncio, uvloop"),
        ("cli.good", "from .options import usage\nfrom ..supervisor import job"),
    ],
)
def test_the_checker_is_content_with_what_is_right(module, source):
    assert faults(module, source, SOURCES.keys()) == []


def test_a_fault_says_the_file_the_line_and_the_import():
    source = "import os\n\nfrom ..engine.command import Command\n"
    assert faults("core.bad", source) == ["dtee_async/core/bad.py:3: .engine.command: core may not import engine"]


def test_the_checker_finds_a_circle():
    sources = {"core.a": "from .b import x", "core.b": "import os\nfrom ..core import c", "core.c": "from .a import y"}
    assert cycle_in(import_graph(sources)) == ["core.a", "core.b", "core.c", "core.a"]


def test_the_checker_finds_a_circle_through_a_package():
    sources = {"core.__init__": "from .a import x", "core.a": "from .b import y", "core.b": "from ..core import x"}
    assert cycle_in(import_graph(sources)) == ["core.__init__", "core.a", "core.b", "core.__init__"]


@pytest.mark.parametrize("back", ["def f():\n    from .a import y", TYPES + "from .a import y", "from os import path"])
def test_what_is_imported_later_or_for_types_makes_no_circle(back):
    assert cycle_in(import_graph({"core.a": "from .b import x", "core.b": back})) is None
