"""Several files, [defaults], variables and replicas: which jobs come of it, and which file and key an error names."""

from __future__ import annotations

import os
import re
import subprocess
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.config.jobsfile import MAX_REPLICAS, load
from dtee_async.config.variables import expand
from dtee_async.config.wrong import WrongError
from dtee_async.core.policy import Condition, Probe, TcpCheck
from dtee_async.errors import ConfigError

WEB = '[jobs.web]\ncommand = "true"\n'
DB = '[jobs.db]\ncommand = "true"\n'


@pytest.fixture
def write(tmp_path):
    """Write files, ``name=content`` with __ for a slash; the folder."""

    def write_files(**files):
        for name, content in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write_files


@pytest.fixture
def load_all(tmp_path):
    """Load files of tmp_path by their names without .toml."""

    def load_files(*names, **environment):
        return load([f"{tmp_path}/{name}.toml" for name in names or ("jobs",)], environment)

    return load_files


@pytest.fixture
def job(write, load_all):
    """The first job of a content."""

    def load_first(content, **environment):
        write(jobs=content)
        return load_all(**environment).jobs[0]

    return load_first


@pytest.fixture
def wrong(tmp_path, load_all):
    """What is said of these files, the folder left out."""

    def load_and_fail(*names, **environment):
        with pytest.raises(ConfigError) as caught:
            load_all(*names, **environment)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return load_and_fail


def names(loaded):
    return [spec.name for spec in loaded.jobs]


# Several files.


def test_a_later_file_adds_jobs_and_wins_key_by_key(write, load_all):
    write(
        base=WEB + 'quiet = true\nenvironment = {A = 1, B = 1}\navailability = {restart = "always", max_restarts = 3}\n' + DB,
        more='[jobs.web]\nquiet = false\nenvironment.B = 2\navailability.max_restarts = 5\n[jobs.mail]\ncommand = "mail"\n',
    )
    loaded = load_all("base", "more")
    web = loaded.jobs[0]
    assert names(loaded) == ["web", "db", "mail"]
    assert (web.quiet, web.environment) == (False, {"A": "1", "B": "2"})
    assert (web.availability.restart, web.availability.max_restarts) == ("always", 5)


def test_a_list_replaces_a_list(write, load_all):
    write(base=WEB + 'out_append = ["a", "b"]\n', more="[jobs.web]\nout_append = ['c']\n")
    assert [os.path.basename(file.path) for file in load_all("base", "more").jobs[0].outputs] == ["c"]


def test_paths_are_relative_to_the_file_that_says_them_and_a_job_runs_where_its_command_is_written(write, load_all, tmp_path):
    write(
        base__jobs=WEB + 'out_append = "out.log"\nerr_append = "err.log"\nliveness_probe.exec = {command = "x", working_dir = "."}\n',
        more__jobs="[jobs.web]\nerr_append = 'err.log'\nenv_file = 'web.env'\n",
    )
    (tmp_path / "more" / "web.env").write_text("A=1\n")
    (spec,) = load_all("base/jobs", "more/jobs").jobs
    assert spec.working_dir == f"{tmp_path}/base"
    assert [file.path for file in spec.outputs] == [f"{tmp_path}/base/out.log", f"{tmp_path}/more/err.log"]
    assert spec.health.liveness_probe.check.working_dir == f"{tmp_path}/base/."
    assert spec.environment == {"A": "1"}


def test_how_many_run_at_once_is_said_by_the_last_who_says_it(write, load_all):
    write(a="max_parallel = 4\n" + WEB, b=DB)
    assert load_all("a", "b").max_parallel == 4
    assert load_all("b").max_parallel == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [("-1", "expected 0 (no limit) or more, got -1"), ("'4'", "expected integer, got string"), ("true", "expected integer, got boolean")],
)
def test_a_number_of_jobs_at_once_that_cannot_be(write, wrong, value, text):
    write(jobs=f"max_parallel = {value}\n" + WEB)
    assert wrong() == f"jobs.toml: max_parallel: {text}"


def test_what_a_later_file_replaces_has_to_be_right_too(write, wrong):
    write(a=WEB + "quiet = 'yes'\n", b="[defaults]\nstartup_probe.period_secs = 3\n[jobs.web]\nquiet = true\n")
    assert wrong("b", "a") == "b.toml: defaults.startup_probe.period_secs: unknown key; did you mean period_seconds?"
    write(b="[jobs.web]\nquiet = true\n")
    assert wrong("a", "b") == "a.toml: jobs.web.quiet: expected boolean, got string"


