"""Owns ``${NAME}``, ``${NAME:-default}`` and ``$${``, which is ``${`` itself, in the strings of a jobs file.

Every other ``$`` stays, as in ``["sh", "-c", "kill $$"]``.

A string that is for the shell is left to the shell, which has the same words for it: a value is quoted there as any other, and a
``$`` means what it always means. So that the shell finds them, the variables that it names are put into its environment.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

from .tables import Variables
from .wrong import Path, WrongError, convert, meant

JOB_NAME, JOB_REPLICA = "JOB_NAME", "JOB_REPLICA"

PROBES = ("readiness_probe", "liveness_probe", "startup_probe")
_SHELL: Sequence[Path] = (("command",), ("shutdown", "command"), *((probe, "exec", "command") for probe in PROBES))
"""The keys of a job whose strings are for the shell; a list there is none."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$(?:\$(?=\{)|\{(?P<inside>[^{}]*)\}|(?P<open>\{))")
_INSIDE = re.compile(rf"(?P<name>{_NAME.pattern})(?::-(?P<default>.*))?", re.DOTALL)
_IN_SHELL = re.compile(rf"\$\{{?({_NAME.pattern})")


def expand(path: Path, text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables replaced. Raises WrongError."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":  # and a brace
            return "$"
        inside = _INSIDE.fullmatch(match["inside"] or "")
        if inside is None:
            raise WrongError(path, "expected ${NAME} or ${NAME:-default}, with no variable in the default; $${ is ${ itself")
        found = variables.get(inside["name"], "")
        if inside["default"] is not None:
            return found or inside["default"]
        if inside["name"] not in variables:
            hint = meant(inside["name"], variables) or "; ${" + inside["name"] + ":-default} gives it a default"
            raise WrongError(path, f"no variable {inside['name']} in [vars] or the environment{hint}")
        return found

    return _REFERENCE.sub(value, text) if "$" in text else text


def expand_table(table: Mapping[str, Any], variables: Mapping[str, str], path: Path = ()) -> dict[str, Any]:
    """The table of a job with all its strings expanded, but those for the shell. Raises WrongError."""
    return {name: _expand_value(value, variables, (*path, name)) for name, value in table.items()}


def _expand_value(value: Any, variables: Mapping[str, str], path: Path) -> Any:
    match value:
        case str() if path not in _SHELL:
            return expand(path, value, variables)
        case dict():
            return expand_table(value, variables, path)
        case list():
            return [_expand_value(one, variables, (*path, index)) for index, one in enumerate(value)]
        case _:
            return value


def named_in_shell(table: Mapping[str, Any]) -> set[str]:
    """The variables that the strings for the shell in a job's table name, as far as can be told."""
    names: set[str] = set()
    for path in _SHELL:
        value: Any = table
        for step in path:
            value = value.get(str(step)) if isinstance(value, dict) else None
        if isinstance(value, str):
            names.update(_IN_SHELL.findall(value))
    return names


def resolve_vars(table: object, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``[vars]``; each may name those before it and the environment. Raises WrongError, its path from there."""
    variables: dict[str, str] = {}
    for name, value in convert((), table, Variables).items():
        path = (name,)
        if not _NAME.fullmatch(name):
            raise WrongError(path, "a variable's name is made of letters, digits and _, and does not begin with a digit")
        if name in (JOB_NAME, JOB_REPLICA):
            raise WrongError(path, f"{name} is set for each job by itself")
        variables[name] = expand(path, str(value), ChainMap(variables, environment))  # type: ignore[arg-type]
    return variables
