"""The six output keys, and the files behind them."""

from __future__ import annotations

import pytest

from dtee_async.core.outputs import OUTPUT_KEYS, OutputFile, output_files
from dtee_async.core.write import Stream


@pytest.mark.parametrize("key", OUTPUT_KEYS)
def test_the_six_output_keys_mean_what_they_say(key):
    what, _, mode = key.partition("_")
    (file,) = output_files({key: "a.log"})
    stream = {"out": Stream.STDOUT, "err": Stream.STDERR, "combined": None}[what]
    assert file == OutputFile("a.log", stream, append={"append": True, "overwrite": False}[mode])


def test_there_are_six_output_keys():
    assert len(OUTPUT_KEYS) == len(set(OUTPUT_KEYS.values())) == 6


def test_a_key_takes_a_path_or_several_and_the_order_is_kept():
    files = output_files({"err_append": "b", "out_overwrite": ["c", "a"], "combined_append": []})
    assert [(file.path, file.stream, file.append) for file in files] == [
        ("b", Stream.STDERR, True),
        ("c", Stream.STDOUT, False),
        ("a", Stream.STDOUT, False),
    ]
