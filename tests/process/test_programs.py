"""What why_lossy claims of a command, and what it does not: each case with files of its own, and the machine's node and npm."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dtee_async
from dtee_async.process.programs import find_program, why_lossy

PACKAGES = Path(dtee_async.__file__).parents[1]
NATIVE = b"\x7fELF\x02\x01\x01\0 no script"


def put(path, text="#!/bin/sh\n", mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return str(path)


@pytest.fixture
def bin(tmp_path):
    """A folder with env, sh, a native program and a fake node: all that PATH has here."""
    folder = tmp_path / "bin"
    for name in ("env", "sh", "native", "node"):
        put(folder / name, NATIVE)
    return folder


@pytest.fixture
def why(bin, tmp_path):
    return lambda *argv: why_lossy(argv, {"PATH": str(bin)}, str(tmp_path))


@pytest.fixture
def why_in_shell(why):
    return lambda string: why("/bin/sh", "-c", string)


# Where a program is found.


def test_the_first_folder_of_path_that_can_execute_it_has_it(tmp_path):
    put(tmp_path / "b/tool", mode=0o644)
    (tmp_path / "c/tool").mkdir(parents=True)
    link(tmp_path / "d/tool", "nowhere")
    found = put(tmp_path / "e/tool")
    put(tmp_path / "f/tool")
    path = ":".join(str(tmp_path / name) for name in "abcdef")
    assert find_program("tool", {"PATH": path}, None) == found
    assert find_program("other", {"PATH": path}, None) is None


def test_a_name_with_a_slash_is_itself_in_the_working_directory(tmp_path):
    found = put(tmp_path / "sub/tool")
    put(tmp_path / "sub/data", mode=0o644)
    for name in ("sub/tool", "./sub/tool", found):
        assert find_program(name, {"PATH": "/nowhere"}, str(tmp_path)) == name
    assert find_program("tool", {"PATH": "/nowhere"}, str(tmp_path / "sub")) is None
    assert find_program("sub/data", {}, str(tmp_path)) is None
    assert find_program("sub", {}, str(tmp_path)) is None
    assert find_program("./sub", {}, str(tmp_path)) is None


@pytest.mark.parametrize("path", ["", ":/nowhere", "/nowhere:", ".", "sub/.."])
def test_folders_of_path_may_be_relative_or_empty(tmp_path, monkeypatch, path):
    put(tmp_path / "tool")
    (tmp_path / "sub").mkdir()
    for working_dir in (str(tmp_path), "."):
        monkeypatch.chdir("/" if working_dir != "." else tmp_path)
        found = find_program("tool", {"PATH": path}, working_dir)
        assert found is not None
        assert "/" in found  # else whoever runs it would look in PATH again
        assert os.path.samefile(tmp_path / found, tmp_path / "tool")


def test_without_a_working_directory_it_is_ours(tmp_path, monkeypatch):
    put(tmp_path / "tool")
    monkeypatch.chdir(tmp_path)
    assert find_program("./tool", {}, None) == "./tool"


def test_without_path_it_is_the_default_and_without_an_environment_ours(bin, monkeypatch):
    assert find_program("sh", {}, None) in {"/bin/sh", "/usr/bin/sh"}
    assert find_program("native", {}, None) is None
    monkeypatch.setenv("PATH", str(bin))
    assert find_program("native", None, None) == str(bin / "native")
    monkeypatch.delenv("PATH")
    assert find_program("sh", None, None) in {"/bin/sh", "/usr/bin/sh"}


@pytest.mark.parametrize("name", ["", "a\0b", "/bin/sh\0", "\ud800", "x" * 5000, "/", ".", "/bin/", "/bin/sh/"])
def test_what_cannot_be_a_program_is_not_found(name):
    assert find_program(name, None, None) is None


def test_it_finds_what_execvp_finds(tmp_path):
    """The child of spawn: subprocess looks in the PATH of the environment that it gives."""
    put(tmp_path / "a/tool", "#!/bin/sh\necho a\n", 0o644)
    put(tmp_path / "b/tool", "#!/bin/sh\necho b\n")
    environment = {"PATH": "a:b"}
    output = subprocess.run(["tool"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout
    assert output == b"b\n"
    assert find_program("tool", environment, str(tmp_path)) == "b/tool"


# The executable.


def test_node_itself(why):
    assert why("node", "-e", "1") == why("node") == why("./bin/node") == why("/opt/node/bin/node") == "runs node"


@pytest.mark.parametrize("name", ["nodejs", "node20", "node-20", "node22.1", "nodejs18"])
def test_node_by_other_names(why, name):
    assert why(name) == f"runs {name}"


@pytest.mark.parametrize("name", ["nodemonitor", "node_exporter", "nodeenv", "bun", "deno", "node-gypsy", "native"])
def test_other_names_are_not_node(why, bin, name):
    put(bin / name, NATIVE)
    assert why(name) is None


def test_node_behind_links(why, bin):
    link(bin / "js", "alternative")
    link(bin / "alternative", "node")
    assert why("js") == "runs node"
    link(bin / "other", "native")
    assert why("other") is None


def test_a_script_of_node_behind_a_link(why, bin, tmp_path):
    put(tmp_path / "lib/tool/cli.js", "#!/usr/bin/env node\nconsole.log(1)\n")
    link(bin / "sometool", "../lib/tool/cli.js")
    assert why("sometool", "build") == "runs node"


@pytest.mark.parametrize(
    "line",
    [
        "#!{bin}/node",
        "#! \t {bin}/node \t",
        "#!{bin}/node --harmony",
        "#!bin/node",
        "#!/nowhere/node",
        "#!/usr/bin/env node",
        "#!{bin}/env node",
        "#!/usr/bin/env -S node --flag",
        "#!/usr/bin/env -Snode --flag",
        "#!/usr/bin/env -S VAR=1 OTHER= node",
        "#!/usr/bin/env -S -u NODE_OPTIONS node",
        "#!/usr/bin/env -vS node -x",
        "#!/usr/bin/env -S nice -n 5 node",
    ],
)
def test_what_the_first_line_of_a_script_runs(why, bin, line):
    put(bin / "tool", line.format(bin=bin) + "\nrest\n")
    assert why("tool") == "runs node"
    put(bin / "tool", line.format(bin=bin))  # no newline at its end
    assert why("tool") == "runs node"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!",
        "#!\n",
        "#! \n/usr/bin/env node\n",
        "#!/bin/sh node\n",
        "#!/usr/bin/env\nnode",
        "#!/usr/bin/env bun\n",
        "#!/usr/bin/env -S deno run\n",
        "#!/usr/bin/env -S\n",
        "#!/usr/bin/env node --flag\n",  # env looks for a program with a blank in its name
        "#!/usr/bin/env node\r\n",
        "#!native\n",
        "#!/usr/bin/awk -f\nnode\n",
        b"#!\0\xff\xfe /usr/bin/env node\n",
        b"#!/usr/bin/env \xff\n",
        b"node\n\0",
        "#!" + "x" * 5000 + "/node\n",
    ],
)
def test_scripts_of_others(why, bin, text):
    put(bin / "tool", text)
    assert why("tool") is None


def test_interpreters_that_are_scripts(why, bin):
    put(bin / "one", f"#!{bin}/node\n")
    put(bin / "two", f"#!{bin}/one\n")
    put(bin / "three", "#!/usr/bin/env two\n")
    assert why("three") == "runs node"


def test_scripts_that_run_each_other_end(why, bin):
    put(bin / "one", f"#!{bin}/two\n")
    put(bin / "two", f"#!{bin}/one\n")
    put(bin / "self", "#!/usr/bin/env self\n")
    put(bin / "nice", "#!/usr/bin/env nice\n")
    put(bin / "shell", "#!/bin/sh\nshell; self; nice shell  # node\n")
    for name in ("one", "self", "nice", "shell"):
        assert why(name) is None
    link(bin / "loop", "loop")
    assert why("loop") is None


@pytest.mark.parametrize("text", ["#!/bin/sh\nexec $X cli.js\n", "#!/usr/bin/env bash\n", NATIVE])
def test_tools_that_always_are_node_are_known_by_name_behind_a_wrapper(why, bin, text):
    put(bin / "npm", text)
    assert why("npm", "ci") == why("./bin/npm") == "runs npm"


def test_a_tool_that_may_be_native_is_known_by_its_file(why, bin):
    put(bin / "esbuild", NATIVE)
    assert why("esbuild") is None
    put(bin / "esbuild", "#!/bin/sh\nexec $X cli.js\n")
    assert why("esbuild") == "runs esbuild"
    put(bin / "esbuild", "#!/usr/bin/env node\n")
    assert why("esbuild") == "runs node"


def test_a_program_that_may_be_run_but_not_read(why, bin):
    """As root it can be read nevertheless: then it is a script of a shell."""
    put(bin / "npm", mode=0o111)
    put(bin / "tool", mode=0o111)
    assert why("npm") == "runs npm"
    assert why("tool") is None


# Programs that run another one.


@pytest.mark.parametrize(
    "words",
    [
        "env node",
        "/usr/bin/env node",
        "env -i PATH=bin node",
        "env -i A=b PATH=bin node",
        "env - PATH=bin node",
        "env -u A -u B C=d node",
        "env -uA --unset B --unset=C node",
        "env -C / node",
        "env A=b C= node",
        "env -- A=b node",
        "nice node",
        "nice -n 5 node",
        "nice -n5 node",
        "nice -5 node",
        "nice --adjustment 5 node",
        "nice --adjustment=5 node",
        "ionice -c 2 -n 7 node",
        "ionice -c3 node",
        "nohup node",
        "timeout 10 node",
        "timeout -k 5 -s KILL 10 node",
        "timeout --foreground --kill-after=5 --signal TERM 10s node",
        "timeout -vk5 10 node",
        "stdbuf -oL -e0 -i 0 node",
        "stdbuf --output=L --error 0 node",
        "setsid -w node",
        "time -p node",
        "/usr/bin/time -f %e -o log node",
        "taskset -c 0-3 node",
        "flock -n /tmp/lock node",
        "flock -w 5 /tmp/lock node",
        "sudo -u app -H A=b node",
        "sudo -nE node",
        "doas -u app node",
        "xargs -0 -n 1 -P4 node",
        "xargs -I {} node {}",
        "tini -s -- node",
        "dumb-init node",
        "gosu app node",
        "exec -a other node",
        "sudo -Eu app -- node",
        "sudo -uapp --group=app node",
        "env --unknown node",
        "busybox nice node",
        "nice nohup timeout 5 env A=b setsid node",
    ],
)
def test_what_runs_another_program(why, words):
    assert why(*words.split(" "), "script.js") == "runs node"


@pytest.mark.parametrize("string", ["node", " node  x.js ", "A=b 'node' --x", "-u A node", "-S node", "-i PATH=bin node", "nice -n 5 node"])
def test_env_splits_a_string(why, string):
    assert why("env", "-S", string, "y") == "runs node"
    assert why("env", f"-vS{string}") == "runs node"


@pytest.mark.parametrize(
    "words",
    [
        "env",
        "env -i",
        "env A=node",
        "env native node",
        "env -u A native node",
        "nice",
        "nice -n 5",
        "nice -n 5 native node",
        "timeout",
        "timeout 10 native node",
        "timeout 10 make node",
        "stdbuf -oL ./bin/native node",
        "flock 9",
        "sudo -u app native node",
        "sudo grep node",
        "sudo apt install node npm",
        "xargs native node",
        "time sh -c true node",
        "command -v node",
        "command -V node",
        "native node",
        "native npm",
        "grep node",
        "nohup",
        "nohup --help",
    ],
)
def test_an_operand_is_not_the_program(why, words):
    assert why(*words.split(" ")) is None


def test_a_value_of_an_option_is_taken_for_the_program_only_if_it_is_one(why, bin):
    """So it is where another program's name is the value of an option. The options of those who run others are not known to us."""
    put(bin / "apt")
    assert why("sudo", "apt", "install", "npm") is None
    assert why("sudo", "-u", "node", "native") == "runs node"
    assert why("env", "-C", "bin", "./native") is None


