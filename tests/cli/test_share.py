"""What is installed below share/: made from the option table, complete, accepted by its readers, and in the wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dtee_async.cli.options import OPTIONS

ROOT = Path(__file__).parent.parent.parent
SHARE = ROOT / "share"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


share = load(ROOT / "scripts/share.py")
FILES = share.share()
AGAIN = "run 'make share'"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_the_table_says(name):
    assert (SHARE / name).read_text() == FILES[name], AGAIN


def test_no_other_file_is_there():
    assert {str(path.relative_to(SHARE)) for path in SHARE.rglob("*") if path.is_file()} == FILES.keys(), AGAIN


@pytest.mark.parametrize("name", FILES)
def test_every_option_of_the_table_is_there_and_those_of_the_other_program_are_not(name):
    text = FILES[name].replace("\\-", "-")
    for option in OPTIONS:
        # "--log-format", and for fish "-l log-format"
        found = re.search(rf"(--|-l ){option.long}(?![\w-])", text.replace("dtee-async --cron", ""))
        assert bool(found) == (option.cronty or "cronty" not in name), option.long


@pytest.mark.parametrize("prog", share.PROGRAMS)
def test_a_manual_page_says_of_each_option_what_the_help_says(prog):
    page = FILES[f"man/man1/{prog}.1"].replace("\\-", "-")
    for option in OPTIONS:
        if option.cronty or prog == "dtee-async":
            assert f"\n{option.help[0].upper()}{option.help[1:]}.\n" in page


@pytest.mark.parametrize("text", ["plain", "a-b", "back\\slash", ".dot", "'quote"])
def test_text_for_roff_is_no_request(text):
    assert not share.roff(text).startswith((".", "'"))
    assert share.roff(text).replace("\\-", "-").replace("\\e", "\\").removeprefix("\\&") == text


@pytest.mark.parametrize("prog", share.PROGRAMS)
@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_groff_has_nothing_to_say_about_a_manual_page(prog):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", SHARE / f"man/man1/{prog}.1"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_wheel_has_it_all(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "benchmarks", "tests"))
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition(".data/data/share/")[2] for name in names if ".data/data/" in name} == FILES.keys()
    for catalogue in share.catalogues():
        assert str(catalogue.with_suffix(".mo").relative_to(ROOT)) in names


# Completion in bash.

COMPLETE = """
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
function=$(complete -p "$1")
function=${function#*-F }
${function%% *}
printf '%s\\n' "${COMPREPLY[@]}"
"""


NOT_FOR_IT = "[jobs.nobody]\n"
"""On stdin, which a completion is not to read."""


def complete(*words, before=""):
    """What bash offers for the last of the words, as bash divides them. Without bash-completion, which has its own functions."""
    script = SHARE / "bash-completion/completions" / words[0]
    command = ["bash", "-c", before + COMPLETE, "bash", script, *words]
    done = subprocess.run(command, input=NOT_FOR_IT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "abc.log").touch()
    (tmp_path / "a b").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/abcommand").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("prog", share.PROGRAMS)
def test_bash_can_read_it(prog):
    subprocess.run(["bash", "-n", SHARE / "bash-completion/completions" / prog], check=True)


@pytest.mark.parametrize("prog", share.PROGRAMS)
def test_bash_offers_every_option(prog):
    assert complete(prog, "-") == {each for o in OPTIONS if o.cronty or prog == "dtee-async" for each in share.spellings(o)}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--out-"], {"--out-append", "--out-overwrite"}),
        (["-i", "--out-a"], {"--out-append"}),
        (["-o", "a"], {"abc.log", "a b"}),
        (["-io", "abc"], {"abc.log"}),
        (["-oabc"], {"-oabc.log"}),
        (["--jobs", "abc"], {"abc.log"}),
        (["--jobs", "=", "abc"], {"abc.log"}),
        (["--jobs", "="], {"abc.log", "a b", "bin"}),
        (["--jobs", "jobs.toml", "--jobs", "abc"], {"abc.log"}),
        (["--procfile", "abc"], {"abc.log"}),
        (["--loop", ""], {"uvloop", "asyncio"}),
        (["-j", ""], set()),
        (["-j"], {"-j"}),
        (["-ja"], set()),
        (["--max-parallel", "=", "4"], set()),
        (["--loop", "=", "u"], {"uvloop"}),
        (["--capture", ""], {"auto", "ordered", "turnstile", "pipe", "pty"}),
        (["--capture", "=", "t"], {"turnstile"}),
        (["--capture=turnstile", "--watch-fds", ""], {"1-2", "1-9"}),
        (["--watch-fds", "=", "1-9"], {"1-9"}),
        (["--wait-for", "=", "w"], {"writers"}),
        (["-v", "--capture", "pty", "--stderr"], {"--stderr-apart"}),
        (["--capture", "=", "pipe", "--wa"], {"--watch-fds", "--wait-for"}),
        (["--doc"], {"--doctor"}),
        (["--capture", "pipe", "abc"], {"abcommand", "abc.log"}),
        (["--log-format", "=", "json", "--chec"], {"--check"}),
        (["-o", "x", ":", "y", "--chec"], {"--check"}),
        (["abc"], {"abcommand", "abc.log"}),
        (["-o", "abc", "abc"], {"abcommand", "abc.log"}),
        (["--", "abc"], {"abcommand", "abc.log"}),
        (["grep", "-C", "abc"], {"abc.log"}),
        (["grep", "--jo"], set()),
        (["--", "grep", "--jo"], set()),
        (["--", "--jo"], set()),
    ],
)
def test_bash_offers(words, offered, folder):
    assert complete("dtee-async", *words) == offered


JOBS = """
[defaults]
quiet = true
[jobs.web]
command = "true"
[jobs.web.shutdown]
  [jobs.worker-1]
command = "false"
"""
PROCFILE = "# api\nclock: date\nweb_2: true\n"

NAMES = [
    (["--jobs", "jobs.toml", ""], {"web", "worker-1"}),
    (["--jobs", "jobs.toml", "abc"], set()),
    (["--jobs", "jobs.toml", "wo"], {"worker-1"}),
    (["--jobs", "jobs.toml", "--check", "web", "wo"], {"worker-1"}),
    (["--jobs", "jobs.toml", "--", "wo"], {"worker-1"}),
    (["--jobs", "jobs.toml", "--chec"], {"--check"}),
    (["--jobs", "jobs.toml", "web", "--chec"], set()),
    (["--jobs", "jobs.toml", "--", "--chec"], set()),
    (["--jobs", "jobs.toml", "--except", "wo"], {"worker-1"}),
    (["--except", "wo"], set()),
    (["--procfile", "Procfile", ""], {"clock", "web_2"}),
    (["-j2", "--jobs", "jobs.toml", "--jobs", "Procfile", "w"], {"web", "web_2", "worker-1"}),
    (["--jobs", "nothing.toml", ""], set()),
    (["--jobs", "-", ""], set()),
    (["-ojobs.toml", "--jobs=jobs.toml", "wo"], {"worker-1"}),
]


@pytest.fixture
def jobs_folder(folder, tmp_path):
    (tmp_path / "jobs.toml").write_text(JOBS)
    (tmp_path / "Procfile").write_text(PROCFILE)


def divided(words):
    """The words as bash divides them."""
    return [part for word in words for part in re.split("(=)", word)]


@pytest.mark.parametrize(("words", "offered"), NAMES)
def test_bash_offers_the_names_of_jobs(words, offered, jobs_folder, tmp_path):
    (tmp_path / "--checked").touch()
    assert complete("dtee-async", *divided(words), before="_comp_command_offset() { COMPREPLY=(a command); }\n") == offered


@pytest.mark.parametrize(("words", "offered"), NAMES)
@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_fish_offers_the_names_of_jobs(words, offered, jobs_folder):
    script = f"source {SHARE}/fish/vendor_completions.d/dtee-async.fish; complete -C 'dtee-async {' '.join(words)}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], input=NOT_FOR_IT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == offered


ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; fpath=($1 \\$fpath); autoload -U compinit; compinit -u -D"
zpty -w z 'compadd () {
  local -a found
  [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]] || { builtin compadd -O found "$@"; print -rl -- $found >>offered }
  builtin compadd "$@"
}'
zpty -w z 'offer () { zle list-choices; print EN""D }; zle -N offer; bindkey "^I" offer; print REA""DY'
zpty -r z out '*READY*'
zpty -w -n z "$2"$'\\t'
zpty -r z out '*END*'
zpty -d z
"""
"""Types a line and a tab in an interactive zsh; what it adds to its list goes to a file."""


@pytest.mark.parametrize(("words", "offered"), NAMES)
@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_offers_the_names_of_jobs(words, offered, jobs_folder, tmp_path):
    line = " ".join(["dtee-async", *words])
    subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", SHARE / "zsh/site-functions", line], check=True, stdin=subprocess.DEVNULL)
    assert set((tmp_path / "offered").read_text().split("\n")) - {""} == offered


@pytest.mark.parametrize("name", ["_command_offset", "_comp_command_offset"])
@pytest.mark.parametrize(
    ("words", "offset"),
    [(["make", "-"], 1), (["-o", "x", "make", "-"], 3), (["--capture", "=", "pipe", "make", ""], 4), (["--", "-x", "y"], 2)],
)
def test_bash_leaves_the_command_to_its_own_completion(name, words, offset):
    assert complete("dtee-async", *words, before=f"{name}() {{ COMPREPLY=(at $1); }}\n") == {"at", str(offset)}


@pytest.mark.parametrize("name", ["_dtee-async", "_cronty-async"])
def test_zsh_offers_nothing_more_after_what_only_shows_something(name):
    text = FILES[f"zsh/site-functions/{name}"]
    alone = re.findall(r"\(- : \*\)(--[\w-]+)", text)
    assert alone == (["--help", "--version"] if "cronty" in name else ["--doctor", "--schema", "--help", "--version"])


@pytest.mark.parametrize("prog", share.PROGRAMS)
@pytest.mark.parametrize(("shell", "name"), [("zsh", "zsh/site-functions/_{}"), ("fish", "fish/vendor_completions.d/{}.fish")])
def test_the_other_shells_can_read_theirs(shell, name, prog):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", SHARE / name.format(prog)], check=True)
