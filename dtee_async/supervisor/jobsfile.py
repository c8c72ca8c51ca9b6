"""Owns the jobs file: from TOML to JobSpecs, with one clear error for whatever is wrong in it.

An error says: the file, the key path (``jobs.web.command``), what was expected and, for a key or
value that is nearly right, what was probably meant.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import msgspec

from ..core.capture import AUTO, CaptureSpec
from ..core.outputs import OUTPUT_KEYS, OutputFile, output_files
from ..core.spec import JobSpec
from ..errors import ConfigError

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_TOML_PLACE = re.compile(r"^(?P<text>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|(?P<end>end of document))\)$", re.DOTALL)
_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)

Paths = str | list[str]

NAME_LENGTH = 100
"""Characters of a job's name, at most: it stands before each of its lines."""


class JobTable(msgspec.Struct, frozen=True):
    """The keys of one ``[jobs.NAME]`` table."""

    command: str | list[str]
    working_dir: str | None = None
    environment: dict[str, str | int | float] = {}
    env_file: Paths = []
    out_append: Paths = []
    out_overwrite: Paths = []
    err_append: Paths = []
    err_overwrite: Paths = []
    combined_append: Paths = []
    combined_overwrite: Paths = []
    quiet: bool = False
    capture: str = AUTO.mode
    watch_fds: str = AUTO.watch_fds
    no_new_privs: bool = AUTO.no_new_privs
    interactive: bool = AUTO.interactive
    stderr_apart: bool = AUTO.stderr_apart
    wait_for: str = "exit"
    linger_s: float | None = None
    die_with_supervisor: bool = True


class _WrongError(Exception):
    """Something is wrong at a key path; becomes a ConfigError with the file's name."""

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        super().__init__(f"{key}: {text}")


def load_jobs(path: str, environment: Mapping[str, str]) -> list[JobSpec]:
    """The jobs of a file, in its order. ``environment`` is what each job's own is added to.

    Raises ConfigError.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start} ({error.reason})") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(_syntax_error(path, str(error))) from error
    folder = os.path.dirname(os.path.abspath(path))
    try:
        specs = [_job(name, table, folder, environment) for name, table in _job_tables(document)]
        _check_outputs(specs)
        _check_interactive(specs)
    except _WrongError as error:
        raise ConfigError(f"{path}: {error}") from error
    return specs


def _syntax_error(path: str, text: str) -> str:
    match = _TOML_PLACE.match(text)
    if match is None:
        return f"{path}: {text}"
    place = "end of file" if match["end"] else f"line {match['line']}, column {match['column']}"
    return f"{path}: {place}: {match['text']}"


def _job_tables(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    _check_keys("", document, ["jobs"])
    jobs = document.get("jobs")
    if not isinstance(jobs, dict) or not jobs:
        raise _WrongError("jobs", "expected at least one [jobs.NAME] table with a command")
    for name, table in jobs.items():
        key = f"jobs.{name}" if re.fullmatch(r"[\w-]+", name) else f"jobs.{name!r}"
        if not 1 <= len(name) <= NAME_LENGTH or "/" in name or _CONTROL.search(name) or name in (".", ".."):
            raise _WrongError(
                key, "a job's name must be usable as a file name: 1 to 100 characters, no slash, no control characters, not . or .."
            )
        if not isinstance(table, dict):
            raise _WrongError(key, f"expected a table, got {_kind(table)}")
        yield name, table


def _job(name: str, table: dict[str, Any], folder: str, environment: Mapping[str, str]) -> JobSpec:
    key = f"jobs.{name}"
    _check_keys(key, table, JobTable.__struct_fields__)
    own = _environment(f"{key}.environment", table.get("environment"))
    try:
        job = msgspec.convert(table, JobTable)
    except msgspec.ValidationError as error:
        raise _type_error(key, str(error)) from error
    working_dir = os.path.join(folder, job.working_dir) if job.working_dir is not None else folder
    if not os.path.isdir(working_dir):
        raise _WrongError(f"{key}.working_dir", f"no such directory: {working_dir}")
    merged = {**environment, **_env_files(f"{key}.env_file", _list(job.env_file), folder, environment), **own}
    outputs = tuple(_outputs(key, job, folder))
    try:
        return JobSpec(
            name,
            job.command,
            working_dir,
            merged,
            outputs,
            quiet=job.quiet,
            capture=CaptureSpec(job.capture, job.watch_fds, job.no_new_privs, job.interactive, job.stderr_apart),
            wait_for=job.wait_for,
            linger_s=job.linger_s,
            die_with_supervisor=job.die_with_supervisor,
        )
    except ConfigError as error:
        wrong, _, text = str(error).partition(": ")
        raise _WrongError(f"{key}.{wrong}", text) from error


def _check_keys(key: str, table: dict[str, Any], known: Sequence[str]) -> None:
    for unknown in table:
        if unknown not in known:
            path = f"{key}.{unknown}" if key else unknown
            close = difflib.get_close_matches(unknown, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            raise _WrongError(path, f"unknown key; {hint}")


def _type_error(key: str, text: str) -> _WrongError:
    """Translate: msgspec says ``Expected `str`, got `int` - at `$.working_dir```; the path becomes ours, the types TOML's."""
    match = _AT.match(text)
    assert match is not None
    path = (match["path"] or "$").removeprefix("$").replace("[...]", ".*")
    if "missing required field" in match["text"]:
        return _WrongError(f"{key}.command", "missing: expected a string for the shell or a list of a command and its arguments")
    words = {"str": "string", "int": "integer", "array": "list", "object": "table", "bool": "boolean", "float": "float"}
    expected = re.sub(r"\b(str|int|array|object|bool|float)\b", lambda found: words[found[0]], match["text"])
    return _WrongError(f"{key}{path}", expected.replace("`", "").replace(" | null", "").replace("Expected", "expected"))