# Shells.


@pytest.mark.parametrize(
    "words",
    [
        "sh -c",
        "bash -c",
        "/bin/bash -lc",
        "bash -ec",
        "bash -e -c",
        "bash -euo pipefail -c",
        "bash -o pipefail -c",
        "bash +o posix -c",
        "bash -O extglob -c",
        "bash --norc --rcfile x -c",
        "sh -c --",
        "dash -c",
        "zsh -fc",
        "/opt/bin/ksh -c",
        "env A=b sh -c",
        "timeout 5 bash -c",
        "busybox sh -c",
        "flock -n lock -c",
        "flock lock sh -c",
        "su app -c",
        "su - -s /bin/sh app -c",
        "eval",
    ],
)
def test_where_a_shell_has_its_string(why, words):
    assert why(*words.split(" "), "native; npm ci", "x") == "runs npm"
    assert why(*words.split(" "), "native npm", "x") is None


@pytest.mark.parametrize(
    "words",
    ["sh", "sh -", "sh -c", "sh npm", "sh -e npm", "sh script -c npm", "bash -o npm", "bash --rcfile npm", "sh -x npm -c npm", "su npm"],
)
def test_a_shell_without_a_string(why, words):
    assert why(*words.split(" ")) is None


@pytest.mark.parametrize(
    "string",
    [
        "npm ci",
        "  npm ci",
        "\n\tnpm ci\n",
        "true;npm ci",
        "true ; npm ci",
        "true & npm ci",
        "true&&npm ci",
        "true || npm ci",
        "true | npm ci",
        "true |& npm ci",
        "true\nnpm ci",
        "(npm ci)",
        "( cd x; npm ci )",
        "{ npm ci; }",
        "! npm ci",
        "if npm ci; then true; fi",
        "if true; then npm ci; fi",
        "if true; then :; elif npm ci; then :; fi",
        "if false; then true; else npm ci; fi",
        "for x in a b; do npm ci; done",
        "while npm ci; do true; done",
        "until npm ci\ndo true\ndone",
        "case x in\nx) npm ci;;\nesac",
        "f() { npm ci; }; f",
        "A=b npm ci",
        "A=b C='d e' npm ci",
        "A+=b npm ci",
        "exec npm ci",
        "time npm ci",
        "time -p npm ci",
        "env A=b npm ci",
        "nohup npm ci &",
        "nice -n 5 npm ci",
        "cd app && exec env A=b npm ci",
        "echo $(npm ci)",
        'echo "$(npm ci)"',
        "A=$(npm ci)",
        'A="x $(true; npm ci) y"',
        "echo `npm ci`",
        'echo "`npm ci`"',
        "echo $(echo $(npm ci))",
        "diff <(npm ci) x",
        "true > >(npm ci)",
        ">log npm ci",
        "2>/dev/null npm ci",
        "2>&1 npm ci",
        "exec 3>&-; npm ci",
        "3>&- npm ci",
        "<in npm ci",
        "npm>log",
        "npm;",
        "'npm' ci",
        '"npm" ci',
        "n'p'\"m\" ci",
        "\\npm ci",
        "./node_modules/.bin/npm ci",
        "../x/node_modules/.bin/npm",
        "/opt/npm ci",
        '"$HOME"/bin/npm ci',
        "$HOME/bin/npm ci",
        "${BIN:-/usr/bin}/npm ci",
        "~/bin/npm ci",
        "echo it\\'s; npm ci",
        "echo 'a;b' \"c;d\"; npm ci",
        'echo "a\\"b"; npm ci',
        "echo a#b; npm ci",
        "echo $#; npm ci",
        "echo ${#x}; npm ci",
        "# don't\nnpm ci",
        "true # npm is next: don't\nnpm ci",
        "true \\\n&& npm ci",
        "timeout 5 sh -c 'npm ci'",
        "bash -c \"sh -c 'npm ci'\"",
        "eval 'npm ci'",
        "eval npm ci",
        "trap 'npm ci' EXIT",
        "find . -print0 | xargs -0 npm ci",
        "cat <<EOF\ndon't\nEOF\nnpm ci",
        "cat <<'EOF' >x\n\"\nEOF\nnpm ci",
        "cat <<-EOF\n\tdon't\n\tEOF\nnpm ci",
        "cat <<A <<B\ndon't\nA\nit's\nB\nnpm ci",
        "cat <<EOF; npm ci\nEOF",
        "cat <<EOF && npm ci\ndon't\nEOF",
        "bash <<EOF\nnpm ci\nEOF",
        "sudo -u app /bin/bash -s >log <<EOF\nnpm ci\nEOF",
        "cat <<EOF | sh\nnpm ci\nEOF",
        "cat <<EOF\nsh\nEOF\nnpm ci",
        "f() (npm ci)",
        "function f {\nnpm ci\n}",
        "f ()\n{\nnpm ci\n}",
        "case x in (x) npm ci;; esac",
        "case x in x|y) npm ci;; esac",
        "case x in\nx)\nnpm ci\n;;\nesac",
        "cat <<< word; npm ci",
        "echo $((1 + 2)); npm ci",
        "echo $'a'; npm ci",
        "true;" * 40 + "npm ci",
        "native;" * 40 + "npm ci",
    ],
)
def test_where_a_command_can_stand(why_in_shell, string):
    assert why_in_shell(string) == "runs npm"


