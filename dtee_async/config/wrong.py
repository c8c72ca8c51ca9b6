"""Owns what is said about a wrong place in a jobs file: the key path, what was expected, what was probably meant."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Path = tuple[str | int, ...]

_AT = re.compile(r"^(?P<text>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_WORDS = {"str": "string", "int": "integer", "array": "list", "object": "table", "bool": "boolean"}


class WrongError(Exception):
    """Something is wrong at a key path; becomes a ConfigError with the file's name."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        super().__init__(f"{key(path)}: {text}")


def key(path: Path) -> str:
    """As one would write it in TOML: ``jobs.web.command[1]``, ``jobs.'a.b'.quiet``."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" if re.fullmatch(r"[\w-]+", step) else f".{step!r}" for step in path]
    return "".join(parts).removeprefix(".")


def kind(value: object) -> str:
    """The type of a value in TOML's words."""
    name = type(value).__name__
    return {"dict": "table", **_WORDS}.get(name, name)


def one_of(path: Path, value: str, choices: Collection[str]) -> str:
    """The value. Raises WrongError if it is none of the choices."""
    if value in choices:
        return value
    raise WrongError(path, f"expected one of {', '.join(choices)}, got {value!r}{meant(value, choices)}")


def meant(name: str, known: Collection[str]) -> str:
    """What was probably meant, as the end of a sentence; empty if nothing is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def convert(path: Path, value: object, type_: type[T]) -> T:
    """The value as that type. Raises WrongError with the path of what is wrong inside it."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        _look(path, value, type_)
        raise _translated(path, str(error)) from error


def check_keys(path: Path, table: Collection[str], known: Collection[str]) -> None:
    """Raises WrongError for a key that is not known."""
    for unknown in table:
        if unknown not in known:
            raise WrongError((*path, unknown), "unknown key" + (meant(unknown, known) or f"; known keys: {', '.join(known)}"))


def _look(path: Path, value: object, type_: Any) -> None:
    """Raises WrongError for what is better said by us: an unknown key, and whatever is wrong in a table of which no key is known."""
    if not isinstance(value, dict):
        return
    for one in _alternatives(type_):
        if typing.get_origin(one) is dict:
            for name, inner in value.items():
                convert((*path, name), inner, typing.get_args(one)[1])
        elif isinstance(one, type) and issubclass(one, msgspec.Struct):
            check_keys(path, value, one.__struct_fields__)
            for field in msgspec.structs.fields(one):
                _look((*path, field.name), value.get(field.name), field.type)


def _alternatives(type_: Any) -> Iterator[Any]:
    if typing.get_origin(type_) is typing.Annotated:
        yield from _alternatives(typing.get_args(type_)[0])
    elif typing.get_origin(type_) in (types.UnionType, typing.Union):
        for one in typing.get_args(type_):
            yield from _alternatives(one)
    else:
        yield type_


def _translated(path: Path, text: str) -> WrongError:
    """From ``Expected `int | null`, got `str` - at `$.nice```; as msgspec says it: the path becomes ours, the types TOML's."""
    match = _AT.match(text)
    assert match is not None
    steps = tuple(name or int(number) for name, number in _STEP.findall(match["path"] or ""))
    words = match["text"].replace("`", "").replace(" | null", "").replace(" | ", " or ").replace("Expected", "expected")
    return WrongError((*path, *steps), re.sub(rf"\b({'|'.join(_WORDS)})\b", lambda found: _WORDS[found[0]], words))