def _kind(value: object) -> str:
    return {str: "string", int: "integer", bool: "boolean", float: "float", list: "list"}.get(type(value), type(value).__name__)


def _list(value: Paths) -> list[str]:
    return [value] if isinstance(value, str) else value


def _environment(key: str, table: object) -> dict[str, str]:
    """The variables of the environment table, as strings; anything but a table is left for the general check."""
    variables = {}
    for variable, value in table.items() if isinstance(table, dict) else ():
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise _WrongError(f"{key}.{variable}", f"expected a string or a number, got {_kind(value)}")
        try:
            variables[variable] = str(value)
        except ValueError as error:  # sys.set_int_max_str_digits
            raise _WrongError(f"{key}.{variable}", "the number is too long: write it as a string") from error
    _check_environment(key, variables)
    return variables


def _check_environment(key: str, variables: Mapping[str, str]) -> None:
    for variable, value in variables.items():
        if not variable or "=" in variable or "\0" in variable:
            raise _WrongError(f"{key}.{variable!r}", "not a name that an environment variable can have")
        if "\0" in value:
            raise _WrongError(f"{key}.{variable}", "a NUL character cannot be in an environment variable")


def _env_files(key: str, paths: Sequence[str], folder: str, environment: Mapping[str, str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for path in paths:
        full = os.path.join(folder, path)
        try:
            with open(full, encoding="utf-8") as file:
                variables |= _env_file(file, {**environment, **variables})
        except UnicodeDecodeError as error:
            raise _WrongError(key, f"{full}: not UTF-8 text") from error
        except OSError as error:
            raise _WrongError(key, f"{full}: {error.strerror}") from error
        except ValueError as error:  # a bad line, or a NUL in the path
            raise _WrongError(key, f"{full}: {error}") from error
    _check_environment(key, variables)
    return variables


def _env_file(file: TextIO, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a .env file, ``${NAME}`` in them taken from it and from the environment. Raises ValueError with the line."""
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


def _outputs(key: str, job: JobTable, folder: str) -> Iterator[OutputFile]:
    for name in OUTPUT_KEYS:
        for file in output_files({name: getattr(job, name)}):
            path = os.path.join(folder, file.path)
            if not file.path or "\0" in file.path:
                raise _WrongError(
                    f"{key}.{name}", "expected the path of a file, got an empty string" if not file.path else "a path cannot contain NUL"
                )
            parent = os.path.dirname(path)
            if not os.path.isdir(parent):
                raise _WrongError(f"{key}.{name}", f"no such directory: {parent}")
            if os.path.isdir(path):
                raise _WrongError(f"{key}.{name}", f"{path} is a directory, expected a file")
            yield file._replace(path=path)


def _check_outputs(specs: Sequence[JobSpec]) -> None:
    """No file may be written twice: the writers would overwrite or mix what the other wrote."""
    seen: dict[object, tuple[str, str]] = {}
    for spec in specs:
        for file in spec.outputs:
            try:
                status = os.stat(file.path)
            except OSError:
                identity: object = os.path.realpath(file.path)
            else:
                if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                    continue  # /dev/null and terminals may be shared
                identity = status.st_dev, status.st_ino
            key = f"jobs.{spec.name}.{_output_key(file)}"
            if identity in seen:
                other_key, other_path = seen[identity]
                same = "" if other_path == file.path else f" (the same file as {other_path})"
                raise _WrongError(key, f"{file.path} is already written by {other_key}{same}: give each output a file of its own")
            seen[identity] = key, file.path


def _check_interactive(specs: Sequence[JobSpec]) -> None:
    names = [spec.name for spec in specs if spec.capture.interactive]
    if len(names) > 1:
        raise _WrongError(f"jobs.{names[1]}.interactive", f"there is one terminal, and it is for jobs.{names[0]} already")


def _output_key(file: OutputFile) -> str:
    return next(name for name, key in OUTPUT_KEYS.items() if key == (file.stream, file.append))