@pytest.mark.parametrize(
    "string",
    [
        "",
        " ",
        "true",
        "echo npm",
        "echo 'npm'",
        "echo ; true npm",
        "echo a\\; npm",
        "echo 'a; npm'",
        'echo "a; npm"',
        'echo "a\\"; npm"',
        "echo '$(npm)'",
        "# npm",
        "true # ; npm",
        "true #\n# && npm\n",
        "npm=1",
        "A=npm true",
        "A=npm",
        "npmrc",
        "npm.sh",
        "./npm/run",
        "cd npm",
        "cd node && make",
        "test -x node",
        "[ -x node ]",
        "which npm",
        "command -v npm",
        "type node",
        "for x in node npm; do true; done",
        "case node in x) true;; esac",
        "apt-get install -y nodejs npm",
        "sudo apt-get install nodejs",
        "git commit -m 'x\n npm'",
        "true > npm",
        "true >npm 2>node",
        "true < node",
        "2>npm true",
        "echo \\\nnpm",
        "make next serve ng",
        "echo ${x:-npm}",
        "echo ${x:-; npm}",
        "nice -n 5 make node",
        "make -C node",
        "timeout 5 native node",
        "exec 9>node",
        "exec",
        "$NODE x.js",
        "$(true) npm",
        "docker run node",
        "bun run next",
        "deno run npm:vite",
        "cat <<EOF\nnpm ci\nEOF",
        "cat <<'EOF' >x\nnpm ci; npm ci\nEOF\n",
        "sh x\ncat <<EOF\nnpm ci\nEOF",
        "cat <<EOF\nnpm ci\n",
        "npm() { true; }",
        "npm () { true; }",
        "case x in\nnpm)\ntrue;;\n  node) ;;\nesac",
        "true || command -v npm",
    ],
)
def test_where_a_word_is_no_command(why_in_shell, string):
    assert why_in_shell(string) is None


