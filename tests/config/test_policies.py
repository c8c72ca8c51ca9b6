"""The keys that say how a job is kept: the values that they become, and what is said when they are wrong."""

from __future__ import annotations

import signal

import pytest

from dtee_async.config.jobsfile import load
from dtee_async.core.policy import (
    AVAILABILITY,
    HEALTH,
    PRIVILEGES,
    SHUTDOWN,
    Availability,
    Condition,
    ExecCheck,
    HttpCheck,
    Privileges,
    Probe,
    Restart,
    Shutdown,
    TcpCheck,
)
from dtee_async.errors import ConfigError

WEB = '[jobs.web]\ncommand = "true"\n'
OTHERS = '[jobs.db]\ncommand = "true"\nready_log_line = "up"\nsd_notify = true\n[jobs.cache]\ncommand = "true"\n'


@pytest.fixture
def job(tmp_path):
    """The job web with these lines in its table."""

    def load_job(lines, others=""):
        path = tmp_path / "jobs.toml"
        path.write_text(WEB + lines + "\n" + others)
        return load([str(path)], {"HOME": "/root"}).jobs[0]

    return load_job


@pytest.fixture
def wrong(job, tmp_path):
    """What is said about these lines, after the file and the job."""

    def load_and_fail(lines, others=""):
        with pytest.raises(ConfigError) as caught:
            job(lines, others)
        begin, text = f"{tmp_path}/jobs.toml: jobs.web.", str(caught.value)
        assert text.startswith(begin)
        return text.removeprefix(begin)

    return load_and_fail


# What nothing is said about.


def test_a_job_of_which_nothing_is_said_has_the_very_values_that_all_of_those_have(job):
    spec = job("")
    assert (spec.depends_on, spec.description, spec.disabled, spec.success_exit_codes) == ({}, "", False, (0,))
    assert spec.availability is AVAILABILITY
    assert spec.shutdown is SHUTDOWN
    assert spec.health is HEALTH
    assert spec.privileges is PRIVILEGES


def test_what_a_job_is_for_and_whether_it_is_started(job):
    spec = job('description = "the site"\ndisabled = true\nsuccess_exit_codes = [0, 143]')
    assert (spec.description, spec.disabled, spec.success_exit_codes) == ("the site", True, (0, 143))


@pytest.mark.parametrize(("code", "said"), [("256", "got 256"), ("-1", "got -1")])
def test_an_exit_status_that_there_is_not(wrong, code, said):
    assert wrong(f"success_exit_codes = [0, {code}]") == f"success_exit_codes: expected numbers from 0 to 255, {said}"


# Dependencies.


def test_a_list_waits_for_each_to_be_started(job):
    assert job('depends_on = ["db", "cache"]', OTHERS).depends_on == {"db": Condition.STARTED, "cache": Condition.STARTED}


@pytest.mark.parametrize("condition", Condition)
def test_each_condition_has_its_name(job, condition):
    assert job(f'depends_on.db.condition = "{condition.value}"', OTHERS).depends_on == {"db": condition}


def test_a_dependency_without_a_condition_waits_for_the_start(job):
    assert job("depends_on.db = {}", OTHERS).depends_on == {"db": Condition.STARTED}


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('depends_on = ["dbs"]', "depends_on.dbs: no job has this name; did you mean db?"),
        ('depends_on = ["web"]', "depends_on.web: a job cannot wait for itself"),
        ('depends_on = ["db", 3]', "depends_on[1]: expected string, got integer"),
        ('depends_on.db = "process_started"', "depends_on.db: expected table, got string"),
        ("depends_on.db.condition = 3", "depends_on.db.condition: expected string, got integer"),
        ('depends_on.db.when = "x"', "depends_on.db.when: unknown key; known keys: condition"),
        ('depends_on.cache.condition = "process_healthy"', "depends_on.cache: process_healthy can never come true: cache has no probe"),
    ],
)
def test_a_dependency_that_cannot_be(wrong, lines, text):
    assert wrong(lines, OTHERS).startswith(text)


def test_a_condition_with_a_typo_is_told_the_right_one(wrong):
    text = wrong('depends_on.db.condition = "process_healty"', OTHERS)
    assert text.startswith("depends_on.db.condition: expected one of process_started, process_healthy, ")
    assert text.endswith("got 'process_healty'; did you mean process_healthy?")


# Health.


def test_the_ways_to_say_that_one_is_ready(job):
    health = job('ready_log_line = "^listening$"\nsd_notify = true\nwatchdog_seconds = 3\nnotification_fd = 3').health
    assert (health.ready_log_line, health.sd_notify, health.watchdog_seconds, health.notification_fd) == ("^listening$", True, 3.0, 3)


def test_a_probe_has_the_field_s_defaults(job):
    health = job("startup_probe.tcp.port = 80").health
    assert (health.startup_probe, health.readiness_probe, health.liveness_probe) == (Probe(TcpCheck(80, "127.0.0.1")), None, None)
    assert health.startup_probe == Probe(TcpCheck(80, "127.0.0.1"), 0.0, 10.0, 1.0, 1, 3)


