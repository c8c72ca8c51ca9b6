"""Owns the grammar: options first, then the command, which is never looked into.

argparse cannot be told this: it refuses ``-o FILE CMD -x``, keeps ``--``, and abbreviates.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..core.outputs import OUTPUT_KEYS
from ..core.write import Stream
from .options import COPY_ONLY, JOBS_ONLY, ONE_COMMAND_ONLY, OPTIONS, Option
from .text import _

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Take = Callable[[Option, str | None], None]

CRON_NAMES = ("cronty", "cronty-async")

_SHORT = {option.short: option for option in OPTIONS if option.short}
_LONG = {option.long: option for option in OPTIONS}


class UsageError(Exception):
    """The command line is wrong; the text says how."""


class Options(NamedTuple):
    """A parsed command line.

    ``files``: the output options in the order given, by their key; ``lists``: the other options that
    may be given again. ``command``: what follows the options; with jobs, the names of those that are chosen.
    """

    prog: str
    cronty: bool
    flags: frozenset[str]
    values: Mapping[str, str]
    lists: Mapping[str, Sequence[str]]
    files: Sequence[tuple[str, str]]
    command: Sequence[str]

    @property
    def cron(self) -> bool:
        """Cron mode: asked for, or by our name."""
        return self.cronty or "cron" in self.flags

    @property
    def copies(self) -> bool:
        """Whether there is no command to run, but standard input to copy."""
        return not (self.cronty or self.runs_jobs) and bool(self.command) and self.command[0] == "-"

    @property
    def runs_jobs(self) -> bool:
        """Whether there are jobs to run, from files."""
        return "jobs" in self.lists or "procfile" in self.values


def program_name(argv0: str, path: str) -> str:
    """What was typed, as far as it can be known: the last component if PATH finds it there, else all of it."""
    folder, base = os.path.split(argv0)
    if base == "__main__.py":
        return "dtee-async"
    folders = {each.rstrip("/") for each in path.split(os.pathsep)}
    return base if not folder or folder.rstrip("/") in folders else argv0


def parse(prog: str, words: Sequence[str]) -> Options:
    """Parse a command line without its first word. Raises UsageError."""
    flags: set[str] = set()
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    files: list[tuple[str, str]] = []

    def take(option: Option, value: str | None) -> None:
        if value is None:
            flags.add(option.key)
        elif option.key in OUTPUT_KEYS:
            files.append((option.key, value))
        elif option.repeats:
            lists.setdefault(option.key, []).append(value)
        else:
            if option.choices and value not in option.choices:
                choices = _(" or ").join(option.choices)
                raise UsageError(
                    _("option '{option}': expected {choices}, got '{value}'").format(
                        option=f"--{option.long}", choices=choices, value=value
                    )
                )
            if option.key in values:
                raise UsageError(_("option '{option}' is given twice").format(option=f"--{option.long}"))
            values[option.key] = value

    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            _long(word, rest, take)
        else:
            _short(word, rest, take)
    options = Options(prog, os.path.basename(prog) in CRON_NAMES, frozenset(flags), values, lists, files, rest)
    _check(options)
    return options


def _long(word: str, rest: list[str], take: _Take) -> None:
    name, equals, value = word[2:].partition("=")
    option = _LONG.get(name)
    if option is None:
        raise UsageError(_("unrecognised option '{option}'").format(option=word))
    if not option.metavar:
        if equals:
            raise UsageError(_("option '{option}' doesn't allow an argument").format(option=f"--{name}"))
        take(option, None)
    elif equals:
        if not value:
            raise UsageError(_("option '{option}' requires an argument").format(option=f"--{name}"))
        take(option, value)
    else:
        take(option, _argument(f"--{name}", rest))


def _short(word: str, rest: list[str], take: _Take) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _SHORT.get(letter)
        if option is None:
            raise UsageError(_("unrecognised option '{option}'").format(option=f"-{letter}"))
        if option.metavar:
            take(option, letters or _argument(f"-{letter}", rest))
            return
        take(option, None)


def _argument(spelling: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(_("option '{option}' requires an argument").format(option=spelling))
    return rest.pop(0)


def _check(options: Options) -> None:
    if options.flags & {"help", "version", "doctor", "schema"}:
        return
    for key in () if options.copies else COPY_ONLY:
        if _given(options, key):
            raise UsageError(_("option '{option}' goes with - as the command: standard input is copied").format(option=_spelled(key)))
    if options.runs_jobs:
        _check_jobs(options)
        return
    for key in JOBS_ONLY:
        if _given(options, key):
            raise UsageError(_("option '{option}' goes with --jobs").format(option=_spelled(key)))
    if options.copies:
        _check_copy(options)
        return
    for key, mode in (("watch_fds", "turnstile"), ("stderr_apart", "pty")):
        if _given(options, key) and options.values.get("capture") != mode:
            raise UsageError(_("option '{option}' goes with --capture={mode}").format(option=_spelled(key), mode=mode))


def _check_jobs(options: Options) -> None:
    if "jobs" in options.lists and "procfile" in options.values:
        raise UsageError(_("--jobs and --procfile: expected one of them"))
    file = options.lists["jobs"][0] if "jobs" in options.lists else _("a jobs file")
    number = options.values.get("max_parallel", "0")
    if not (number.isdecimal() and number.isascii() and len(number) < 10):
        raise UsageError(_("option '{option}': expected a number, got '{value}'").format(option="--max-parallel", value=number))
    if "cron" in options.flags:
        raise UsageError(_("with --jobs, silence belongs to a job: write quiet = true into {file}").format(file=file))
    if "ignore_interrupts" in options.flags:
        raise UsageError(
            _("option '{option}' goes with one command: a run of jobs ends by an interrupt").format(option="--ignore-interrupts")
        )
    if wrong := [word for word in options.command if word.startswith("-")]:
        raise UsageError(_("options come before the names of jobs: unexpected '{word}'").format(word=wrong[0]))
    if options.files:
        text = _("with --jobs, output files belong to a job: write {key} into {file}")
        raise UsageError(text.format(key=options.files[0][0], file=file))
    for key in ONE_COMMAND_ONLY:
        if _given(options, key):
            text = _("with --jobs, option '{option}' belongs to a job: write it into {file}")
            raise UsageError(text.format(option=_spelled(key), file=file))


def _check_copy(options: Options) -> None:
    """Standard input is one stream, and no command."""
    if len(options.command) > 1:
        raise UsageError(_("- copies standard input and takes no arguments: unexpected '{word}'").format(word=options.command[1]))
    for key in ("cron", *ONE_COMMAND_ONLY):
        if key != "verbose" and _given(options, key):
            raise UsageError(_("option '{option}' goes with a command, and - is none").format(option=_spelled(key)))
    for key, _path in options.files:
        if OUTPUT_KEYS[key].stream != Stream.STDOUT:
            raise UsageError(_("- copies one stream: use -o or -O in the place of '{option}'").format(option=_spelled(key)))


def _given(options: Options, key: str) -> bool:
    return key in options.flags or key in options.values or key in options.lists


def _spelled(key: str) -> str:
    return f"--{key.replace('_', '-')}"
