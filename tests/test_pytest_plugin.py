"""The pytest plugin, as pytest finds it: by its entry point, in a pytest of its own."""

import sys
import tomllib
from pathlib import Path

import pytest

from dtee_async.pytest_plugin import SHOWN_LINES, TITLE_LENGTH, shown

pytest_plugins = ["pytester"]

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
COMMAND = "echo one; echo two >&2; printf three; echo four >&2; exit 3"


@pytest.fixture
def tests(pytester, tmp_path, monkeypatch):
    """Run this text as tests, with the plugin found by the entry point of pyproject.toml, installed or not."""
    information = tmp_path / "path" / "plugin_as_declared-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-as-declared\nVersion: 1\n")
    points = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["pytest11"]
    (information / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))
    monkeypatch.setenv("PYTHONPATH", f"{information.parent}:{PYPROJECT.parent}")

    def run(text, *words):
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *words)

    return run


def test_a_failing_test_shows_what_the_command_wrote_in_order_and_with_its_streams(tests):
    done = tests(f"""
        def test_it(captured_run):
            result = captured_run({COMMAND!r})
            assert result.returncode == 0
    """)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E * assert 3 == 0*"])
    done.stdout.fnmatch_lines(
        [
            f"*- Captured output of {COMMAND[:TITLE_LENGTH]} call -*",
            "out| one",
            "err| two",
            "out| three",
            "err| four",
            f"{COMMAND}: exited with status 3",
        ],
        consecutive=True,
    )


def test_a_test_that_passes_has_the_result_and_shows_nothing(tests):
    done = tests(f"""
        def test_it(captured_run):
            result = captured_run({COMMAND!r})
            assert (result.stdout, result.stderr) == (b"one\\nthree", b"two\\nfour\\n")
            assert result.combined == b"one\\ntwo\\nthreefour\\n"
            assert captured_run(["cat"], stdin=b"x", limit_bytes=10).combined == b"x"
            assert [each.command for each in captured_run.results] == [{COMMAND!r}, "cat"]
    """)
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*Captured*")


@pytest.mark.parametrize("options", ["check=True", "timeout_s=0.2, grace_s=0.1"])
def test_what_was_written_is_shown_when_the_run_itself_is_the_failure(tests, options):
    done = tests(f"""
        def test_it(captured_run):
            captured_run("echo last words; {"exit 1" if "check" in options else "sleep 100"}", {options})
    """)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*- Captured output of echo last words; * call -*", "out| last words"])


def test_a_fixture_can_use_it_and_each_test_shows_only_its_own(tests):
    done = tests("""
        import pytest

        @pytest.fixture
        def built(captured_run):
            captured_run("echo of the fixture")

        def test_1(built, captured_run):
            captured_run("echo of test 1")
            assert False

        def test_2(captured_run):
            captured_run("echo of test 2")
    """)
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["out| of the fixture", "out| of test 1"])
    done.stdout.no_fnmatch_line("*of test 2*")


def test_in_an_async_test_it_says_what_to_use(tests):
    done = tests(
        """
        async def test_it(captured_run):
            captured_run("true")
    """,
        *("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error"),
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E *RuntimeError: captured_run*await dtee_async.run*"])


def test_the_plugin_does_not_make_every_pytest_slow(tests, pytester):
    done = tests(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("dtee_async")
            assert not {"dtee_async.api", "uvloop", "anyio"} & set(sys.modules)
    """,
        *("-p", "no:anyio", "-p", "no:asyncio"),
    )
    done.assert_outcomes(passed=1)


def test_of_very_much_output_the_end_is_shown(captured_run):
    text = shown(captured_run([sys.executable, "-c", f"for i in range({SHOWN_LINES + 5}): print(i)"])).splitlines()
    assert text[:2] == ["(5 lines before)", "out| 5"]
    assert text[-2] == f"out| {SHOWN_LINES + 4}"
    text = shown(captured_run("printf 123456", limit_bytes=4, keep="tail")).splitlines()
    assert text[:2] == ["out| 3456", "(2 bytes were not kept)"]
    text = shown(captured_run("printf '\\377\\n'", capture="pipe")).splitlines()
    assert text[:2] == ["out| \\xff", "(mode pipe: the order across the streams is not exact)"]


@pytest.fixture
def captured_run(request):
    """Also where the plugin is not installed."""
    from dtee_async.pytest_plugin import CapturedRun

    return CapturedRun(request.node)