def test_a_probe_is_what_its_table_says(job):
    lines = "tcp = {host = '::1', port = 5432}\ninitial_delay_seconds = 1\nperiod_seconds = 2\ntimeout_seconds = 3\n"
    spec = job(f"[jobs.web.readiness_probe]\n{lines}success_threshold = 4\nfailure_threshold = 5")
    assert spec.health.readiness_probe == Probe(TcpCheck(5432, "::1"), 1.0, 2.0, 3.0, 4, 5)


def test_a_command_probes_where_the_job_runs_or_where_it_says(job, tmp_path):
    (tmp_path / "srv").mkdir()
    assert job('liveness_probe.exec.command = "a $B"').health.liveness_probe == Probe(ExecCheck("a $B"))
    spec = job('liveness_probe.exec = {command = ["a", "b"], working_dir = "srv"}')
    assert spec.health.liveness_probe == Probe(ExecCheck(["a", "b"], f"{tmp_path}/srv"))


@pytest.mark.parametrize(
    ("table", "url"),
    [
        ("{}", "http://127.0.0.1/"),
        ("{port = 8080}", "http://127.0.0.1:8080/"),
        ('{port = "8080", path = "/a?b=c"}', "http://127.0.0.1:8080/a?b=c"),
        ('{host = "example.org", scheme = "https", path = "/x"}', "https://example.org/x"),
        ('{host = "::1", port = 80}', "http://[::1]:80/"),
    ],
)
def test_a_request_goes_to_its_url(job, table, url):
    assert job(f"readiness_probe.http_get = {table}").health.readiness_probe.check == HttpCheck(url, {})


def test_a_request_has_headers_and_a_status_that_is_right(job):
    check = job("readiness_probe.http_get = {headers = {X-Key = 'a b', N = 3}, status_code = 204}").health.readiness_probe.check
    assert check == HttpCheck("http://127.0.0.1/", {"X-Key": "a b", "N": "3"}, 204)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('ready_log_line = "("', "ready_log_line: not a regular expression: "),
        ('ready_log_line = "[[a]"', "ready_log_line: not a regular expression: "),
        ('ready_log_line = "x{99999999999}"', "ready_log_line: not a regular expression: "),
        (f'ready_log_line = "{"(" * 3000}"', "ready_log_line: not a regular expression: "),
        ("watchdog_seconds = 3", "watchdog_seconds: goes with sd_notify = true"),
        ("notification_fd = 2", "notification_fd: expected a number from 3 to 1000, got 2"),
        ("readiness_probe = {}", "readiness_probe: expected one of exec, http_get, tcp, got none"),
        ("readiness_probe = {tcp.port = 1, exec.command = 'a'}", "readiness_probe: expected one of exec, http_get, tcp, got exec and tcp"),
        (
            "readiness_probe = {tcp.port = 1, period_seconds = 0}",
            "readiness_probe.period_seconds: expected a number of seconds, more than 0",
        ),
        ("startup_probe = {tcp.port = 1, timeout_seconds = nan}", "startup_probe.timeout_seconds: expected a number of seconds"),
        ("liveness_probe = {tcp.port = 1, failure_threshold = 0}", "liveness_probe.failure_threshold: expected 1 or more, got 0"),
        ("readiness_probe.period = 3", "readiness_probe.period: unknown key; did you mean period_seconds?"),
        ("readiness_probe.tcp = {}", "readiness_probe.tcp.port: missing"),
        ("readiness_probe.exec = {}", "readiness_probe.exec.command: missing"),
        ("readiness_probe.tcp.port = 65536", "readiness_probe.tcp.port: expected 1 to 65535, got 65536"),
        ("readiness_probe.tcp.port = '80a'", "readiness_probe.tcp.port: expected 1 to 65535, got 80a"),
        ("readiness_probe.tcp = {port = 1, host = 'a b'}", "readiness_probe.tcp.host: expected the name or address of a host"),
        ("readiness_probe.exec.command = ' '", "readiness_probe.exec.command: expected a command, got an empty one"),
        ("readiness_probe.exec.command = []", "readiness_probe.exec.command: expected a command, got an empty one"),
        ("readiness_probe.exec = {command = 'a', working_dir = 'no'}", "readiness_probe.exec.working_dir: no such directory: "),
        ("readiness_probe.http_get.scheme = 'ftp'", "readiness_probe.http_get.scheme: expected one of http, https, got 'ftp'"),
        ("readiness_probe.http_get.path = 'x'", "readiness_probe.http_get.path: expected a path that begins with a slash"),
        ("readiness_probe.http_get.status_code = 99", "readiness_probe.http_get.status_code: expected 100 to 599"),
        ("readiness_probe.http_get.headers.A = [1]", "readiness_probe.http_get.headers.A: expected "),
        ('readiness_probe.http_get.headers.A = "a\\nb"', "readiness_probe.http_get.headers.A: expected a header"),
        ("readiness_probe.http_get.headers.'a b' = 1", "readiness_probe.http_get.headers.'a b': expected a header"),
    ],
)
def test_a_sign_of_health_that_cannot_be(wrong, lines, text):
    assert wrong(lines).startswith(text)