@pytest.mark.parametrize(
    "name",
    [
        "nodejs",
        "npx",
        "yarn",
        "yarnpkg",
        "pnpm",
        "pnpx",
        "corepack",
        "vite",
        "vitest",
        "tsc",
        "tsx",
        "ts-node",
        "webpack",
        "rollup",
        "parcel",
        "next",
        "nuxt",
        "astro",
        "eslint",
        "prettier",
        "jest",
        "mocha",
        "nodemon",
        "gulp",
        "grunt",
        "ng",
        "turbo",
        "nx",
        "lerna",
        "http-server",
        "serve",
        "esbuild",
    ],
)
def test_tools_by_name(why_in_shell, name):
    assert why_in_shell(f"cd x && {name} build") == f"runs {name}"
    assert why_in_shell(f"echo {name}; true {name}") is None


def test_words_of_a_string_are_looked_up_in_path(why_in_shell, bin):
    put(bin / "sometool", "#!/usr/bin/env node\n")
    assert why_in_shell("native; sometool") == "runs node"
    assert why_in_shell("native sometool") is None
    assert why_in_shell("nice -n 5 sometool") == "runs node"
    assert why_in_shell("nice native sometool") is None


def test_only_some_words_are_looked_up_but_names_are_known(why_in_shell, bin):
    put(bin / "sometool", "#!/usr/bin/env node\n")
    assert why_in_shell("native;" * 100 + "sometool") is not None
    some = "".join(f"native{number};" for number in range(10))
    many = "".join(f"native{number};" for number in range(100))
    assert why_in_shell(some + "sometool") is not None
    assert why_in_shell(many + "sometool") is None
    assert why_in_shell(many + "esbuild") is not None


