"""The tests with every Python that is here, with the lowest versions of what we depend on, and with a built wheel: `make test-all`."""

import shutil
import tempfile
import tomllib
from pathlib import Path

import nox

nox.options.envdir = ".cache/nox"
nox.options.error_on_missing_interpreters = False  # those that are missing are named at the end
nox.options.reuse_venv = "yes"

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OF_SOURCES = [
    "--ignore=tests/test_layers.py",
    "--ignore=tests/cli/test_translation.py",
    "--deselect=tests/cli/test_share.py::test_a_wheel_has_it_all",
]
"""What is asked of the sources themselves."""


def install(session: nox.Session, *more: str) -> None:
    """Us, as ``more`` says, and what the tests need."""
    session.install(*PROJECT["dependency-groups"]["test"], *PROJECT["dependency-groups"]["docs"], *more)


def pytest(session: nox.Session, *more: str) -> None:
    session.run("python", "-c", "import sys, dtee_async; print(sys.version, dtee_async.__file__)")
    session.run("pytest", "--ignore=tests/soak", *more, *session.posargs, env={"PYTHONDONTWRITEBYTECODE": "1"})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """With each Python."""
    install(session, "--editable", ".")
    pytest(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """With the oldest versions that pyproject.toml allows."""
    oldest = [dependency.replace(">=", "==") for dependency in PROJECT["project"]["dependencies"]]
    install(session, "--editable", ".", *oldest)
    session.run("python", "-m", "pip", "list")
    pytest(session)


@nox.session(python=PYTHONS[0])
def wheel(session: nox.Session) -> None:
    """With the wheel that users get, and no source folder near it."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".")
        (built,) = Path(folder).glob("*.whl")
        install(session, "--force-reinstall", str(built))
        away = Path(folder, "away")
        shutil.copytree(HERE, away, ignore=shutil.ignore_patterns("dtee_async", "*.egg-info", ".cache", ".venv", ".git", ".*_cache"))
        session.chdir(away)
        pytest(session, *OF_SOURCES)
