"""Owns the command line of the benchmarks: `python -m benchmarks [--quick] [NAME]...`; without names, all of them."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # for `python benchmarks`

from benchmarks.common import Bench, WrongOutputError
from benchmarks.report import Report, machine, save, table

NAMES = ("write_cost", "turnstile", "naive", "many_jobs", "startup", "memory", "spawn", "thousand", "crowd", "library")


def main() -> int:
    """Run them; 1 if an output was wrong. Slowness is shown and never fails: the machine is not ours alone."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="make everything ten times smaller")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    begin = time.monotonic()
    before = machine()
    reports = []
    with tempfile.TemporaryDirectory(prefix="dtee-async-benchmarks-") as folder:
        bench = Bench(folder, quick=arguments.quick)
        for name in arguments.names or NAMES:
            reports.append(_measure(name, bench))
            reports[-1].show()
            save(name, reports[-1].as_json())
    save("all", [report.as_json() for report in reports])
    ratios = [ratio for report in reports for ratio in report.ratios]
    print(f"\nall ratios, {time.monotonic() - begin:.0f} s in all\n\n{table(ratios)}\n\n{table([before, machine()])}")
    wrong = [report for report in reports if report.wrong]
    for report in wrong:
        print(f"WRONG OUTPUT in {report.name}: {report.wrong}")
    return 1 if wrong else 0


def _measure(name: str, bench: Bench) -> Report:
    module = importlib.import_module(f"benchmarks.{name}")
    report = Report(name, module.TITLE)
    try:
        module.measure(bench, report)
    except WrongOutputError as error:
        report.wrong = str(error)
    return report


if __name__ == "__main__":
    sys.exit(main())