def test_a_native_tool_in_a_string_is_none(why_in_shell, bin):
    put(bin / "esbuild", NATIVE)
    assert why_in_shell("esbuild x.js") is None


# Shell scripts.


@pytest.fixture
def why_in_script(why, tmp_path):
    def of(text, *argv):
        put(tmp_path / "script", text)
        return why(*(argv or ["./script"]))

    return of


@pytest.mark.parametrize(
    "first", ["#!/bin/sh", "#!/bin/bash -e", "#! /usr/bin/env bash", "#!/usr/bin/env -S bash -eu -o pipefail", "#!{bin}/sh -x", ""]
)
def test_a_shell_script_is_read(why_in_script, bin, first):
    assert why_in_script(first.format(bin=bin) + "\nset -e\nnpm ci\n") == "./script runs npm"
    assert why_in_script(first.format(bin=bin) + "\nset -e\nmake >/dev/stderr\n") == "./script opens /dev/stderr"
    assert why_in_script(first.format(bin=bin) + "\nset -e\necho npm\n") is None


@pytest.mark.parametrize(
    "words",
    [
        ["./script"],
        ["nohup", "./script"],
        ["sh", "script", "ci"],
        ["bash", "-e", "./script"],
        ["bash", "-euo", "pipefail", "script"],
        ["bash", "--norc", "-x", "script"],
        ["/bin/zsh", "--", "script"],
        ["env", "A=b", "sh", "script"],
        ["sudo", "-u", "app", "timeout", "5", "dash", "script"],
        ["sh", "-c", "true; ./script x"],
        ["bash", "-c", "cd x; nice sh script"],
    ],
)
def test_where_a_script_is_named(why_in_script, words):
    assert (why_in_script("npm ci", *words) or "").endswith("script runs npm")
    assert why_in_script("echo npm", *words) is None


