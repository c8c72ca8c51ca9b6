"""Owns the comparison of the library with what authors of async applications use else, at what they suffer from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from functools import partial
from statistics import median

from .common import Bench, WrongOutputError, alternate, clean_environment
from .report import Report

TITLE = "two streams of one command, read line by line; each cell is measured in a process of its own"

BOUND_S = 60.0
CONTENDERS = {
    "asyncio": "asyncio.create_subprocess_exec, two readers",
    "anyio": "anyio.open_process, two readers",
    "trio": "trio.run_process, two readers",
    "shellous": "shellous, two readers",
    "open_job-lines": "dtee_async.open_job, lines",
    "open_job-writes": "dtee_async.open_job, writes",
    "run": "dtee_async.run, limit_bytes=4 MiB",
}
TASKS = {
    "order": "order_breaks",
    "cpu": "cpu_us_per_line",
    "memory": "peak_rss_mib",
    "line": "line_of_1_mib",
    "not_utf8": "not_utf8",
    "grandchild": "grandchild_s",
    "cancel": "cancel",
    "run_cpu": "true_cpu_ms",
}
OURS = ("open_job-lines", "open_job-writes", "run")
ROUNDS = 3
PEAK_MIB = 40.0

Answer = float | str


def measure(bench: Bench, report: Report) -> None:
    """A row for each contender, and the ratios that have to hold. Who gives writes is not asked for a line that is made of many."""
    rows = {who: {column: _ask(bench, who, task) for task, column in TASKS.items() if _asked(who, task)} for who in CONTENDERS}
    rates = alternate({who: partial(_ask, bench, who, "rate") for who in CONTENDERS}, ROUNDS)
    seconds = {who: [1 / _number(rate) for rate in each] for who, each in rates.items()}
    for who, row in rows.items():
        report.row(contender=CONTENDERS[who], **row, true_per_s=1 / median(seconds[who]))
    for who in OURS:
        if rows[who]["order_breaks"] != 0:
            raise WrongOutputError(f"{CONTENDERS[who]}: {rows[who]['order_breaks']} breaks of the order")
    for who in OURS:
        report.ratio(f"{CONTENDERS[who]}: peak RSS / {PEAK_MIB:g} MiB", [_number(rows[who]["peak_rss_mib"])], [PEAK_MIB], at_most=1)
    report.ratio("1,000 runs of true, 32 at once: dtee_async.run / asyncio, time", seconds["run"], seconds["asyncio"], at_most=1)


def _asked(who: str, task: str) -> bool:
    return not (task == "line" and who in ("open_job-writes", "run"))


def _number(answer: Answer) -> float:
    if isinstance(answer, str):
        raise WrongOutputError(f"expected a number, got {answer}")
    return answer


def _ask(bench: Bench, who: str, task: str) -> Answer:
    """What came of it: a number, a word, or the name of an error."""
    argv = bench.python("library_contender.py", who, task, bench.folder, "0.1" if bench.quick else "1")
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=clean_environment(), start_new_session=True)
    try:
        printed, said = process.communicate(timeout=BOUND_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"not done in {BOUND_S:g} s"
    if process.returncode:
        raise WrongOutputError(f"{who} at {task}: ended with status {process.returncode}: {said.decode(errors='replace')[-500:]}")
    answer: Answer = json.loads(printed)
    return answer
