"""Messages in another language: who gets which, that none is missing, and that English costs nothing."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys

import pytest

from dtee_async.cli import text
from dtee_async.cli.single import _ending
from dtee_async.cli.text import languages
from dtee_async.core.exit import Exit

from .test_share import AGAIN, share

GERMAN = {"LANG": "en_US.UTF-8", "LANGUAGE": "de"}
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")


def environment(settings):
    return {name: value for name, value in os.environ.items() if name not in LOCALE} | settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"LANG": ""}, []),
        ({"LANG": "C"}, []),
        ({"LANG": "POSIX"}, []),
        ({"LANG": "C.UTF-8"}, []),
        ({"LANG": "en_US.UTF-8"}, []),
        ({"LANG": "en"}, []),
        ({"LANG": "de_AT.UTF-8"}, ["de_AT.UTF-8"]),
        ({"LANG": "de_DE@euro"}, ["de_DE@euro"]),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"}, ["de_DE.UTF-8"]),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "C"}, []),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, []),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, ["de_DE.UTF-8"]),
        ({"LANGUAGE": "de"}, []),
        ({"LANGUAGE": "de", "LC_ALL": "C"}, []),
        ({"LANGUAGE": "de", "LANG": "C.UTF-8"}, []),
        ({"LANGUAGE": "de", "LANG": "en_US.UTF-8"}, ["de"]),
        ({"LANGUAGE": "", "LANG": "de_DE.UTF-8"}, ["de_DE.UTF-8"]),
        ({"LANGUAGE": "fr:de:en:it", "LANG": "en_US.UTF-8"}, ["fr", "de"]),
        ({"LANGUAGE": "fr::de", "LANG": "en_US.UTF-8"}, ["fr", "de"]),
        ({"LANGUAGE": "en_GB:de", "LANG": "de_DE.UTF-8"}, []),
    ],
)
def test_languages(settings, expected):
    assert [each for each in languages(settings) if each] == expected


def test_an_english_ending_is_worded_as_in_the_core(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    text._catalogue.cache_clear()
    for exit in (Exit(0), Exit(3), Exit(-9), Exit(-11, core_dumped=True), Exit(-40)):
        assert _ending("sh", exit) == exit.describe("sh")


@pytest.mark.parametrize("settings", [GERMAN, {"LANG": "de_DE.UTF-8"}, {"LC_ALL": "de"}, GERMAN | {"LANGUAGE": "xx:de"}])
def test_german(cli, settings):
    env = environment(settings)
    assert cli("--help", env=env).stdout.decode().startswith("Aufruf: dtee-async [OPTION]... BEFEHL [ARGUMENT]...\n")
    assert cli("cronty-async", "-h", env=env).stdout.decode().startswith("Aufruf: cronty-async [OPTION]...")
    assert cli("--nonsense", env=env).stderr.decode() == "dtee-async: unbekannte Option '--nonsense'\n'dtee-async -h' gibt Hilfe.\n"
    assert cli("cronty-async", "sh", "-c", "exit 3", env=env).stderr.decode() == "cronty-async: sh: mit Status 3 beendet\n"
    killed = cli("cronty-async", "sh", "-c", "kill -9 $$", env=env)
    assert killed.stderr.decode().startswith("cronty-async: sh: Prozess durch Signal 9 abgebrochen: ")
    assert killed.returncode == 128 + 9
    told = cli("-v", "--capture=pipe", "true", env=env)
    assert (
        told.stderr.decode()
        == "dtee-async: Erfassungsmodus pipe, Reihenfolge nach dem Lesen, Bytes durch tee(2) und splice(2) verschoben\n"
    )
    wrong = cli("--watch-fds=1-9", "true", env=env)
    assert wrong.stderr.decode().startswith("dtee-async: Option '--watch-fds' gehört zu --capture=turnstile\n")
    copied = cli("-v", "-O", os.devnull, "-", env=env)
    assert (
        copied.stderr.decode()
        == "dtee-async: stdout: 0 B, durch tee(2) verdoppelt\ndtee-async: /dev/null: 0 B, durch splice(2) verschoben\n"
    )
    stopped = cli("cronty-async", "sh", "-c", "kill -15 $PPID; sleep 5", env=env)
    assert stopped.stderr.decode().startswith("cronty-async: Signal 15 erhalten: ")


def test_german_for_several_commands(cli, tmp_path):
    (tmp_path / "one.toml").write_text('[jobs.a]\ncommand = "true"\n')
    (tmp_path / "two.toml").write_text('[jobs.a]\ncommand = "true"\n[jobs.b]\ncommand = "true"\n')
    assert cli("--jobs", "one.toml", "--check", env=environment(GERMAN)).stdout == b"one.toml: 1 Job, alles in Ordnung\n"
    assert cli("--jobs", "two.toml", "--check", env=environment(GERMAN)).stdout == b"two.toml: 2 Jobs, alles in Ordnung\n"
    assert cli("--jobs", "two.toml", "--check", env=environment({})).stdout == b"two.toml: 2 jobs, nothing wrong\n"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "LANGUAGE": "de"},
        {"LANG": "C.UTF-8", "LANGUAGE": "de"},
        {"LANG": "en_US.UTF-8"},
        {"LANG": "xx_XX.UTF-8"},
        {"LANG": "../../etc"},
        {"LANG": "en_US.UTF-8", "LANGUAGE": "xx"},
        {"LANG": "de_DE.UTF-8", "LANGUAGE": "en"},
    ],
)
def test_english(cli, settings):
    env = environment(settings)
    assert cli("--help", env=env).stdout.startswith(b"Usage: dtee-async [OPTION]... COMMAND [ARGUMENT]...\n")
    assert cli("--nonsense", env=env).stderr == b"dtee-async: unrecognised option '--nonsense'\nTry 'dtee-async -h' for help.\n"
    assert cli("cronty-async", "sh", "-c", "exit 3", env=env).stderr == b"cronty-async: sh: exited with status 3\n"


def test_what_the_encoding_cannot_write_stays_english(cli):
    env = environment({"LANG": "en_US.UTF-8", "LANGUAGE": "de", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_CTYPE": "POSIX"})
    help = cli("--help", env=env).stdout
    assert b"append standard output to DATEI" not in help
    assert b"append standard output to FILE" in help
    assert b"Aufruf: " in help


def modules_of_a_run(settings, *words):
    command = [sys.executable, "-X", "importtime", "-m", "dtee_async", *words]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize(
    "settings", [{}, {"LC_ALL": "C"}, {"LANG": "C"}, {"LANG": "C.UTF-8", "LANGUAGE": "de"}, {"LANG": "en_US.UTF-8"}, {"LC_ALL": "POSIX"}]
)
@pytest.mark.parametrize("words", [["true"], ["-q", "false"], ["--help"], ["--nonsense"]])
def test_english_imports_nothing(settings, words):
    imported = modules_of_a_run(settings, *words)
    assert "dtee_async.cli.text" in imported
    assert "gettext" not in imported


def test_another_language_imports_gettext_only_for_a_message():
    assert "gettext" not in modules_of_a_run(GERMAN, "true")
    assert "gettext" in modules_of_a_run(GERMAN, "-q", "false")


# The catalogues.

CATALOGUES = share.catalogues()


def as_tuple(words):
    return (words,) if isinstance(words, str) else tuple(words)


def fields(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_there_is_a_catalogue_and_the_messages_are_found():
    assert [path.parent.parent.name for path in CATALOGUES] == ["de"]
    assert {"show this and exit", "unrecognised option '{option}'", "received signal {number}: {name}"} <= share.messages().keys()
    assert ("{path}: {count} job, nothing wrong", "{path}: {count} jobs, nothing wrong") in share.messages().values()


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parent.parent.name)
class TestCatalogue:
    def test_it_has_every_message_and_no_other(self, path):
        assert {message.id for message in share.read(path) if message.id} == set(share.messages().values()), AGAIN

    def test_every_message_is_translated_with_its_fields(self, path):
        for message in share.read(path):
            if message.id:
                assert not message.fuzzy
                assert all(as_tuple(message.string)), message.id
                for translated in as_tuple(message.string):
                    assert fields(translated) == fields(as_tuple(message.id)[-1]), message.id

    def test_the_compiled_one_is_the_same(self, path):
        compiled = {as_tuple(message.id): as_tuple(message.string) for message in share.read(path.with_suffix(".mo")) if message.id}
        assert compiled == {as_tuple(message.id): as_tuple(message.string) for message in share.read(path) if message.id}, AGAIN


def test_no_message_is_marked_that_cannot_be_found():
    """Only text as it is: a message that is put together first would not be in any catalogue."""
    for path in sorted((share.PACKAGE / "cli").glob("*.py")):
        if path.name != "text.py":
            assert not re.search(r"\b(_|N_|ngettext)\(\s*f[\"']", path.read_text()), path
