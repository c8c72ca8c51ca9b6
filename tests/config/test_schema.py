"""The JSON Schema for editors: it accepts what is right and refuses what is wrong, as load() does."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import fastjsonschema
import pytest

from dtee_async.config.schema import schema
from dtee_async.config.tables import JobsTable, JobTable
from dtee_async.core.capture import MODES
from dtee_async.core.policy import Condition, Restart

ROOT = Path(__file__).parent.parent.parent
ACCEPT = fastjsonschema.compile(schema(), use_default=False)

EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").rglob("*.toml"))]
README = re.findall(r"^```toml\n(# jobs\.toml\n.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def parts(value):
    """All tables of a schema."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(inner)


def table(name):
    return next(part for part in parts(schema()) if part.get("title") == name and "properties" in part)


def test_there_are_examples():
    assert EXAMPLES
    assert README


@pytest.mark.parametrize("content", [*EXAMPLES, *README])
def test_the_examples_are_accepted(content):
    ACCEPT(tomllib.loads(content))


@pytest.mark.parametrize(
    "line",
    [
        'command = ["a", "b"]',
        'env_file = ["a", "b"]',
        "environment = {A = 1, B = 0.5, C = 'c'}",
        "depends_on = ['db']",
        "depends_on.db = {}",
        "depends_on.db.condition = 'process_log_ready'",
        "limits = {nofile = [1, 'unlimited'], core = 0, as = 'unlimited'}",
        "umask = '022'",
        "umask = 18",
        "readiness_probe.http_get = {port = '80', headers = {A = 1}}",
        "liveness_probe = {tcp.port = 80, period_seconds = 1}",
        "startup_probe.exec = {command = 'a', working_dir = 'b'}",
        "shutdown.signal = 'TERM'",
        "shutdown.signal = 15",
        "availability = {restart = 'unless_stopped', backoff_seconds = 1}",
        "linger_s = 1",
    ],
)
def test_what_is_right_is_accepted(line):
    ACCEPT(tomllib.loads(f"[jobs.web]\n{line}\n[defaults]\n{line}\n"))


@pytest.mark.parametrize(
    "content",
    [
        "job = 3",
        "max_parallel = '4'",
        "[vars]\nA = true",
        "[jobs]\nweb = 3",
        "[jobs.web]\ncomand = 'a'",
        "[defaults]\ncomand = 'a'",
        "[jobs.web]\ncommand = 3",
        "[jobs.web]\nquiet = 1",
        "[jobs.web]\nwait_for = 'ever'",
        "[jobs.web]\nlimits.nofiles = 3",
        "[jobs.web]\nlimits.nofile = 'infinity'",
        "[jobs.web]\ndepends_on.db.condition = 'healthy'",
        "[jobs.web]\navailability.restart = 'never'",
        "[jobs.web]\navailability.restrat = 'no'",
        "[jobs.web]\nreadiness_probe.tcp.port = 1.5",
        "[jobs.web]\nreadiness_probe.http = {}",
    ],
)
def test_what_is_wrong_is_refused(content):
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        ACCEPT(tomllib.loads(content))


def test_each_key_has_its_description_and_no_table_takes_others():
    for part in parts(schema()):
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert part["description"]
            assert [key for key, value in part["properties"].items() if not value.get("description")] == []


def test_the_keys_are_those_of_the_file():
    assert list(table("JobTable")["properties"]) == list(JobTable.__struct_fields__)
    assert list(table("JobsTable")["properties"]) == list(JobsTable.__struct_fields__)


def test_choices_are_told():
    assert table("JobTable")["properties"]["capture"]["enum"] == list(MODES)
    assert table("AvailabilityTable")["properties"]["restart"]["enum"] == [one.value for one in Restart]
    assert table("Dependency")["properties"]["condition"]["enum"] == [one.value for one in Condition]


def test_it_is_json_of_which_the_dialect_is_named_and_there_is_no_null():
    text = json.dumps(schema(), allow_nan=False)
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "null" not in text
