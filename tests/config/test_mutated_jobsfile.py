"""A jobs file with every key in it, spoiled in thousands of ways: jobs, which the schema accepts too, or one error that names the file and the key.

MUTATIONS in the environment says how many ways (2000).
"""

from __future__ import annotations

import os
import random
import re
import tomllib

import fastjsonschema
import pytest

from dtee_async.config.jobsfile import JobsFile, load
from dtee_async.config.schema import schema
from dtee_async.config.tables import AvailabilityTable, HttpGet, JobsTable, JobTable, ProbeTable, ShutdownTable
from dtee_async.config.wrong import key
from dtee_async.errors import ConfigError

MUTATIONS = int(os.environ.get("MUTATIONS", "2000"))
ACCEPT = fastjsonschema.compile(schema(), use_default=False)
ENVIRONMENT = {"HOME": "/root", "PATH": "/bin", "LATIN": "caf\udce9"}

DOCUMENT = """\
include = ["more/base.toml"]
max_parallel = 4

[vars]
PORT = "${PORT:-8080}"
LOGS = "."

[defaults]
out_append = "${LOGS}/${JOB_NAME}.out"
environment = { LANG = "C", DEBUG = 0, RATIO = 0.5 }
availability = { backoff_seconds = 0.5, backoff_max_seconds = 30 }
liveness_probe.period_seconds = 3

[jobs.web]
command = ["serve", "--port", "${PORT}", "$$"]
description = "what one looks at"
working_dir = "srv"
env_file = "web.env"
replicas = 2
depends_on.db.condition = "process_healthy"
depends_on.migrate = { condition = "process_completed_successfully" }
readiness_probe.http_get = { host = "127.0.0.1", port = "${PORT}", path = "/health", scheme = "http", headers = { A = 1 }, status_code = 200 }
liveness_probe = { tcp = { port = 80 }, initial_delay_seconds = 1, timeout_seconds = 2, success_threshold = 1, failure_threshold = 2 }
availability.restart = "on_failure"
availability.max_restarts = 5
availability.restart_window_seconds = 60
shutdown = { signal = "INT", timeout_seconds = 3, parent_only = true }
user = "www-data"
group = 33
umask = "022"
nice = 5
limits = { nofile = [1024, "unlimited"], core = 0, as = "unlimited" }
capture = "pipe"
wait_for = "writers"
linger_s = 1.5

[jobs.db]
command = "exec postgres -D $DATA"
startup_probe.exec = { command = "pg_isready", working_dir = "srv" }
sd_notify = true
watchdog_seconds = 3.5
notification_fd = 4
availability = { restart = "always", stable_seconds = 5, exit_on_end = false }
shutdown.command = "pg_ctl stop"
die_with_supervisor = false
combined_overwrite = ["db.log", "/dev/null"]

[jobs.migrate]
command = "migrate"
depends_on = ["db"]
success_exit_codes = [0, 3]
quiet = true

[jobs.tail]
command = "tail -F x"
ready_log_line = "^listening on [0-9]+$"
disabled = true
capture = "pty"
interactive = true
err_overwrite = "tail.err"
"""

INCLUDED = '[defaults]\nquiet = false\n[jobs.extra]\ncommand = "true"\nenv_file = "base.env"\n'

VALUES = [
    "3", "-1", "0", "1.5", "-0.0", "nan", "inf", "-inf", "1e400", "1" * 40, "1" * 4400, "0x" + "f" * 5000, "true", "2024-02-29", "07:32:00",
    "1979-05-27T07:32:00Z", '""', '" "', '"x"', '"a\\u0000b"', '"\\ud800"', '"é"', "'''\n'''", '"always"', '"process_completed"', '"db"',
    '"${PORT}"', '"${NOPE}"', '"${LATIN}"', '"${"', '"${A:-${B}}"', '"${JOB_REPLICA}"', '"$$"', '"/"', '"srv"', '"nope/x"', '"jobs.toml"',
    '"("', '"[[a]"', '"x{99999999999}"', '"' + "(" * 3000 + '"', '"' + "x" * 5000 + '"', "[]", "[[]]", "{}", '["db"]', '["a", 3]', "[0, 300]",
    '{ condition = "x" }', "{ nofile = -2 }", "{ port = 70000 }", "{ a = { a = { a = 1 } } }", "[" * 100 + "]" * 100, "[" * 3000,
    "{" + ".".join("a" * 300) + " = 1 }",
]  # fmt: skip
KEYS = sorted({*JobTable.__struct_fields__, *JobsTable.__struct_fields__, *ProbeTable.__struct_fields__, *HttpGet.__struct_fields__,
               *AvailabilityTable.__struct_fields__, *ShutdownTable.__struct_fields__, "condition", "'a b'", '""', "PORT", "JOB_NAME", "nofile"})  # fmt: skip