def test_a_table_may_be_in_two_files(write, load_all):
    write(a=WEB + "readiness_probe.tcp.port = 80\n", b="[jobs.web.readiness_probe]\ntcp.host = '::1'\n")
    assert load_all("a", "b").jobs[0].health.readiness_probe.check == TcpCheck(80, "::1")


def test_an_error_names_the_file_that_the_value_is_from(write, wrong):
    write(a=WEB + "availability.backoff_seconds = -1\n", b="[jobs.web]\navailability.max_restarts = 3\n[jobs.db]\nquiet = true\n")
    assert wrong("a", "b").startswith("a.toml: jobs.web.availability.backoff_seconds: ")
    write(a=WEB)
    assert wrong("a", "b") == "b.toml: jobs.db.command: missing: expected a string for the shell or a list of a command and its arguments"


def test_a_dependency_that_is_not_there_is_an_error_of_the_file_that_says_it(write, wrong):
    write(a=WEB + 'depends_on = ["dbx"]\n', b="[jobs.web]\nquiet = true\n" + DB)
    assert wrong("a", "b") == "a.toml: jobs.web.depends_on.dbx: no job has this name; did you mean db?"


# Included files.


def test_a_file_adds_to_what_it_includes(write, load_all):
    write(jobs='include = ["base.toml", "more/x.toml"]\n[jobs.web]\nquiet = true\n', base=WEB + "quiet = false\n", more__x=DB)
    loaded = load_all()
    assert names(loaded) == ["web", "db"]
    assert loaded.jobs[0].quiet


def test_included_paths_are_relative_to_the_including_file(write, load_all):
    write(jobs='include = "a/one.toml"\n', a__one='include = "two.toml"\n' + WEB, a__two=DB)
    assert names(load_all()) == ["db", "web"]


def test_a_file_that_is_included_twice_is_read_once_and_first(write, load_all):
    write(
        jobs='include = ["left.toml", "right.toml"]\n',
        left='include = "base.toml"\n[jobs.web]\nquiet = true\n',
        right='include = "base.toml"\n',
        base=WEB,
    )
    assert load_all().jobs[0].quiet
    assert load_all("jobs", "base").jobs[0].quiet


def test_many_files_that_include_many_are_each_read_once(write, load_all):
    several = {f"f{number}": f"include = {[f'f{number + 1}.toml'] * 4}\n" for number in range(18)}
    write(**several, f18=WEB)
    assert names(load_all("f0")) == ["web"]


def test_a_circle_of_files_is_told_with_its_path(write, wrong):
    write(a='include = "b.toml"\n' + WEB, b='include = "c.toml"\n', c='include = "a.toml"\n')
    assert wrong("a") == "c.toml: include: a cycle, of which no file comes first: a.toml -> b.toml -> c.toml -> a.toml"
    write(d="include = 'd.toml'\n")
    assert wrong("d") == "d.toml: include: a cycle, of which no file comes first: d.toml -> d.toml"


def test_a_chain_of_files_has_an_end(write, wrong):
    write(**{f"f{number}": f"include = 'f{number + 1}.toml'\n" for number in range(500)}, f500=WEB)
    assert wrong("f0").startswith("f20.toml: include: ")


@pytest.mark.parametrize(
    ("include", "text"),
    [
        ("'nope.toml'", "jobs.toml: include: no such file: nope.toml"),
        ("'.'", "jobs.toml: include: no such file: ."),
        ("3", "jobs.toml: include: expected string or list, got integer"),
        ("['base.toml', 3]", "jobs.toml: include[1]: expected string, got integer"),
        ("'base.toml'", "base.toml: line 1, column 2: "),
        ("'typo.toml'", "typo.toml: job: unknown key; did you mean jobs?"),
    ],
)
def test_an_included_file_that_is_wrong(write, wrong, include, text):
    write(jobs=f"include = {include}\n" + WEB, base="[]\n", typo="job = 3\n")
    assert wrong().startswith(text)


# Defaults.


def test_defaults_are_under_each_job_key_by_key(write, load_all):
    write(
        jobs="[defaults]\nenvironment = {A = 1, B = 1}\navailability = {restart = 'always', max_restarts = 3}\nquiet = true\n"
        + WEB
        + "environment.B = 2\navailability.max_restarts = 5\n"
        + DB
        + "quiet = false\n"
    )
    web, db = load_all().jobs
    assert (web.quiet, dict(web.environment)) == (True, {"A": "1", "B": "2"})
    assert (db.quiet, dict(db.environment)) == (False, {"A": "1", "B": "1"})
    assert (web.availability.max_restarts, db.availability.max_restarts) == (5, 3)


