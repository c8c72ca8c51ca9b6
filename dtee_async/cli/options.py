"""Owns the option table: everything that the command line understands, as data."""

from __future__ import annotations

from typing import NamedTuple


class Option(NamedTuple):
    """One option. ``metavar``: it takes an argument; ``repeats``: any number of times; ``cronty``: offered there too."""

    short: str
    long: str
    help: str
    metavar: str = ""
    repeats: bool = False
    choices: tuple[str, ...] = ()
    cronty: bool = True

    @property
    def key(self) -> str:
        """The name in Options.values: the same word as in jobs.toml where there is one."""
        return self.long.replace("-", "_")


def _output(letter: str, long: str, what: str, mode: str) -> Option:
    return Option(letter, long, f"{mode} {what} to FILE", metavar="FILE", repeats=True)


OPTIONS = (
    _output("o", "out-append", "standard output", "append"),
    _output("O", "out-overwrite", "standard output", "write"),
    _output("e", "err-append", "standard error", "append"),
    _output("E", "err-overwrite", "standard error", "write"),
    _output("c", "combined-append", "both, in order,", "append"),
    _output("C", "combined-overwrite", "both, in order,", "write"),
    Option("i", "ignore-interrupts", "ignore interrupt signals; the command still gets its own"),
    Option("q", "cron", "be silent unless the command writes to standard error or fails", cronty=False),
    Option("", "jobs", "run all commands of a TOML file at once", metavar="FILE", cronty=False),
    Option("", "check", "with --jobs: check the file and run nothing", cronty=False),
    Option("", "log-format", "with --jobs: console (default) or json", metavar="FORMAT", choices=("console", "json"), cronty=False),
    Option(
        "", "loop", "with --jobs: the event loop, uvloop (default) or asyncio", metavar="LOOP", choices=("uvloop", "asyncio"), cronty=False
    ),
    Option("h", "help", "show this and exit"),
    Option("V", "version", "show the version and exit"),
)

JOBS_ONLY = ("check", "log_format", "loop")


def usage(prog: str, *, cronty: bool) -> str:
    """The text of --help."""
    lines = [f"Usage: {prog} [OPTION]... COMMAND [ARGUMENT]..."]
    if not cronty:
        lines.append(f"       {prog} --jobs FILE [--check] [--log-format FORMAT] [--loop LOOP]")
    lines += ["", "Run a command and copy every write that it makes, in order, to files:" if not cronty else _CRONTY, ""]
    for option in OPTIONS:
        if option.cronty or not cronty:
            lines.append(f"  {_spelling(option):<34}{option.help}")
    return "\n".join(lines) + "\n"


_CRONTY = "Run a command in silence; show what it wrote, in order, if it writes to standard error or fails:"


def _spelling(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{option.long}" + (f"={option.metavar}" if option.metavar else "")
