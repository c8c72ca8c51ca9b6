"""Owns the option table: everything that the command line understands, as data."""

from __future__ import annotations

from typing import NamedTuple

from ..core.capture import MODES, WATCH_FDS
from .text import N_, _


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


def _output(letter: str, long: str, help: str) -> Option:
    return Option(letter, long, help, metavar=N_("FILE"), repeats=True)


OPTIONS = (
    _output("o", "out-append", N_("append standard output to FILE")),
    _output("O", "out-overwrite", N_("write standard output to FILE")),
    _output("e", "err-append", N_("append standard error to FILE")),
    _output("E", "err-overwrite", N_("write standard error to FILE")),
    _output("c", "combined-append", N_("append both, in order, to FILE")),
    _output("C", "combined-overwrite", N_("write both, in order, to FILE")),
    Option(
        "",
        "capture",
        N_("how to capture: auto (default), ordered, turnstile, pipe or pty"),
        metavar=N_("MODE"),
        choices=MODES,
    ),
    Option(
        "",
        "watch-fds",
        N_("with --capture=turnstile: the file descriptors to order, 1-2 (default) or 1-9"),
        metavar=N_("RANGE"),
        choices=tuple(WATCH_FDS),
    ),
    Option("", "stderr-apart", N_("with --capture=pty: standard error does not go through the terminal")),
    Option(
        "",
        "wait-for",
        N_("end with the command's exit (default), or when its last writers are gone"),
        metavar=N_("WHAT"),
        choices=("exit", "writers"),
    ),
    Option("i", "ignore-interrupts", N_("ignore interrupt signals; the command still gets its own")),
    Option("q", "cron", N_("be silent unless the command writes to standard error or fails"), cronty=False),
    Option(
        "", "jobs", N_("run the jobs of a TOML file; may be given again: later files win"), metavar=N_("FILE"), repeats=True, cronty=False
    ),
    Option("", "procfile", N_("run the processes of a Procfile"), metavar=N_("FILE"), cronty=False),
    Option("", "check", N_("with jobs: check the files, show the order of the starts, and run nothing"), cronty=False),
    Option("j", "max-parallel", N_("with jobs: run no more than N at once (0: no limit)"), metavar=N_("N"), cronty=False),
    Option("", "except", N_("with jobs: leave this one out; may be given again"), metavar=N_("NAME"), repeats=True, cronty=False),
    Option("", "no-deps", N_("with jobs: not those that the chosen ones depend on"), cronty=False),
    Option("", "no-summary", N_("with jobs: no table at the end"), cronty=False),
    Option("", "log-format", N_("with jobs: console (default) or json"), metavar=N_("FORMAT"), choices=("console", "json"), cronty=False),
    Option(
        "",
        "loop",
        N_("with jobs: the event loop, uvloop (default) or asyncio"),
        metavar=N_("LOOP"),
        choices=("uvloop", "asyncio"),
        cronty=False,
    ),
    Option(
        "",
        "output-error",
        N_("with -: what to do when an output fails: warn, warn-nopipe, exit or exit-nopipe, as tee(1)"),
        metavar=N_("MODE"),
        choices=("warn", "warn-nopipe", "exit", "exit-nopipe"),
        cronty=False,
    ),
    Option("", "progress", N_("with -: show bytes, rate and time on standard error, if that is a terminal"), cronty=False),
    Option("", "force-progress", N_("with -: the same, whatever standard error is"), cronty=False),
    Option("v", "verbose", N_("say which capture mode was chosen, and why; with -: how each output got its bytes"), cronty=False),
    Option("", "doctor", N_("show what this system offers, what to change, and what that buys"), cronty=False),
    Option("", "schema", N_("show the JSON Schema of a jobs file, for editors"), cronty=False),
    Option("h", "help", N_("show this and exit")),
    Option("V", "version", N_("show the version and exit")),
)

ONE_COMMAND_ONLY = ("capture", "watch_fds", "stderr_apart", "wait_for", "verbose")
"""With jobs, these belong to a job, in the file."""

JOBS_ONLY = ("check", "max_parallel", "except", "no_deps", "no_summary", "log_format", "loop")
"""With --jobs or --procfile."""

COPY_ONLY = ("output_error", "progress", "force_progress")
"""With ``-`` in the place of a command."""


def usage(prog: str, *, cronty: bool) -> str:
    """The text of --help."""
    lines = [_("Usage: {prog} [OPTION]... COMMAND [ARGUMENT]...").format(prog=prog)]
    if not cronty:
        lines.append(_("       {prog} [OPTION]... -").format(prog=prog))
        lines.append(_("       {prog} --jobs FILE [OPTION]... [JOB]...").format(prog=prog))
        lines.append(_("       {prog} --procfile FILE [OPTION]... [JOB]...").format(prog=prog))
    lines += ["", _(_CRONTY if cronty else _NORMAL), ""]
    if not cronty:
        lines.insert(-1, _("With - as the command, copy standard input to standard output and to files, as tee does."))
    for option in OPTIONS:
        if option.cronty or not cronty:
            lines.append(f"  {_spelling(option):<34}{_(option.help)}")
    return "\n".join(lines) + "\n"


_NORMAL = N_("Run a command and copy every write that it makes, in order, to files:")
_CRONTY = N_("Run a command in silence; show what it wrote, in order, if it writes to standard error or fails:")


def _spelling(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{option.long}" + (f"={_(option.metavar)}" if option.metavar else "")