def test_defaults_of_all_files_are_under_the_jobs_of_all_files(write, load_all):
    write(a="[defaults]\nquiet = true\n" + WEB + "wait_for = 'writers'\n", b="[defaults]\nwait_for = 'exit'\nlinger_s = 3\n")
    (spec,) = load_all("a", "b").jobs
    assert (spec.quiet, spec.wait_for, spec.linger_s) == (True, "writers", 3.0)


def test_a_default_output_has_the_job_s_name_in_its_path(write, load_all, tmp_path):
    write(jobs='[defaults]\nout_append = "${JOB_NAME}.log"\n' + WEB + DB)
    assert [spec.outputs[0].path for spec in load_all().jobs] == [f"{tmp_path}/web.log", f"{tmp_path}/db.log"]


def test_a_default_output_without_it_would_be_written_twice(write, wrong, tmp_path):
    write(jobs='[defaults]\nout_append = "all.log"\n' + WEB + DB)
    said = "give each output a file of its own, with ${JOB_NAME} in its path"
    assert wrong() == f"jobs.toml: jobs.db.out_append: all.log is already written by jobs.web.out_append: {said}"


def test_the_keyboard_is_no_default(write, wrong):
    write(jobs="[defaults]\ncapture = 'pty'\ninteractive = true\n" + WEB + DB)
    assert wrong() == "jobs.toml: jobs.db.interactive: there is one terminal, and it is for jobs.web already"


def test_an_error_of_a_default_names_its_key_there(write, wrong):
    write(jobs='[defaults]\nquiet = "yes"\n' + WEB)
    assert wrong() == "jobs.toml: defaults.quiet: expected boolean, got string"
    write(jobs="[defaults]\nqiet = true\n" + WEB)
    assert wrong() == "jobs.toml: defaults.qiet: unknown key; did you mean quiet?"
    write(jobs="defaults = 3\n" + WEB)
    assert wrong() == "jobs.toml: defaults: expected a table, got integer"


def test_defaults_of_a_probe_are_for_the_jobs_that_have_one(write, load_all):
    write(jobs="[defaults]\nreadiness_probe.period_seconds = 2\n" + WEB + "readiness_probe.tcp.port = 80\n" + DB)
    web, db = load_all().jobs
    assert web.health.readiness_probe == Probe(TcpCheck(80, "127.0.0.1"), period_seconds=2.0)
    assert db.health.readiness_probe is None


def test_a_probe_s_check_takes_the_place_of_a_default_one(job):
    spec = job("[defaults]\nreadiness_probe = {exec.command = 'x', period_seconds = 2}\n" + WEB + "readiness_probe.tcp.port = 80\n")
    assert spec.health.readiness_probe == Probe(TcpCheck(80, "127.0.0.1"), period_seconds=2.0)


# Variables.


def test_variables_are_filled_in_everywhere_but_for_the_shell(job, tmp_path):
    spec = job(
        """
        [vars]
        PORT = 80
        [jobs.web]
        command = ["serve", "--port=${PORT}", "$HOME", "kill $$", "$${HOME}", "${NAME:-none}"]
        environment = {URL = "http://${HOST}:${PORT}/", N = 3}
        out_append = "${LOGS}/${JOB_NAME}.log"
        description = "on ${PORT}"
        readiness_probe.http_get = {port = "${PORT}", path = "/${JOB_NAME}"}
        """,
        HOST="example.org",
        LOGS=str(tmp_path),
    )
    assert spec.command == ["serve", "--port=80", "$HOME", "kill $$", "${HOME}", "none"]
    assert spec.environment["URL"] == "http://example.org:80/"
    assert spec.outputs[0].path == f"{tmp_path}/web.log"
    assert spec.description == "on 80"
    assert spec.health.readiness_probe.check.url == "http://127.0.0.1:80/web"


SHELL = r"""
[vars]
WORDS = "two  words; $(echo bad) 'q' \"d\" \\"
UNUSED = "x"
[jobs.web]
command = '''printf '%s\n' "${WORDS}" "${WORDS%% *}" "${NONE:-n o n e}" "$JOB_NAME" '${WORDS}' "$(( $$ > 1 ))" "$((1+1))"'''
"""