def test_a_script_is_found_as_the_shell_finds_it(why, bin, tmp_path):
    put(tmp_path / "sub/script", "npm", mode=0o644)
    put(bin / "tool", "#!/bin/sh\nyarn\n")
    assert why("sh", "sub/script") == "sub/script runs npm"
    assert why_lossy(["sh", "script"], {"PATH": str(bin)}, str(tmp_path / "sub")) == "script runs npm"
    assert why("tool") == f"{bin}/tool runs yarn"
    assert why("./sub/script") is None  # it cannot be run


def test_relative_folders_are_those_of_the_working_directory(bin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "sub/bin/tool", "#!/bin/sh\nnpm ci\n")
    put(tmp_path / "sub/bin/other", "#!/usr/bin/env node\n")
    for working_dir in ("sub", str(tmp_path / "sub")):
        assert why_lossy(["tool"], {"PATH": "bin"}, working_dir) == "bin/tool runs npm"
        assert why_lossy(["./bin/tool"], {"PATH": ""}, working_dir) == "./bin/tool runs npm"
        assert why_lossy(["other"], {"PATH": "bin"}, working_dir) == "runs node"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/sh\n# npm\n",
        "#!/bin/sh\ncommand -v node >/dev/null || exit 1\n",
        "#!/bin/sh\napt-get install -y \\\n  git \\\n  npm\n",
        "#!/bin/sh\necho 'usage:\n  npm install\n  '\n",
        '#!/bin/sh\necho "usage:\n\n  npm install\n"\n',
        "#!/bin/sh\ncat <<EOF\nnpm install\nEOF\n",
        "#!/bin/sh\nif true; then\n\tcat <<-'EOF'\n\t\tdon't\n\t\tnpm install\n\tEOF\nfi\n",
        "#!/bin/sh\nPATH=node_modules/.bin:$PATH\n",
        "#!/bin/sh\nexec 2>&1 </dev/stdin\n",
        b"#!/bin/sh\nnpm ci\n\0\n",
        b"\x7fELF\0\nnpm ci\n",
        "#!/bin/sh\n" + "# nothing\n" * 2000 + "npm ci\n",
    ],
)
def test_a_script_that_runs_none(why_in_script, text):
    assert why_in_script(text) is None
    assert why_in_script(text, "sh", "-e", "script") is None


@pytest.mark.parametrize(
    "text",
    [
        "# don't\nnpm ci",
        '# say "\nnpm ci',
        "echo 'a\nb c\n'; npm ci",
        "echo 'a\nb c\n'\nnpm ci",
        'echo "a\n it\'s\n"\n  npm ci',
        "cat <<EOF\nit's x y\nEOF\nnpm ci",
        "cat <<-EOF\n\tit's x y\n\tEOF\nnpm ci",
        "sudo -u app bash <<'EOF'\n  cd x\n  npm ci\nEOF",
        "build() {\n  cd x || exit 1\n  npm ci\n}\nbuild",
        "if test -e x\nthen\n  echo x y\nelse\n  npm ci\nfi",
        "exec \\\n  npm ci",
        "make a b \\\n  && npm ci",
        "make a b &&\n  npm ci",
        "x=$(make a b\nnpm ci)",
        "(cd x &&\nnpm ci)",
        "\u00e9 \ufffd; npm ci",
        "set -- a b\nnpm ci" + "\n# don't say \"" * 3000,
    ],
)
def test_lines_of_a_script_that_matter(why_in_script, text):
    assert why_in_script(f"#!/bin/sh\n{text}\n") == "./script runs npm"


def test_bytes_that_are_no_text(why_in_script):
    assert why_in_script(b"#!/bin/sh\necho \xff\xe9; npm\xff; npm ci\n") == "./script runs npm"


def test_a_script_that_is_run_by_a_script_is_not_read(why_in_script, tmp_path):
    put(tmp_path / "inner", "#!/bin/sh\nnpm ci\n")
    assert why_in_script("#!/bin/sh\n./inner node\nsh inner node\n") is None
    assert why_in_script("#!/bin/sh\n./script node\n") is None
    assert why_in_script("", "sh", "-c", "./script; ./inner") == "./inner runs npm"