# Restarts, and the end.


def test_a_restart_policy_is_what_its_table_says(job):
    lines = "restart = 'on_failure'\nbackoff_seconds = 2\nbackoff_max_seconds = 9\nmax_restarts = 3\nrestart_window_seconds = 60\n"
    spec = job(f"[jobs.web.availability]\n{lines}stable_seconds = 5\nexit_on_end = true")
    assert spec.availability == Availability(Restart.ON_FAILURE, 2.0, 9.0, 3, 60.0, 5.0, exit_on_end=True)


@pytest.mark.parametrize("restart", Restart)
def test_each_restart_policy_has_its_name(job, restart):
    assert job(f'availability.restart = "{restart.value}"').availability == Availability(restart)


@pytest.mark.parametrize(
    ("written", "number"),
    [('"TERM"', signal.SIGTERM), ('"SIGINT"', signal.SIGINT), ('"hup"', signal.SIGHUP), ("9", 9), ('"RTMIN"', signal.SIGRTMIN)],
)
def test_a_signal_has_a_name_or_a_number(job, written, number):
    assert job(f"shutdown.signal = {written}").shutdown == Shutdown(number)


def test_a_shutdown_is_what_its_table_says(job):
    spec = job("shutdown = {signal = 'INT', timeout_seconds = 3, command = 'stop $$', parent_only = true}")
    assert spec.shutdown == Shutdown(signal.SIGINT, 3.0, "stop $$", parent_only=True)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('availability.restart = "allways"', "availability.restart: expected one of no, on_failure, always, "),
        ("availability.restart = false", "availability.restart: expected string, got boolean"),
        ("availability.backoff_seconds = -1", "availability.backoff_seconds: expected a number of seconds, 0 or more, got -1"),
        ("availability.backoff_max_seconds = 0.5", "availability.backoff_max_seconds: expected at least backoff_seconds, 1"),
        ("availability.max_restarts = -1", "availability.max_restarts: expected 0 (no limit) or more, got -1"),
        ("availability.backof_seconds = 1", "availability.backof_seconds: unknown key; did you mean backoff_seconds?"),
        ('shutdown.signal = "TREM"', "shutdown.signal: expected the number or name of a signal, got 'TREM'; did you mean TERM?"),
        ("shutdown.signal = 0", "shutdown.signal: expected the number or name of a signal, got 0"),
        ("shutdown.signal = 9999999999999999999999", "shutdown.signal: expected the number or name of a signal, got 99999"),
        ("shutdown.timeout_seconds = inf", "shutdown.timeout_seconds: expected a number of seconds, 0 or more, got inf"),
        ("shutdown.command = ['a']", "shutdown.command: expected string, got list"),
    ],
)
def test_an_end_that_cannot_be(wrong, lines, text):
    assert wrong(lines).startswith(text)


# Privileges.


def test_privileges_are_what_the_keys_say(job):
    spec = job('user = "www-data"\ngroup = 33\numask = "027"\nnice = -5\nlimits = {nofile = [10, "unlimited"], core = 0, as = "unlimited"}')
    assert spec.privileges == Privileges("www-data", 33, 0o27, -5, {"nofile": (10, -1), "core": (0, 0), "as": (-1, -1)})


def test_a_umask_may_be_an_integer_of_toml(job):
    assert job("umask = 0o022").privileges == Privileges(umask=0o22)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('umask = "028"', 'umask: expected octal digits, such as "022", got '),
        ("umask = 512", "umask: expected 0 to 0o777, got 0o1000"),
        ("nice = 20", "nice: expected -20 to 19, got 20"),
        ('user = ""', "user: expected a name or a number from 0 to 4294967294, got ''"),
        ("group = -1", "group: expected a name or a number from 0 to 4294967294, got -1"),
        ("limits.nofiles = 3", "limits.nofiles: no such limit; did you mean nofile?"),
        ("limits.xyz = 3", "limits.xyz: no such limit; there are: as, core, cpu, "),
        ("limits.nofile = true", "limits.nofile: expected "),
        ("limits.nofile = -1", "limits.nofile: expected a number, "),
        ("limits.nofile = 'infinity'", "limits.nofile: expected a number, "),
        ("limits.nofile = [1, 2, 3]", "limits.nofile: expected a number, "),
        ("limits.nofile = [2, 1]", "limits.nofile: expected a soft limit that is not above the hard one, got [2, 1]"),
        ("limits.nofile = ['unlimited', 1]", "limits.nofile: expected a soft limit that is not above the hard one"),
        ("limits.nofile = [1, 1.5]", "limits.nofile[1]: expected integer or string, got float"),
    ],
)
def test_privileges_that_cannot_be(wrong, lines, text):
    assert wrong(lines).startswith(text)
