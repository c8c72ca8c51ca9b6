"""The grammar of the command line: options first, then the command, which is never looked into."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtee_async.cli.options import COPY_ONLY, JOBS_ONLY, ONE_COMMAND_ONLY, OPTIONS, usage
from dtee_async.cli.parse import Options, UsageError, parse, program_name
from dtee_async.core.capture import LINGER_S, MODES, WATCH_FDS


def parsed(*words):
    return parse("dtee-async", words)


def error_of(*words):
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    return str(caught.value)


FILE_OPTIONS = [
    ("o", "out-append"),
    ("O", "out-overwrite"),
    ("e", "err-append"),
    ("E", "err-overwrite"),
    ("c", "combined-append"),
    ("C", "combined-overwrite"),
]


@pytest.mark.parametrize(("letter", "long"), FILE_OPTIONS)
def test_a_file_option_takes_its_file_in_four_ways(letter, long):
    for words in (["-" + letter + "FILE"], ["-" + letter, "FILE"], [f"--{long}=FILE"], [f"--{long}", "FILE"]):
        options = parsed(*words, "true")
        assert options.files == [(long.replace("-", "_"), "FILE")]
        assert options.command == ["true"]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["-o=FILE"], "=FILE"),
        (["--out-append=a=b"], "a=b"),
        (["-o", "-q"], "-q"),
        (["-o", "--"], "--"),
        (["--out-append", "-"], "-"),
        (["--out-append", "--help"], "--help"),
        (["-o-"], "-"),
        (["-oq"], "q"),
    ],
)
def test_whatever_follows_a_file_option_is_its_file(words, path):
    options = parsed(*words, "true")
    assert (options.files, options.flags, options.command) == ([("out_append", path)], frozenset(), ["true"])


@pytest.mark.parametrize("words", [["-o", ""], ["--out-append", ""]])
def test_an_empty_word_is_a_file_that_cannot_be_opened_not_a_usage_error(words):
    assert parsed(*words, "true").files == [("out_append", "")]


def test_repeated_files_are_kept_in_the_order_given():
    options = parsed("-c1", "-o2", "--out-append=3", "-c", "1", "-E4", "true")
    assert options.files == [
        ("combined_append", "1"),
        ("out_append", "2"),
        ("out_append", "3"),
        ("combined_append", "1"),
        ("err_overwrite", "4"),
    ]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["-i"], {"ignore_interrupts"}),
        (["--ignore-interrupts"], {"ignore_interrupts"}),
        (["-q"], {"cron"}),
        (["--cron"], {"cron"}),
        (["-qi"], {"cron", "ignore_interrupts"}),
        (["-iq", "-q"], {"cron", "ignore_interrupts"}),
        (["-hV"], {"help", "version"}),
        (["--help", "--version"], {"help", "version"}),
    ],
)
def test_flags_may_stand_alone_together_and_again(words, flags):
    options = parsed(*words, "true")
    assert (options.flags, options.command) == (flags, ["true"])


def test_the_last_letter_of_a_cluster_may_take_a_file():
    options = parsed("-qioFILE", "-qe", "ERRORS", "true")
    assert options.flags == {"cron", "ignore_interrupts"}
    assert options.files == [("out_append", "FILE"), ("err_append", "ERRORS")]


@pytest.mark.parametrize("command", ["true", "", "a b", "=", "o"])
def test_the_first_word_that_is_no_option_is_the_command(command):
    assert parsed(command).command == [command]
    assert parsed("-q", command, "-q").command == [command, "-q"]


@pytest.mark.parametrize("words", [["grep", "-q", "--help", "-x"], ["a", "--", "b"], ["a", "-", "--nonsense"], ["", "-o"]])
def test_what_follows_the_command_belongs_to_it(words):
    options = parsed("-i", *words)
    assert (options.command, options.flags, options.files) == (words, {"ignore_interrupts"}, [])


@pytest.mark.parametrize("words", [["-q"], ["--help"], ["--", "x"], ["true"], ["--jobs", "x"]])
def test_two_dashes_end_the_options(words):
    options = parsed("-i", "--", *words)
    assert (options.command, options.flags, options.values) == (words, {"ignore_interrupts"}, {})


@pytest.mark.parametrize("words", [[], ["--"], ["-q"], ["-ofile"]])
def test_no_command_is_left_to_the_caller(words):
    assert parsed(*words).command == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nonsense"], "unrecognised option '--nonsense'"),
        (["--nonsense=1"], "unrecognised option '--nonsense=1'"),
        (["---"], "unrecognised option '---'"),
        (["--="], "unrecognised option '--='"),
        (["-x"], "unrecognised option '-x'"),
        (["-qx"], "unrecognised option '-x'"),
        (["-q-"], "unrecognised option '--'"),
        (["-é"], "unrecognised option '-é'"),
    ],
)
def test_an_unknown_option_is_named(words, text):
    assert error_of(*words, "true") == text


@pytest.mark.parametrize("option", [option for option in OPTIONS if len(option.long) > 1], ids=lambda option: option.long)
def test_no_long_option_can_be_abbreviated(option):
    assert error_of(f"--{option.long[:-1]}", "x", "true").startswith("unrecognised option")


@pytest.mark.parametrize(
    ("words", "spelling"),
    [
        (["-o"], "-o"),
        (["-qo"], "-o"),
        (["--out-append"], "--out-append"),
        (["--out-append="], "--out-append"),
        (["--out-append=", "true"], "--out-append"),
        (["--jobs"], "--jobs"),
        (["--jobs="], "--jobs"),
        (["--procfile"], "--procfile"),
        (["--except="], "--except"),
        (["-j"], "-j"),
        (["--max-parallel"], "--max-parallel"),
    ],
)
def test_a_missing_argument_is_an_error_that_names_the_option(words, spelling):
    assert error_of(*words) == f"option '{spelling}' requires an argument"


@pytest.mark.parametrize(
    "word",
    [
        "--help=1",
        "--help=",
        "--cron=yes",
        "--check=1",
        "--version=x",
        "--verbose=1",
        "--stderr-apart=yes",
        "--doctor=",
        "--schema=1",
        "--no-deps=x",
        "--no-summary=",
    ],
)
def test_an_argument_for_an_option_that_has_none_is_an_error(word):
    name = word.partition("=")[0]
    assert error_of(word, "true") == f"option '{name}' doesn't allow an argument"


def test_jobs_takes_a_file_and_its_own_options():
    options = parsed("--jobs", "jobs.toml", "--check", "--log-format=json", "--loop", "asyncio", "-j4", "--no-deps", "--no-summary")
    assert options.lists == {"jobs": ["jobs.toml"]}
    assert options.values == {"log_format": "json", "loop": "asyncio", "max_parallel": "4"}
    assert (options.flags, options.command) == ({"check", "no_deps", "no_summary"}, [])


def test_the_options_of_jobs_may_come_before_it():
    options = parsed("--check", "--except", "web", "--jobs=jobs.toml")
    assert (options.lists, options.flags) == ({"except": ["web"], "jobs": ["jobs.toml"]}, {"check"})


def test_several_files_of_jobs_and_exceptions_are_kept_in_the_order_given():
    options = parsed("--jobs=b.toml", "--except", "y", "--jobs", "a.toml", "--except=x", "--jobs", "b.toml")
    assert options.lists == {"jobs": ["b.toml", "a.toml", "b.toml"], "except": ["y", "x"]}


def test_a_procfile_takes_the_options_of_jobs():
    options = parsed("--procfile", "Procfile", "--check", "--except=web", "--max-parallel", "2")
    assert (options.values, options.lists) == ({"procfile": "Procfile", "max_parallel": "2"}, {"except": ["web"]})


@pytest.mark.parametrize("file", ["--jobs=jobs.toml", "--procfile=Procfile"])
@pytest.mark.parametrize("names", [[], ["web"], ["web", "worker", "web"], ["", "a-b"]])
def test_the_words_after_the_options_of_jobs_are_names_of_jobs(file, names):
    for words in ([file, *names], [file, "--", *names]):
        options = parsed(*words)
        assert (options.command, options.runs_jobs, options.copies, options.flags) == (names, True, False, frozenset())


@pytest.mark.parametrize("word", ["--check", "-j2", "-", "--", "-x"])
def test_options_come_before_the_names_of_jobs(word):
    for words in (["web", word], ["web", word, "--no-deps"], ["--", "web", word]):
        assert error_of("--jobs=jobs.toml", *words) == f"options come before the names of jobs: unexpected '{word}'"


def test_nothing_but_a_file_of_jobs_makes_a_run_of_jobs():
    assert not parsed("true").runs_jobs
    assert not parsed("--", "--jobs", "jobs.toml").runs_jobs


@pytest.mark.parametrize("words", [["--jobs=a", "--procfile=b"], ["--procfile", "b", "--jobs", "a", "web"]])
def test_jobs_come_from_one_kind_of_file(words):
    assert error_of(*words) == "--jobs and --procfile: expected one of them"


@pytest.mark.parametrize("number", ["", "x", "-1", "+1", "1.5", " 1", "4 ", "\u0664", "\u00b2", "1000000000"])
@pytest.mark.parametrize("option", ["-j", "--max-parallel"])
def test_how_many_jobs_run_at_once_is_a_number(option, number):
    assert error_of("--jobs=jobs.toml", option, number) == f"option '--max-parallel': expected a number, got '{number}'"


@pytest.mark.parametrize("number", ["0", "1", "007", "999999999"])
def test_any_number_of_jobs_may_run_at_once(number):
    for words in (["-j", number], [f"-j{number}"], [f"--max-parallel={number}"]):
        assert parsed("--jobs=jobs.toml", *words).values == {"max_parallel": number}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-q"], "with --jobs, silence belongs to a job: write quiet = true into b.toml"),
        (["-i"], "option '--ignore-interrupts' goes with one command: a run of jobs ends by an interrupt"),
        (["-j2", "--max-parallel=2"], "option '--max-parallel' is given twice"),
        (["--procfile=x", "--procfile=x"], "option '--procfile' is given twice"),
    ],
)
def test_what_does_not_go_with_jobs_is_an_error(words, text):
    assert error_of(*words, "--jobs", "b.toml", "--jobs", "a.toml") == text


@pytest.mark.parametrize(("letter", "long"), FILE_OPTIONS)
def test_jobs_with_an_output_file_says_where_to_write_it(letter, long):
    assert error_of("--jobs", "jobs.toml", f"-{letter}x").endswith(f"write {long.replace('-', '_')} into jobs.toml")


@pytest.mark.parametrize(
    "words",
    [["--check"], ["--log-format", "json"], ["--loop=uvloop"], ["--max-parallel=2"], ["--except=x"], ["--no-deps"], ["--no-summary"]],
)
def test_what_goes_with_jobs_is_an_error_without_it(words):
    name = words[0].partition("=")[0]
    assert error_of(*words, "true") == f"option '{name}' goes with --jobs"


def test_each_option_that_goes_with_jobs_with_one_command_or_with_a_copy_is_in_the_table():
    assert {*JOBS_ONLY, *ONE_COMMAND_ONLY, *COPY_ONLY} <= {option.key for option in OPTIONS}
    assert len({*JOBS_ONLY, *ONE_COMMAND_ONLY, *COPY_ONLY}) == len(JOBS_ONLY) + len(ONE_COMMAND_ONLY) + len(COPY_ONLY)


# ``-`` as the command: standard input is copied.


@pytest.mark.parametrize("words", [["-"], ["--", "-"], ["-i", "-v", "-ofile", "-"], ["--output-error=exit", "--progress", "--", "-"]])
def test_a_dash_as_the_command_copies(words):
    options = parsed(*words)
    assert (options.copies, options.command) == (True, ["-"])


@pytest.mark.parametrize("words", [[], ["true", "-"], ["./-"], ["--", "--"], ["", "-"]])
def test_nothing_else_copies(words):
    assert not parsed(*words).copies


@pytest.mark.parametrize("prog", ["cronty", "cronty-async"])
def test_under_the_cron_name_a_dash_is_a_command_as_any_other(prog):
    options = parse(prog, ["-Call", "-", "-x"])
    assert (options.copies, options.command) == (False, ["-", "-x"])


@pytest.mark.parametrize("mode", ["warn", "warn-nopipe", "exit", "exit-nopipe"])
def test_the_modes_of_output_error_are_those_of_tee(mode):
    assert parsed(f"--output-error={mode}", "-").values == {"output_error": mode}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-", "x"], "- copies standard input and takes no arguments: unexpected 'x'"),
        (["-", ""], "- copies standard input and takes no arguments: unexpected ''"),
        (["-", "-o", "file"], "- copies standard input and takes no arguments: unexpected '-o'"),
        (["-q", "-"], "option '--cron' goes with a command, and - is none"),
        (["--capture=pipe", "-"], "option '--capture' goes with a command, and - is none"),
        (["--watch-fds=1-9", "-"], "option '--watch-fds' goes with a command, and - is none"),
        (["--stderr-apart", "-"], "option '--stderr-apart' goes with a command, and - is none"),
        (["--wait-for=exit", "-"], "option '--wait-for' goes with a command, and - is none"),
        (["-e", "x", "-"], "- copies one stream: use -o or -O in the place of '--err-append'"),
        (["-E", "x", "-"], "- copies one stream: use -o or -O in the place of '--err-overwrite'"),
        (["-c", "x", "-"], "- copies one stream: use -o or -O in the place of '--combined-append'"),
        (["-o", "y", "-C", "x", "-"], "- copies one stream: use -o or -O in the place of '--combined-overwrite'"),
        (["--output-error=WARN", "-"], "option '--output-error': expected warn or warn-nopipe or exit or exit-nopipe, got 'WARN'"),
        (["--output-error=warn", "--output-error=warn", "-"], "option '--output-error' is given twice"),
        (["--output-error=", "-"], "option '--output-error' requires an argument"),
        (["--progress=1", "-"], "option '--progress' doesn't allow an argument"),
        (["--check", "-"], "option '--check' goes with --jobs"),
    ],
)
def test_what_does_not_go_with_a_copy_is_an_error(words, text):
    assert error_of(*words) == text


@pytest.mark.parametrize("option", ["--output-error=warn", "--progress", "--force-progress"])
def test_what_goes_with_a_copy_is_an_error_with_a_command(option):
    name = option.partition("=")[0]
    assert error_of(option, "true") == f"option '{name}' goes with - as the command: standard input is copied"


@pytest.mark.parametrize("option", ["--output-error=warn", "--progress", "--force-progress"])
def test_what_goes_with_a_copy_is_an_error_with_jobs(option):
    name = option.partition("=")[0]
    assert error_of(option, "--jobs", "jobs.toml") == f"option '{name}' goes with - as the command: standard input is copied"


@pytest.mark.parametrize("option", ["--output-error=warn", "--progress", "--force-progress"])
def test_what_goes_with_a_copy_is_an_error_under_the_cron_name(option):
    name = option.partition("=")[0]
    with pytest.raises(UsageError) as caught:
        parse("cronty", [option, "true"])
    assert str(caught.value) == f"option '{name}' goes with - as the command: standard input is copied"


# Capture modes.


@pytest.mark.parametrize(
    "words", [["--capture=pipe"], ["--watch-fds", "1-9"], ["--stderr-apart"], ["--wait-for=writers"], ["--verbose"], ["-v"]], ids=" ".join
)
def test_with_jobs_a_capture_mode_is_written_into_the_file(words):
    name = "--verbose" if words == ["-v"] else words[0].partition("=")[0]
    text = f"with --jobs, option '{name}' belongs to a job: write it into jobs.toml"
    assert error_of(*words, "--jobs", "jobs.toml") == error_of("--jobs=jobs.toml", *words) == text


@pytest.mark.parametrize("mode", MODES)
def test_a_capture_mode_is_one_of_those_that_there_are(mode):
    assert parsed("--capture", mode, "true").values == parsed(f"--capture={mode}", "true").values == {"capture": mode}


@pytest.mark.parametrize("key", ["capture", "watch-fds", "wait-for"])
def test_the_choices_are_those_of_the_core(key):
    (option,) = (option for option in OPTIONS if option.long == key)
    assert option.choices == {"capture": MODES, "watch-fds": tuple(WATCH_FDS), "wait-for": tuple(LINGER_S)}[key]


def test_what_belongs_to_a_mode_goes_with_it_before_or_after():
    assert parsed("--watch-fds=1-9", "--capture=turnstile", "true").values == {"watch_fds": "1-9", "capture": "turnstile"}
    options = parsed("--capture=pty", "--stderr-apart", "true")
    assert (options.values, options.flags) == ({"capture": "pty"}, {"stderr_apart"})


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--watch-fds=1-9"], "option '--watch-fds' goes with --capture=turnstile"),
        (["--watch-fds=1-2", "--capture=auto"], "option '--watch-fds' goes with --capture=turnstile"),
        (["--capture=pty", "--watch-fds=1-9"], "option '--watch-fds' goes with --capture=turnstile"),
        (["--stderr-apart"], "option '--stderr-apart' goes with --capture=pty"),
        (["--stderr-apart", "--capture=pipe"], "option '--stderr-apart' goes with --capture=pty"),
        (["--capture=Pipe"], "option '--capture': expected auto or ordered or turnstile or pipe or pty, got 'Pipe'"),
        (["--capture="], "option '--capture' requires an argument"),
        (["--capture=pipe", "--capture=auto"], "option '--capture' is given twice"),
        (["--capture=turnstile", "--watch-fds=2-3"], "option '--watch-fds': expected 1-2 or 1-9, got '2-3'"),
        (["--wait-for", "ever"], "option '--wait-for': expected exit or writers, got 'ever'"),
    ],
)
def test_a_wish_that_cannot_be_is_an_error(words, text):
    assert error_of(*words, "true") == text


@pytest.mark.parametrize(
    "words", [["--doctor"], ["--doctor", "--check"], ["--watch-fds=1-9", "--doctor"], ["--jobs=x", "--doctor", "true", "-j", "x"]]
)
@pytest.mark.parametrize("option", ["doctor", "schema", "help", "version"])
def test_who_asks_for_something_to_be_shown_is_not_told_what_goes_with_what(words, option):
    assert option in parsed(*(f"--{option}" if word == "--doctor" else word for word in words)).flags


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--log-format", "xml"], "option '--log-format': expected console or json, got 'xml'"),
        (["--log-format=JSON"], "option '--log-format': expected console or json, got 'JSON'"),
        (["--loop", ""], "option '--loop': expected uvloop or asyncio, got ''"),
        (["--loop=trio"], "option '--loop': expected uvloop or asyncio, got 'trio'"),
    ],
)
def test_a_value_that_is_no_choice_is_told_the_choices(words, text):
    assert error_of("--jobs", "jobs.toml", *words) == text


@pytest.mark.parametrize(
    ("prog", "cron"),
    [
        ("cronty", True),
        ("cronty-async", True),
        ("/usr/bin/cronty", True),
        ("./cronty-async", True),
        ("dtee-async", False),
        ("cronty2", False),
    ],
)
def test_the_cron_name_means_cron_mode(prog, cron):
    options = parse(prog, ["true"])
    assert (options.cronty, options.cron) == (cron, cron)
    assert parse(prog, ["-q", "true"]).cron


@pytest.mark.parametrize(
    ("argv0", "path", "name"),
    [
        ("/usr/bin/dtee-async", "/bin:/usr/bin", "dtee-async"),
        ("/opt/x/dtee-async", "/bin:/usr/bin", "/opt/x/dtee-async"),
        ("./dtee-async", "/bin:/usr/bin", "./dtee-async"),
        ("dtee-async", "/bin:/usr/bin", "dtee-async"),
        ("/usr/bin/cronty", "/usr/bin", "cronty"),
        ("/usr/bin/dtee-async", "", "/usr/bin/dtee-async"),
        ("/usr/bin/dtee-async", "/usr/bin/x:/usr", "/usr/bin/dtee-async"),
        ("/src/dtee_async/__main__.py", "/usr/bin", "dtee-async"),
        ("", "/usr/bin", ""),
        ("/opt/bin//dtee-async", "/opt/bin/", "dtee-async"),  # what a shell makes of a PATH that ends with a slash
    ],
)
def test_the_program_name_is_what_was_typed_as_far_as_it_can_be_known(argv0, path, name):
    assert program_name(argv0, path) == name


def test_the_help_shows_every_option():
    text = usage("dtee-async", cronty=False)
    for option in OPTIONS:
        assert f"--{option.long}" in text
        assert option.help in text
    assert text.startswith("Usage: dtee-async [OPTION]... COMMAND")


def test_the_help_of_cronty_does_not_offer_cron_mode():
    text = usage("cronty", cronty=True)
    for long in ("cron", "jobs", "procfile", "except", "max-parallel", "verbose", "doctor", "schema"):
        assert f"--{long}" not in text
    assert "--combined-append=FILE" in text
    assert "--capture=MODE" in text


def test_no_two_options_have_the_same_name():
    assert len({option.long for option in OPTIONS}) == len(OPTIONS)
    letters = [option.short for option in OPTIONS if option.short]
    assert len(set(letters)) == len(letters)


OPTION_WORDS = st.one_of(
    st.sampled_from([f"--{option.long}" for option in OPTIONS]),
    st.sampled_from([f"-{option.short}" for option in OPTIONS if option.short]),
    st.builds("--{}={}".format, st.sampled_from([option.long for option in OPTIONS]), st.text(max_size=3)),
    st.text("ioOeEcCqvhVjx-=", max_size=4).map("-".__add__),
    st.sampled_from(["json", "console", "uvloop", "asyncio", "turnstile", "pty", "1-9", "writers"]),
)
WORDS = st.one_of(OPTION_WORDS, st.text(max_size=4), st.sampled_from(["-", "--", "---", "--=", "-\udcff", "\udcff", "true"]))


@settings(max_examples=1000)
@given(st.lists(WORDS, max_size=6))
def test_every_command_line_is_options_or_a_usage_error(words):
    try:
        options = parsed(*words)
    except UsageError as error:
        assert str(error)
        return
    assert isinstance(options, Options)
    assert list(options.command) == words[len(words) - len(options.command) :]


@given(
    st.lists(st.sampled_from([("-q",), ("-i",), ("-oa",), ("-E", "b"), ("--combined-append=c",), ("--err-append", "d")]), max_size=4),
    st.one_of(st.just(["true"]), st.just([""]), WORDS.filter("-".__ne__).map(lambda word: ["--", word])),
    st.lists(WORDS, max_size=5),
)
def test_the_words_after_the_command_are_never_looked_at(groups, begin, words):
    before = [word for group in groups for word in group]
    alone = parsed(*before, *begin)
    assert parsed(*before, *begin, *words) == alone._replace(command=[begin[-1], *words])


def test_parsing_does_not_change_what_it_is_given():
    words = ["-q", "-o", "x", "true", "-y"]
    parse("dtee-async", words)
    assert words == ["-q", "-o", "x", "true", "-y"]