def test_the_shell_fills_in_its_own_variables_with_what_they_are_and_none_of_its_text_is_changed(job):
    spec = job(SHELL, PATH=os.environ["PATH"])
    assert "UNUSED" not in spec.environment
    done = subprocess.run(spec.argv, env=spec.environment, capture_output=True, text=True, timeout=20, check=True)
    words = "two  words; $(echo bad) 'q' \"d\" \\"
    assert done.stdout.splitlines() == [words, "two", "n o n e", "web", "${WORDS}", "1", "2"]


def test_the_other_commands_for_the_shell_find_their_variables_too(job):
    content = "[vars]\nA = 1\nB = 2\nC = 3\n" + WEB + "shutdown.command = 'echo $A'\nliveness_probe.exec.command = 'echo ${B}'\n"
    assert dict(job(content).environment) == {"A": "1", "B": "2"}


def test_what_a_job_says_itself_wins_over_the_variables(job, tmp_path):
    (tmp_path / "web.env").write_text("B=file\nC=file\n")
    content = (
        "[vars]\nA = 'vars'\nB = 'vars'\nC = 'vars'\n[jobs.web]\ncommand = 'echo $A $B $C'\nenv_file = 'web.env'\nenvironment.C = 'job'\n"
    )
    assert job(content, A="ours", B="ours", C="ours").environment == {"A": "vars", "B": "file", "C": "job"}


def test_a_variable_may_name_those_before_it_and_the_environment(write, load_all, job):
    content = "[vars]\nPORT = '${PORT:-80}'\nURL = 'http://${HOST}:${PORT}'\n[jobs.web]\ncommand = ['${URL}']\n"
    assert job(content, HOST="a").command == ["http://a:80"]
    assert job(content, HOST="a", PORT="81").command == ["http://a:81"]
    assert job("[vars]\nA = 'vars'\nB = '${A}'\n[jobs.web]\ncommand = ['${B}']\n", A="ours").command == ["vars"]
    write(jobs=content, more="[vars]\nPORT = 82\n")
    assert load_all("jobs", "more", HOST="a").jobs[0].command == ["http://a:82"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            WEB + "out_append = '${NONE}/a'\n",
            "jobs.web.out_append: no variable NONE in [vars] or the environment; ${NONE:-default} gives it a default",
        ),
        (
            WEB + "environment.A = '${LOGDI}'\n",
            "jobs.web.environment.A: no variable LOGDI in [vars] or the environment; did you mean LOGDIX?",
        ),
        ("[jobs.web]\ncommand = ['a', '${JOB_REPLICA}']\n", "jobs.web.command[1]: no variable JOB_REPLICA in [vars]"),
        (WEB + "description = '${'\n", "jobs.web.description: expected ${NAME} or ${NAME:-default}"),
        (
            WEB + "description = '${A:-${B}}'\n",
            "jobs.web.description: expected ${NAME} or ${NAME:-default}, with no variable in the default",
        ),
        (WEB + "description = '${A-b}'\n", "jobs.web.description: expected ${NAME} or"),
        ("[defaults]\ndescription = '${NONE}'\n" + WEB, "defaults.description: no variable NONE"),
        ("[vars]\nA = '${B}'\nB = 1\n" + WEB, "vars.A: no variable B in"),
        ("[vars]\nA = true\n" + WEB, "vars.A: expected "),
        ("[vars]\n'a b' = 1\n" + WEB, "vars.'a b': a variable's name is made of letters, digits and _"),
        ("[vars]\nJOB_NAME = 1\n" + WEB, "vars.JOB_NAME: JOB_NAME is set for each job by itself"),
        ("vars = 3\n" + WEB, "vars: expected a table, got integer"),
    ],
)
def test_a_variable_that_is_wrong(write, wrong, content, text):
    write(jobs=content)
    assert wrong(LOGDIX="/").startswith(f"jobs.toml: {text}")


def test_an_error_of_a_variable_names_its_file(write, wrong):
    write(a="[vars]\nA = 1\n" + WEB, b="[vars]\nB = '${C}'\n")
    assert wrong("a", "b").startswith("b.toml: vars.B: no variable C in ")


@given(st.lists(st.one_of(st.text(max_size=3), st.sampled_from(["$", "{", "}", "${", "$${"]))).map("".join))
def test_what_is_escaped_is_the_text(text):
    assert expand((), text.replace("${", "$${"), {}) == text


@given(st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["$", "{", "}", "${A}", "${B:-", "}", "$$", ":-", "A"]))).map("".join))
def test_any_text_is_expanded_or_refused(text):
    try:
        expanded = expand(("key",), text, {"A": "1"})
    except WrongError as error:
        assert str(error).startswith("key: ")
        assert "${" in text
    else:
        if "$$" not in text:
            assert expanded == re.sub(r"\$\{B:-([^{}]*)\}", r"\1", text.replace("${A}", "1"))


