"""The table at the end of a run of jobs: its columns, whom it shows, and the same as the fields of events."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from dtee_async.cli.summary import MANY, fields, summary, went_well
from dtee_async.core.lifecycle import State
from dtee_async.output.count import Counts
from dtee_async.supervisor.house import Tally


def job(name, state=State.COMPLETED, restarts=0, out_bytes=0, err_bytes=0, **tally):
    """A service as far as the summary looks at it, and what it has written."""
    counts = Counts()
    counts.out_bytes, counts.err_bytes = out_bytes, err_bytes
    status = None if state in (State.SKIPPED, State.DISABLED) else 0
    service = SimpleNamespace(spec=SimpleNamespace(name=name), state=state, restarts=restarts, tally=Tally(**{"status": status} | tally))
    return service, counts


def shown(*jobs, colour=False):
    services = [service for service, _ in jobs]
    return summary(services, {service.spec.name: counts for service, counts in jobs}, colour=colour)


WEB = job("web", State.FAILED, 2, 1_234_567, 42, status=3, duration_s=12.345, cpu_s=0.126, max_rss_bytes=9_990_000)
DB = job("database", State.COMPLETED, 0, 0, 0, duration_s=3725.4, cpu_s=100, max_rss_bytes=123_400_000)


def cells(text):
    return [re.split(" {2,}", line) for line in text.splitlines()]


def test_the_table_has_a_row_for_each_job_with_what_it_has_used():
    assert cells(shown(WEB, DB, job("mail", State.SKIPPED))) == [
        ["job", "state", "status", "restarts", "time", "CPU", "memory", "out", "err"],
        ["web", "Failed", "3", "2", "12.35 s", "0.13 s", "9.99 MB", "1.23 MB", "42 B"],
        ["database", "Completed", "0", "0", "1:02:05", "0:01:40", "123 MB", "0 B", "0 B"],
        ["mail", "Skipped"],
    ]


def test_words_stand_on_the_left_and_numbers_on_the_right():
    header, web, database = shown(WEB, DB).splitlines()
    assert header.index("state") == web.index("Failed") == database.index("Completed")
    assert header.index("restarts") + len("restarts") == web.index(" 2 ") + 2 == web.index("12.35 s") - 2
    assert len(header) == len(web) == len(database)


def test_without_colour_there_is_no_escape_sequence_and_with_it_only_those():
    jobs = [WEB, DB, job("mail", State.SKIPPED), job("old", State.DISABLED)]
    coloured = shown(*jobs, colour=True)
    assert "\x1b" not in shown(*jobs)
    assert "\x1b[31mweb" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == shown(*jobs).splitlines()


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "a b", "1e3", "x" * 100, "\N{SNOWMAN}", "x:warning:"])
def test_a_name_is_shown_as_it_is(name):
    assert cells(shown(job(name)))[1][:2] == [name, "Completed"]


def test_a_name_as_long_as_a_name_can_be_hides_nothing():
    big = {"out_bytes": 123_000_000, "err_bytes": 123_000_000, "duration_s": 1e6, "cpu_s": 1e6, "max_rss_bytes": 123_000_000}
    found = shown(job("x" * 100, State.TERMINATING, 100_000, **big)).splitlines()
    assert len(found) == 2
    assert found[1].split() == ["x" * 100, "Terminating", "0", "100000", "277:46:40", "277:46:40", *["123", "MB"] * 3]


def test_of_many_jobs_only_those_are_shown_that_did_not_simply_complete():
    good = [job(f"j{number}") for number in range(MANY - 1)]
    assert len(shown(*good, WEB).splitlines()) == 1 + MANY
    found = shown(*good, WEB, job("again", restarts=1), job("mail", State.SKIPPED)).splitlines()
    assert [line.split()[0] for line in found] == ["job", "web", "again", "mail", str(MANY - 1)]
    assert found[-1] == f"{MANY - 1} jobs completed"
    assert shown(*good, job("a"), job("b")) == f"{MANY + 1} jobs completed\n"
    assert shown(*[WEB] * MANY, job("good")).splitlines()[-1] == "1 job completed"


@pytest.mark.parametrize(
    ("service", "well"),
    [(job("a"), True), (job("a", restarts=1), False), (job("a", State.FAILED), False), (job("a", State.SKIPPED), False)],
)
def test_who_completed_at_once_needs_no_words(service, well):
    assert went_well(service[0]) is well


def test_the_fields_of_an_event_say_the_same_with_units_in_their_names():
    assert fields(*WEB) == {
        "job": "web",
        "state": "Failed",
        "status": 3,
        "restarts": 2,
        "duration_s": 12.345,
        "cpu_s": 0.126,
        "max_rss_bytes": 9_990_000,
        "out_bytes": 1_234_567,
        "err_bytes": 42,
    }
    assert fields(*job("mail", State.SKIPPED))["status"] is None