def test_a_file_that_cannot_be_read_is_no_script(why, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    link(tmp_path / "loop", "loop")
    for name in ("folder", "fifo", "loop", "/dev/tty", "/proc/self/mem", "not-there", "a\0b", "", "x" * 5000):
        assert why("sh", name) is None


def test_a_tool_behind_a_wrapper_of_the_shell(why, bin):
    put(bin / "tool", '#!/bin/sh\nbasedir=$(dirname "$(echo "$0" | sed -e \'s,\\\\,/,g\')")\nexec node  "$basedir/../tool/cli.js" "$@"\n')
    assert why("tool") == f"{bin}/tool runs node"


# Streams that are opened by their path.

STREAMS = [
    "/dev/stdout",
    "/dev/stderr",
    "/dev/fd/1",
    "/dev/fd/2",
    "/dev/fd/3",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
    "/proc/thread-self/fd/1",
    "/proc/$$/fd/1",
]
NO_STREAMS = [
    "/dev/stdin",
    "/dev/fd/0",
    "/proc/self/fd/0",
    "/dev/fd",
    "/dev/fd/",
    "/dev/null",
    "/dev/stdout.log",
    "/dev/stderrs",
    "/chroot/dev/stdout",
    "/proc/1/fd/1",
]
NO_STREAMS += ["/proc/self/fd", "/x/fd/1", "/proc/a/b/fd/1", "/dev/fd/1/x", "x/dev/stderr"]


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("word", ["{}", "--log={}", "of={}", "-o{}", "--x=y={}"])
def test_a_word_that_opens_a_stream(why, path, word):
    assert why("native", "x", word.format(path)) == f"opens {path}"
    assert why("env", "native", word.format(path)) == f"opens {path}"
    assert why("not-there", word.format(path)) == f"opens {path}"


@pytest.mark.parametrize("path", NO_STREAMS)
@pytest.mark.parametrize("word", ["{}", "--log={}", "of={}", "-o{}"])
def test_a_word_that_opens_none(why, why_in_shell, path, word):
    assert why("native", word.format(path)) is None
    assert why_in_shell(f"native {word.format(path)} >>{path}") is None


@pytest.mark.parametrize("path", STREAMS[1::3])
@pytest.mark.parametrize(
    "string",
    [
        "echo x >{}",
        "echo x >> {}; true",
        "echo x 2>{}",
        "echo x &> {}",
        "true >|{}",
        "true <>{}",
        "exec >{}",
        "tee {}",
        "true | tee '{}'",
        "(true >{})",
        "echo $(true >{})",
        "native --log={}",
        "LOG={} native",
        "LOG={}",
        "dd of={}",
        'true >"{}"',
        'python -c \'open("{}", "w")\'',
        "f() {{ tee {}; }}",
        "cat <<EOF >{}\nx\nEOF",
        "sh <<EOF\necho >{}\nEOF",
        "# no\necho >{}",
        "trap 'echo >{}' EXIT",
        "sh -c 'echo >{}'",
        "time -o {} true",
        "tee x <in {}",
    ],
)
def test_a_string_that_opens_a_stream(why_in_shell, path, string):
    assert why_in_shell(string.format(path)) == f"opens {path}"


@pytest.mark.parametrize("path", STREAMS[1::3])
@pytest.mark.parametrize(
    "string", ["# {}", "true # >{}", "read x <{}", "read x < {}; true", "cat <'{}'", "echo x{}y", "true {}.log", "sh -c 'read x <{}'"]
)
def test_a_string_that_opens_none(why_in_shell, path, string):
    assert why_in_shell(string.format(path)) is None


def test_code_in_a_word_opens_it_but_awk_and_sed_do_that_by_themselves(why, why_in_shell):
    assert why("python3", "-c", "open('/dev/stderr', 'w')") == "opens /dev/stderr"
    assert why("awk", '{print > "/dev/stderr"}') is None
    assert why("sed", "-n", "w /dev/stdout") is None
    assert why_in_shell("""awk '{print > "/dev/stderr"}'; sed -n "w /dev/stdout" x""") is None
    assert why_in_shell("""awk '{print}' > /dev/stderr""") == "opens /dev/stderr"


# Whatever it is given.


def test_nothing_to_run(why):
    assert why() is None
    assert why("") is None
    assert why("", "npm") is None


def test_a_working_directory_that_is_not_there(bin):
    put(bin / "tool", "#!/usr/bin/env node\n")
    for working_dir in ("/nowhere", "a\0b"):
        assert why_lossy(["./tool"], {"PATH": str(bin)}, working_dir) is None
        assert why_lossy(["tool"], {"PATH": str(bin)}, working_dir) == "runs node"


SHELL_PIECES = [
    "npm",
    "node",
    "env",
    "-S",
    "-c",
    "sh",
    "timeout",
    "xargs",
    "eval",
    "flock",
    "/dev/stdout",
    "/fd/1",
    "/proc/",
    "<<",
    "EOF",
    "A=b",
]
SHELL_TEXT = st.lists(
    st.one_of(st.sampled_from(SHELL_PIECES), st.sampled_from(list(" \t\n;&|(){}<>$`'\"\\#=-!/\0\udcff"))), max_size=40
).map("".join)
ANY_TEXT = st.one_of(
    SHELL_TEXT,
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.binary(max_size=20).map(os.fsdecode),
)
ANY_WORD = st.one_of(ANY_TEXT, st.sampled_from([*SHELL_PIECES, "-u", "-", "--", "-n", "bash", "su", "trap", "awk", "sudo"]))


@settings(deadline=None)
@given(st.lists(ANY_WORD, max_size=6), st.one_of(st.none(), ANY_TEXT))
@example(["env", "-S", "env -S env -S"], None)
@example(["sh", "-c", "(" * 5000], None)
@example(["sh", "-c", "$(" * 5000], None)
@example(["sh", "-c", '"$(' * 5000], None)
@example(["sh", "-c", '"`' * 5000], None)
@example(["sh", "-c", "${" * 5000 + "<<" * 5000], None)
@example(["sh", "-c", "".join(f"cat <<E{n}\n" for n in range(3000))], None)
@example(["sh", "-c", "".join(f"<<E{n} " for n in range(3000)) + "\n"], None)
@example(["sh", "-c", "\\"], None)
@example(["sh", "-c", "'"], None)
@example(["sh", "-c", '"\\'], None)
@example(["sh", "-c"] * 1000, None)
@example(["nice"] * 5000, None)
@example(["su", "-c"], None)
@example(["trap"], None)
@example(["-c"], "/")
def test_it_never_raises(argv, working_dir):
    reason = why_lossy(argv, {"PATH": "/bin:\0"}, working_dir)
    assert reason is None or reason.startswith(("runs ", "opens /"))


@settings(deadline=None)
@given(SHELL_TEXT)
def test_a_string_never_hides_the_line_after_its_quotes_are_closed(text):
    """What comes after a whole command of its own is seen, whatever stood inside single quotes before."""
    quoted = text.replace("'", "")
    assert why_lossy(["sh", "-c", f"echo '{quoted}'\nnpm ci"], {"PATH": ""}, None) is not None


@settings(deadline=None)
@given(SHELL_TEXT)
def test_what_is_quoted_for_echo_is_never_claimed(text):
    quoted = text.replace("'", "")
    assert why_lossy(["sh", "-c", f"echo '{quoted}' npm"], {"PATH": ""}, None) is None or "/dev/std" in text or "/fd/" in text


@pytest.mark.parametrize(
    "piece", ["a ", "a;", "${", "<<A\n", "<<A ", "$(", "(", "`", '"', "'\"", "\\", '"$(', "! ", "x=1 ", "env -S ", "nice ", "eval "]
)
def test_a_long_string_takes_time_in_proportion_to_its_length(piece):
    """Also where nothing is ever closed; 128 KiB is the longest word that there can be. 10 times what it takes, for a busy machine."""
    string = piece * (131072 // len(piece))
    start = time.process_time()
    why_lossy(["sh", "-c", string], {"PATH": ""}, None)
    assert time.process_time() - start < 3


def test_it_brings_nothing_along():
    """It is imported and used at the start of every command."""
    script = f"""
import sys
sys.path.insert(0, {str(PACKAGES)!r})
from dtee_async.process.programs import why_lossy
why_lossy(["sh", "-c", "true; npm"], None, None)
print(*({{"re", "shlex", "pathlib", "dataclasses", "subprocess", "shutil", "typing", "signal"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-I", "-S", "-c", script], stdout=subprocess.PIPE, check=True).stdout == b"\n"


# The machine's own.


def test_the_real_node_and_npm(tmp_path):
    for name in ("npm", "npx"):
        link(tmp_path / f"my{name}", subprocess.check_output(["which", name], text=True).strip())
        assert why_lossy([name, "--version"], None, None) == f"runs {name}"
        assert why_lossy([f"./my{name}", "--version"], None, str(tmp_path)) == "runs node"
    assert why_lossy(["/bin/sh", "-c", "npm --version"], None, None) == "runs npm"


@pytest.mark.parametrize(
    "argv",
    [
        ["true"],
        ["make", "-j2"],
        ["ls", "-l"],
        ["/bin/sh", "-c", "echo a; ls | sort >&2"],
        ["env"],
        ["/bin/echo", "npm"],
        [sys.executable, "-c", "1"],
    ],
)
def test_the_machines_plain_commands(argv):
    assert why_lossy(argv, None, None) is None
