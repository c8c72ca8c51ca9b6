"""Owns the environments that jobs run in. What several jobs have in common is in memory once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import TextIO

from ..core.policy import NOT_INHERITED
from ..core.spec import variable_problem
from .wrong import Path, WrongError


def for_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """What of our own environment is for jobs, too."""
    return {name: value for name, value in environment.items() if name not in NOT_INHERITED}


class Environments:
    """Makes the environments of jobs from the one that we have."""

    def __init__(self, ours: Mapping[str, str]) -> None:
        self._ours = dict(ours)
        self._files: dict[tuple[str, ...], tuple[dict[str, str], dict[str, str]]] = {}

    def make(self, own: Mapping[str, str], env_files: Sequence[str], defaults: Mapping[str, str]) -> Mapping[str, str]:
        """Our environment, and over it ``defaults``, the variables of the files and ``own``. Raises WrongError."""
        paths = tuple(env_files)
        if paths not in self._files:
            variables = read_env_files(("env_file",), paths, self._ours)
            self._files[paths] = variables, {**self._ours, **variables} if variables else self._ours
        variables, base = self._files[paths]
        over = {name: value for name, value in defaults.items() if name not in variables} | dict(own)
        return ChainMap(over, base) if over else base


def check_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Raises WrongError for what the system has no place for."""
    for variable, value in variables.items():
        if problem := variable_problem(variable, value):
            raise WrongError((*path, variable), problem)


def read_env_files(path: Path, names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of .env files, later ones over earlier ones. ``${NAME}`` in them is taken from them and from the environment."""
    variables: dict[str, str] = {}
    for name in names:
        try:
            with open(name, encoding="utf-8") as file:
                variables |= _read(file, ChainMap(variables, environment))  # type: ignore[arg-type]
        except UnicodeDecodeError as error:
            raise WrongError(path, f"{name}: not UTF-8 text") from error
        except OSError as error:
            raise WrongError(path, f"{name}: {error.strerror}") from error
        except ValueError as error:  # a bad line, or a NUL in the path
            raise WrongError(path, f"{name}: {error}") from error
    check_environment(path, variables)
    return variables


def _read(file: TextIO, environment: Mapping[str, str]) -> dict[str, str]:
    """Raises ValueError with the line."""
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    variables: dict[str, str] = {}
    for binding in parse_stream(file):
        if binding.error:
            text = binding.original.string
            blank = text[: len(text) - len(text.lstrip())].count("\n")
            raise ValueError(f"line {binding.original.line + blank}: expected NAME=value")
        if binding.key is not None and binding.value is not None:
            known = {**environment, **variables}
            variables[binding.key] = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
    return variables
