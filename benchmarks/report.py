"""Owns the results: rows and ratios, as a plain text table and as JSON in benchmarks/out/."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from .common import HERE

OUT = os.path.join(HERE, "out")


class Report:
    """The results of one benchmark."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.rows: list[dict[str, Any]] = []
        self.ratios: list[dict[str, Any]] = []
        self.wrong = ""

    def row(self, **columns: Any) -> None:
        """One line of the table; a column's name carries its unit."""
        self.rows.append(columns)

    def ratio(self, what: str, ours: Sequence[float], others: Sequence[float], *, at_most: float | None = None) -> None:
        """How ours compares with another, by medians and by minima; below 1 is better. ``at_most``: what it has to be."""
        by_median, by_minimum = median(ours) / median(others), min(ours) / min(others)
        verdict = "" if at_most is None else f"{'yes' if by_median <= at_most else 'NO'}: at most {at_most:g}"
        self.ratios.append({"benchmark": self.name, "what": what, "medians": by_median, "minima": by_minimum, "must": verdict})

    def show(self) -> None:
        """Print everything."""
        print(f"\n{self.name}: {self.title}\n")
        print(table(self.rows))
        if self.ratios:
            print(f"\n{table(self.ratios)}")
        if self.wrong:
            print(f"\nWRONG OUTPUT: {self.wrong}")
        sys.stdout.flush()

    def as_json(self) -> dict[str, Any]:
        """Everything, and where it was measured."""
        return {"name": self.name, "title": self.title, "machine": machine(), "rows": self.rows, "ratios": self.ratios, "wrong": self.wrong}


def save(name: str, value: object) -> None:
    """Write benchmarks/out/NAME.json."""
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Plain text in columns: words to the left, numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    words = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    lines = []
    for line in cells:
        parts = [cell.ljust(width) if word else cell.rjust(width) for cell, width, word in zip(line, widths, words, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return str(value)
