"""JobSpec: what can be a command, and what is executed for it."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.spec import JobSpec
from dtee_async.errors import ConfigError, DteeError

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize("command", ["", " ", "\n\t "])
def test_a_string_without_a_word_is_no_command(command):
    with pytest.raises(ConfigError, match="command: expected a command, got an empty string"):
        JobSpec("web", command)


@pytest.mark.parametrize("command", [[], (), [""], ["", "x"]])
def test_a_list_without_a_program_is_no_command(command):
    with pytest.raises(ConfigError, match="command: expected a list of a command and its arguments"):
        JobSpec("web", command)


@pytest.mark.parametrize("command", ["echo \0", ["echo", "a\0b"], ["ec\0ho"]])
def test_a_nul_cannot_be_in_a_command(command):
    with pytest.raises(ConfigError, match="command: a NUL character"):
        JobSpec("web", command)


def test_a_wrong_command_is_caught_as_a_value_error_or_as_one_of_ours():
    with pytest.raises(ValueError, match="command"):
        JobSpec("web", "")
    with pytest.raises(DteeError, match="command"):
        JobSpec("web", "")


def test_a_string_is_for_the_shell_word_for_word():
    command = "echo 'a  b' $HOME | tr a-z A-Z; exit 3"
    assert JobSpec("web", command).argv == ["/bin/sh", "-c", command]


def test_an_argument_vector_is_executed_as_it_is():
    assert JobSpec("web", ("printf", "%s", "", "$HOME", "a b")).argv == ["printf", "%s", "", "$HOME", "a b"]


def test_an_empty_argument_is_an_argument():
    assert JobSpec("web", ["true", ""]).argv == ["true", ""]


def test_the_title_of_a_string_is_the_string():
    assert JobSpec("web", "make -j4 && ls").title == "make -j4 && ls"


@given(st.lists(WORDS, min_size=1).filter(lambda words: words[0] != ""))
def test_the_title_of_a_list_can_be_pasted_into_a_shell(words):
    assert shlex.split(JobSpec("web", words).title) == words


def test_a_shell_makes_the_same_words_of_a_title():
    words = ["printf", "[%s]", "a b", "$HOME", "it's", "*", ""]
    assert subprocess.check_output(["/bin/sh", "-c", JobSpec("web", words).title]) == b"[a b][$HOME][it's][*][]"


def test_a_spec_cannot_be_changed():
    spec = JobSpec("web", "true")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.command = "false"