# Replicas.


def test_replicas_are_jobs_with_a_number_each(write, load_all, tmp_path):
    write(jobs="[jobs.web]\ncommand = ['serve', '${JOB_NAME}', '${JOB_REPLICA}']\nreplicas = 3\nout_append = 'web.${JOB_REPLICA}.log'\n")
    loaded = load_all(HOME="/root")
    assert loaded.replicas == {"web": ("web-1", "web-2", "web-3")}
    assert names(loaded) == ["web-1", "web-2", "web-3"]
    second = loaded.jobs[1]
    assert second.command == ["serve", "web-2", "2"]
    assert second.outputs[0].path == f"{tmp_path}/web.2.log"
    assert second.environment == {"HOME": "/root", "JOB_NAME": "web-2", "JOB_REPLICA": "2"}


def test_one_replica_has_a_number_too(write, load_all):
    write(jobs=WEB + "replicas = 1\n" + DB)
    loaded = load_all()
    assert (names(loaded), loaded.replicas) == (["web-1", "db"], {"web": ("web-1",)})


def test_who_depends_on_a_job_depends_on_all_its_replicas(write, load_all):
    write(
        jobs=WEB
        + "replicas = 2\n[jobs.a]\ncommand = 'a'\ndepends_on.web = {condition = 'process_completed'}\n[jobs.b]\ncommand = 'b'\ndepends_on = ['web-2']\n"
    )
    *_, a, b = load_all().jobs
    assert a.depends_on == {"web-1": Condition.COMPLETED, "web-2": Condition.COMPLETED}
    assert b.depends_on == {"web-2": Condition.STARTED}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (WEB + "replicas = 0\n", f"jobs.web.replicas: expected 1 to {MAX_REPLICAS}, got 0"),
        (WEB + "replicas = 1000000000\n", f"jobs.web.replicas: expected 1 to {MAX_REPLICAS}, got 1000000000"),
        (WEB + "replicas = 2\n[jobs.web-2]\ncommand = 'a'\n", "jobs.web-2: there is another job web-2"),
        ("[jobs.web-2]\ncommand = 'a'\n" + WEB + "replicas = 2\n", "jobs.web.replicas: there is another job web-2"),
        (
            f"[jobs.{'x' * 99}]\ncommand = 'a'\nreplicas = 2\n",
            f"jobs.{'x' * 99}.replicas: the name {'x' * 99}-2 would be longer than 100 characters",
        ),
        (
            WEB + "replicas = 2\nout_append = 'a'\n",
            "jobs.web-2.out_append: a is already written by jobs.web-1.out_append: give each output a file of its own, with ${JOB_NAME} in its path",
        ),
        (WEB + "replicas = 2\n" + DB + "depends_on = ['wbe']\n", "jobs.db.depends_on.wbe: no job has this name"),
    ],
)
def test_replicas_that_cannot_be(write, wrong, content, text):
    write(jobs=content)
    assert wrong().startswith(f"jobs.toml: {text}")


# Many.


def test_a_thousand_jobs_are_loaded_fast_and_share_what_they_have_in_common(write, load_all):
    job = '[jobs.job-{0}]\ncommand = "sleep 60"\ncombined_append = "job-{0}.log"\navailability.restart = "always"\n'
    write(jobs="".join(job.format(number) for number in range(1000)))
    environment = {f"VARIABLE_{number}": "x" * 50 for number in range(100)}
    start = time.process_time()
    jobs = load_all(**environment).jobs
    assert time.process_time() - start < 1
    assert len({id(spec.environment) for spec in jobs}) == 1
    tracemalloc.start()
    try:
        jobs = load_all(**environment).jobs
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3000 * len(jobs)


def test_the_environment_of_many_with_one_variable_each_is_there_once(write, load_all):
    write(jobs="[defaults]\nenvironment.NAME = '${JOB_NAME}'\n" + "".join(f"[jobs.j{number}]\ncommand = 'a'\n" for number in range(100)))
    environment = {f"VARIABLE_{number}": "x" * 50 for number in range(1000)}
    tracemalloc.start()
    try:
        jobs = load_all(**environment).jobs
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert jobs[7].environment == environment | {"NAME": "j7"}
    assert kept < 500_000  # a copy for each would be 100 * 40 kB