NOISE = "[]{}=.,\"'\\#\n\r\t\0\x1b\x7f$:- 0xé\ufeff\u2028\U0001f600"

_VALUE = re.compile(r"(?<== )(?:\[[^\]\n]*\]|\{[^\n]*\}|[^\n,}]+)|\"[^\"\n]*\"|\b\d[\d.]*\b")
_KEY = re.compile(r"[\w-]+(?=(?:\.[\w.]+)? = )|(?<=\.)[\w-]+(?=\])|(?<=\[)[a-z]+")


def cut(text, chance):
    start = chance.randrange(len(text))
    return start, min(len(text), start + chance.choice((1, 1, 2, 5, 20, 100)))


def mutated(text, chance):
    what = chance.choice(("value", "value", "value", "value", "key", "key", "swap", "line", "delete", "duplicate", "noise"))
    if what in ("value", "key"):
        found = list((_VALUE if what == "value" else _KEY).finditer(text))
        if found:
            match = chance.choice(found)
            return text[: match.start()] + chance.choice(VALUES if what == "value" else KEYS) + text[match.end() :]
    if what == "swap":
        first, second = sorted(chance.sample(list(_VALUE.finditer(text)), 2), key=lambda match: match.start())
        if first.end() <= second.start():
            return text[: first.start()] + second[0] + text[first.end() : second.start()] + first[0] + text[second.end() :]
    if what == "line":
        lines = text.splitlines(keepends=True)
        here = chance.randrange(len(lines))
        line = lines.pop(here)
        if chance.random() < 0.5:
            lines.insert(chance.randrange(len(lines)), line)
        return "".join(lines)
    start, end = cut(text, chance)
    if what == "delete":
        return text[:start] + text[end:]
    if what == "duplicate":
        return text[:end] + text[start:end] + text[end:]
    return text[:start] + "".join(chance.choices(NOISE, k=chance.choice((1, 1, 1, 3)))) + text[start + chance.choice((0, 1)) :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("jobs")
    for name in ("srv", "more"):
        (made / name).mkdir()
    (made / "web.env").write_text("A=1\n")
    (made / "more" / "base.env").write_text("B=1\n")
    (made / "more" / "base.toml").write_text(INCLUDED)
    return made


def fault(folder, content):
    """What load() did wrong with this content; empty: nothing. And what it said."""
    path = folder / "jobs.toml"
    path.write_bytes(content.encode())
    try:
        loaded = load([str(path)], ENVIRONMENT)
    except ConfigError as error:
        text = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault that is looked for
        return f"{type(error).__name__}: {error}", ""
    else:
        ACCEPT(tomllib.loads(content))
        return ("" if isinstance(loaded, JobsFile) and loaded.jobs else "no jobs"), ""
    named = next((name for name in (str(path), f"{folder}/more/base.toml", f"{folder}/web.env") if text.startswith(f"{name}: ")), None)
    if named is None:
        return f"does not name the file: {text}", text
    if named != str(path):
        return "", text
    try:
        document = tomllib.loads(content)
    except (ValueError, RecursionError):
        return "", text
    begins = {key((name,)) for name in (*document, "jobs")}
    said = text.removeprefix(f"{named}: ")
    return ("" if any(re.match(rf"{re.escape(begin)}(\.|\[|: )", said) for begin in begins) else f"names no key: {text}"), text


def test_the_document_that_is_mutated_is_right(folder):
    assert fault(folder, DOCUMENT) == ("", "")


@pytest.mark.timeout(60 + MUTATIONS / 20)
def test_a_spoiled_file_gives_jobs_or_an_error_that_names_file_and_key(folder):
    said = []
    for seed in range(MUTATIONS):
        chance = random.Random(seed)
        content = DOCUMENT
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            content = mutated(content, chance)
        wrong, text = fault(folder, content)
        assert not wrong, f"seed {seed}: {wrong[:500]}"
        said.append(re.sub(r"\d+|'.*?'", "", text.replace(str(folder), ""))[:80])
    assert said.count("") > MUTATIONS // 20, "hardly any was accepted: the mutations are too strong to reach what is behind the first check"
    assert len(set(said)) > MUTATIONS // 40, "hardly any different error: the mutations are too weak"
