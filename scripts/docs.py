"""Makes docs/options.md from the option table: ``make docs``. As the hooks of mkdocs.yml: gives the site the examples that pages link to.

The hooks are those of https://www.mkdocs.org/dev-guide/plugins/#events.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from dtee_async.cli.options import COPY_ONLY, JOBS_ONLY, ONE_COMMAND_ONLY, OPTIONS, Option

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/options.md"
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")
"""A link from a page to a file of the repository that is no page."""

WITH = {**dict.fromkeys(ONE_COMMAND_ONLY, "one command"), **dict.fromkeys(JOBS_ONLY, "jobs"), **dict.fromkeys(COPY_ONLY, "`-`")}

HEAD = """\
# Options

<!-- Made from dtee_async/cli/options.py by 'make docs': change that. -->

What `dtee-async` understands, from the table in `dtee_async/cli/options.py`, of which `--help`, the manual pages and the
completions are made too. `cronty-async` has those that are marked. "With" says where an option has a meaning; where nothing is
said, that is everywhere.

"""


def options_page() -> str:
    """The option table in Markdown."""
    rows = [_row(option) for option in OPTIONS]
    return HEAD + tabulate(rows, headers=["option", "meaning", "values", "with", "cronty-async"], tablefmt="github") + "\n"


def _row(option: Option) -> list[str]:
    argument = f"={option.metavar}" if option.metavar else ""
    spelling = f"`-{option.short}`, " if option.short else ""
    more = "; any number of times" if option.repeats and "again" not in option.help else ""
    return [
        f"{spelling}`--{option.long}{argument}`",
        option.help + more,
        ", ".join(f"`{choice}`" for choice in option.choices),
        WITH.get(option.key, ""),
        "yes" if option.cronty else "",
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside of docs/."""
    from mkdocs.structure.files import File

    linked = {path for page in files.documentation_pages() for path in OUTSIDE.findall(page.content_string)}
    for path in sorted(linked):
        if (ROOT / path).is_file():  # or else mkdocs says that there is no such file
            files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Have such links lead to the copies."""
    return OUTSIDE.sub(r"](repository/\1", markdown)


if __name__ == "__main__":
    PAGE.write_text(options_page())
