"""Owns the table at the end of a run of jobs: each job's state, status, restarts, time, processor time, memory and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..core.lifecycle import State
from .text import _, ngettext
from .units import amount, clock

if TYPE_CHECKING:
    from ..output.count import Counts
    from ..supervisor.service import Service

MANY = 40
"""With more jobs than this, only those are shown that did not simply complete."""

_COLOURS: Mapping[str, int] = {"bold": 1, "Disabled": 2, "Failed": 31, "Skipped": 33}


def summary(services: Sequence[Service], counts: Mapping[str, Counts], *, colour: bool) -> str:
    """The table as text, with the escape sequences of colours if they are wanted."""
    from tabulate import tabulate

    shown = [service for service in services if len(services) <= MANY or not went_well(service)]
    lines = []
    if shown:
        titles = [_("job"), _("state"), _("status"), _("restarts"), _("time"), _("CPU"), _("memory"), _("out"), _("err")]
        rows = [_row(service, counts[service.spec.name]) for service in shown]
        aligned = ["left", "left", *["right"] * (len(titles) - 2)]
        lines = tabulate(rows, titles, tablefmt="plain", colalign=aligned, disable_numparse=True, preserve_whitespace=True).splitlines()
        if colour:
            lines = [_coloured(line, "bold") for line in lines[:1]] + list(map(_coloured, lines[1:], [each.state for each in shown]))
    rest = len(services) - len(shown)
    if rest:
        lines.append(ngettext("{count} job completed", "{count} jobs completed", rest).format(count=rest))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _coloured(line: str, what: str) -> str:
    code = _COLOURS.get(what)
    return f"\x1b[{code}m{line.rstrip()}\x1b[0m" if code else line


def fields(service: Service, counts: Counts) -> dict[str, object]:
    """The same for one job, as the fields of an event."""
    tally = service.tally
    return {
        "job": service.spec.name,
        "state": str(service.state),
        "status": tally.status,
        "restarts": service.restarts,
        "duration_s": round(tally.duration_s, 3),
        "cpu_s": round(tally.cpu_s, 3),
        "max_rss_bytes": tally.max_rss_bytes,
        "out_bytes": counts.out_bytes,
        "err_bytes": counts.err_bytes,
    }


def went_well(service: Service) -> bool:
    """Whether there is nothing to say of it."""
    return service.state is State.COMPLETED and not service.restarts


def _row(service: Service, counts: Counts) -> Sequence[str]:
    tally = service.tally
    if tally.status is None:
        return service.spec.name, service.state, *[""] * 7
    return (
        service.spec.name,
        service.state,
        str(tally.status),
        str(service.restarts),
        _seconds(tally.duration_s),
        _seconds(tally.cpu_s),
        amount(tally.max_rss_bytes),
        amount(counts.out_bytes),
        amount(counts.err_bytes),
    )


def _seconds(value_s: float) -> str:
    return f"{value_s:.2f} s" if value_s < 100 else clock(round(value_s))
