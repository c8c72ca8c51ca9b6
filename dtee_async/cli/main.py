"""Owns the entry points ``dtee-async`` and ``cronty-async``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # first of all: Ctrl-C is never a traceback
signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is inherited as ignored, no exit status can be had

import os
import sys
from typing import NoReturn

from ..process.stdio import fill_missing, forget_coercion
from .options import usage
from .parse import Options, UsageError, parse, program_name
from .status import EX_IOERR, EX_OSERR, EX_SOFTWARE, EX_USAGE
from .text import _, say, speak_as_told, worded


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    fill_missing(1, 2)
    forget_coercion()
    speak_as_told()
    prog = program_name(sys.argv[0], os.environ.get("PATH", ""))
    try:
        options = parse(prog, sys.argv[1:])
    except UsageError as error:
        hint = _("Try '{prog} -h' for help.").format(prog=prog)
        say(f"{prog}: {error}\n{hint}\n")
        sys.exit(EX_USAGE)
    try:
        status = _run(options)
    except OSError as error:  # the system refused something that nothing can be done about: too few fds, ...
        if os.environ.get("DTEE_ASYNC_DEBUG"):
            raise
        say(f"{prog}: {worded(error)}\n")
        status = EX_OSERR
    except Exception as error:
        if os.environ.get("DTEE_ASYNC_DEBUG"):
            raise
        what = _("internal error: {kind}: {error} (set DTEE_ASYNC_DEBUG=1 for the traceback)").format(
            kind=type(error).__name__, error=error
        )
        say(f"{prog}: {what}\n")
        status = EX_SOFTWARE
    sys.exit(status)


def _run(options: Options) -> int:
    if "help" in options.flags:
        return _print_out(options, usage(options.prog, cronty=options.cronty))
    if "version" in options.flags:
        from ..version import __version__

        return _print_out(options, f"dtee-async {__version__}\n")
    if "doctor" in options.flags:
        from .doctor import report

        return _print_out(options, report())
    if "schema" in options.flags:
        from .jobs import schema_text

        return _print_out(options, schema_text())
    if options.runs_jobs:
        from .jobs import run_jobs

        return run_jobs(options, lambda text: _print_out(options, text))
    if not options.command:
        return _print_out(options, usage(options.prog, cronty=options.cronty), EX_USAGE)
    if options.copies:
        from .copy import run_copy

        return run_copy(options)
    from .single import run_single

    return run_single(options)


def _print_out(options: Options, text: str, status: int = 0) -> int:
    """To stdout, at once; the status to exit with."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # CPython ignores it; a plain program dies by it
    try:
        os.write(1, os.fsencode(text))
    except OSError as error:
        say(f"{options.prog}: stdout: write: {error.strerror}\n")
        return EX_IOERR
    return status
