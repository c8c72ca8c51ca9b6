"""The documentation site: it builds without a warning, and its pages say what the code says. Their examples are run by test_readme.py."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dtee_async
from dtee_async import testing, zerocopy
from dtee_async.cli.options import OPTIONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = load(ROOT / "scripts/docs.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with the site."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs mkdocs: make docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_a_page_for_each_of_docs(site):
    for path in DOCS.glob("*.md"):
        assert (site / ("index.html" if path.stem == "index" else f"{path.stem}/index.html")).is_file()
    assert not (site / "man").exists()


def test_the_site_has_the_examples_that_pages_link_to(site):
    linked = "repository/examples/stack/jobs.toml"
    assert (site / linked).read_bytes() == (ROOT / "examples/stack/jobs.toml").read_bytes()
    assert f'href="../{linked}"' in (site / "jobs/index.html").read_text()


def test_the_page_of_the_options_is_what_the_table_says():
    assert docs.PAGE.read_text() == docs.options_page(), "run 'make docs'"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.long)
def test_the_page_of_the_options_has_each_with_its_words(option):
    row = next(line for line in docs.options_page().splitlines() if line.startswith("| `") and re.search(rf"`--{option.long}[=`]", line))
    assert option.help in row
    assert all(f"`{choice}`" in row for choice in option.choices)
    assert row.rstrip(" |").endswith("yes") == option.cronty


PUBLIC = [
    *((dtee_async, name) for name in dtee_async.__all__),
    *((zerocopy, name) for name in zerocopy.__all__ if name != "FileDescriptorLike"),
    *((testing, name) for name in vars(testing) if callable(getattr(testing, name)) and not name.startswith("_")),
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_the_reference_has_every_public_name(site, module, name):
    page = (site / "reference/index.html").read_text()
    places = {f"{module.__name__}.{name}", f"{getattr(module, name).__module__}.{name}"}
    assert any(f'id="{place}"' in page for place in places), "add it to docs/reference.md"


def test_the_comparison_has_what_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    library = importlib.import_module("benchmarks.library")
    page = (DOCS / "comparison.md").read_text()
    for name in (*library.CONTENDERS.values(), *library.TASKS.values()):
        assert name in page, f"{name}: run 'make bench ARGS=library', and paste its table"
