"""Owns the entry points ``dtee-async`` and ``cronty-async``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # first of all: Ctrl-C is never a traceback
signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is inherited as ignored, no exit status can be had

import os
import sys
from typing import NoReturn

from ..process.stdio import fill_missing
from .options import usage
from .parse import Options, UsageError, parse, program_name
from .status import EX_SOFTWARE, EX_USAGE


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    fill_missing()
    prog = program_name(sys.argv[0], os.environ.get("PATH", ""))
    try:
        options = parse(prog, sys.argv[1:])
    except UsageError as error:
        say(f"{prog}: {error}\nTry '{prog} -h' for help.\n")
        sys.exit(EX_USAGE)
    try:
        status = _run(options)
    except Exception as error:
        if os.environ.get("DTEE_ASYNC_DEBUG"):
            raise
        say(f"{prog}: internal error: {type(error).__name__}: {error} (set DTEE_ASYNC_DEBUG=1 for the traceback)\n")
        status = EX_SOFTWARE
    sys.exit(status)


def _run(options: Options) -> int:
    if "help" in options.flags:
        print_out(usage(options.prog, cronty=options.cronty))
        return 0
    if "version" in options.flags:
        from ..version import __version__

        print_out(f"dtee-async {__version__}\n")
        return 0
    if "jobs" in options.values:
        from .jobs import run_jobs

        return run_jobs(options)
    if not options.command:
        print_out(usage(options.prog, cronty=options.cronty))
        return EX_USAGE
    from .single import run_single

    return run_single(options)


def say(text: str) -> None:
    """To stderr, at once."""
    os.write(2, os.fsencode(text))


def print_out(text: str) -> None:
    """To stdout, at once."""
    os.write(1, os.fsencode(text))
