"""docs/jobs.md names every key of a jobs file, each with its default and its unit, and no other."""

import re
from pathlib import Path

import msgspec
import pytest

from dtee_async.config import tables
from dtee_async.core.policy import FOREVER, Condition, Restart

PAGE = (Path(__file__).parent.parent.parent / "docs" / "jobs.md").read_text()

SECTIONS = {
    "## The file": tables.JobsTable,
    "## A job": tables.JobTable,
    "## Dependencies": tables.Dependency,
    "## Probes": tables.ProbeTable,
    "### `exec`": tables.Exec,
    "### `http_get`": tables.HttpGet,
    "### `tcp`": tables.Tcp,
    "## Restarts": tables.AvailabilityTable,
    "## The stop": tables.ShutdownTable,
}

ROW = re.compile(r"\| `(?P<key>\w+)` \| (?P<value>[^|]+) \| (?P<default>[^|]+) \| (?P<meaning>[^|]+) \|")


def rows(heading):
    """The rows of the tables under a heading that have four columns, up to the next section that has a Struct, or that is as high."""
    rest = PAGE.split(f"\n{heading}\n", 1)[1]
    level = heading.split(" ")[0]
    ends = [*(f"\n{other}\n" for other in SECTIONS), *(f"\n{marks} " for marks in ("##", "#") if len(marks) <= len(level))]
    section = rest[: min([place for end in ends if (place := rest.find(end)) >= 0], default=len(rest))]
    return [match for line in section.splitlines() if (match := ROW.fullmatch(line))]


def is_required(field):
    return "required: " in str(field.type)


def default_of(field):
    """As the page has it."""
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if is_required(field):
        return "required"
    if default in (None, "", [], {}, FOREVER) or isinstance(default, msgspec.Struct):
        return "-"
    match default:
        case bool():
            return str(default).lower()
        case str():
            return f'"{default}"'
        case tuple():
            return str(list(default))
        case _:
            return f"{default:g}"


@pytest.mark.parametrize(("heading", "table"), SECTIONS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_page_has_every_key_with_its_default_and_its_unit(heading, table):
    found = {row["key"]: (row["default"], is_time(row["value"]), row["value"] == "true or false") for row in rows(heading)}
    fields = msgspec.structs.fields(table)
    assert found == {field.name: (default_of(field), field.name.endswith(("_s", "_seconds")), is_yes_or_no(field)) for field in fields}
    assert len(rows(heading)) == len(fields), "a key stands there twice"


def is_time(value):
    return value == "seconds"


def is_yes_or_no(field):
    return field.type is bool or getattr(field.type, "__origin__", None) is bool


@pytest.mark.parametrize("word", [*Condition, *Restart, *tables.SCHEMES])
def test_the_page_has_every_word_that_a_value_can_be(word):
    assert f"`{word}`" in PAGE
