"""The exactness of the capture modes, many times over, for root and for others; and what is built with node."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dtee_async

EXACTNESS = Path(__file__).parents[1] / "programs" / "exactness.py"
RUNS = int(os.environ.get("MODES_RUNS", "100"))
NOBODY = "65534"
pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize("user", ["ours", pytest.param(NOBODY, marks=pytest.mark.root)])
@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe", "auto"])
def test_a_hundred_runs_of_every_way_to_write_are_exact(programs, mode, user):
    words = [sys.executable, EXACTNESS, mode, str(RUNS), programs, *([user] if user == NOBODY else [])]
    done = subprocess.run(words, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    counted = json.loads(done.stdout)
    for name, (runs, wrong, _, modes) in counted.items():
        print(f"{mode}, {user}: {name}: {wrong} of {runs} wrong, captured as {', '.join(modes)}")
    assert {name: found[:3] for name, found in counted.items()} == {name: [RUNS, 0, []] for name in counted}
    assert len(counted) >= 2


SOURCE = """
import { createElement } from "./element.js";
console.log(createElement("p", "hello"));
"""
ELEMENT = "export const createElement = (tag, text) => `<${tag}>${text}</${tag}>`;\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a page to build, and vite, which brings esbuild or what has followed it."""
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_update_notifier", "false")
    monkeypatch.setenv("NO_COLOR", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "p", "private": True, "type": "module", "scripts": {"build": "vite build"}}))
    (folder / "index.html").write_text('<!doctype html><title>t</title><script type="module" src="main.js"></script>\n')
    (folder / "main.js").write_text(SOURCE)
    (folder / "element.js").write_text(ELEMENT)
    yield folder
    shutil.rmtree(folder)


def plain(argv, folder):
    """What it says to a pipe, without us: the lines that do not differ from run to run."""
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, lines(done.stdout), lines(done.stderr)


def lines(data):
    return [line for line in data.decode().splitlines() if " in " not in line and "ms" not in line]


@pytest.mark.parametrize("tool", ["vite", "esbuild"])
async def test_what_a_build_says_is_complete(project, tool):
    result = await dtee_async.run(["npm", "install", "--no-audit", "--no-fund", tool], working_dir=project)
    assert result.returncode == 0, result.combined
    assert result.lossless
    assert b"added" in result.stdout
    bundle = ["npx", "esbuild", "main.js", "--bundle", "--outfile=dist/out.js", "--log-level=info"]
    builds = {"vite": [["npm", "run", "build"], ["npx", "vite", "build"]], "esbuild": [bundle, [*bundle[:2], "missing.js"]]}
    for argv in builds[tool]:
        result = await dtee_async.run(argv, working_dir=project)
        expected = plain(argv, project)
        print(argv, result.mode, result.reason, len(result.stdout), len(result.stderr))
        assert result.lossless
        assert result.mode != "ordered"
        assert (result.returncode, lines(result.stdout), lines(result.stderr)) == expected
        assert len(result.combined) > 50
