"""Draws the diagram in docs/lifecycle.md from the table in dtee_async/core/lifecycle.py."""

from __future__ import annotations

import re
from pathlib import Path

from dtee_async.core.lifecycle import FIRST, ROWS, State, Step

PAGE = Path(__file__).parent.parent / "docs/lifecycle.md"
BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)


def diagram() -> str:
    """The table as a state diagram of mermaid: an arrow for each two states, with the steps that lead from the one to the other."""
    lines = ["stateDiagram-v2", *(f"    [*] --> {state}" for state in FIRST)]
    for state, row in ROWS.items():
        steps: dict[State, list[Step]] = {}
        for step, target in row.moves.items():
            steps.setdefault(target, []).append(step)
        lines += [f"    {state} --> {target}: {', '.join(each)}" for target, each in steps.items()]
    return "\n".join(lines) + "\n"


def drawn(page: str) -> str:
    """The page with the diagram of now."""
    return BLOCK.sub(lambda _: diagram(), page, count=1)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
