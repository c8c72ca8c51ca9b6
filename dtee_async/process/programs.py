"""Owns what is known of a command before it runs: where its program is, and whether its output would be lost on a datagram socket.

Node.js writes nothing at all where its stdout or stderr is a datagram socket, and says nothing of it; and no socket can be
opened by a path such as /dev/stderr. Which commands do that can only be guessed, at the start of every command, from a few
files. A false claim costs little, and a missing one may cost the output.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .shellwords import SHELLS, shell_operand, simple_commands, without_keywords

_LOOKS = 16  # at programs and at shell texts, for one command; so deep within each other can they be
_HEAD_BYTES = 256  # of a script, in which the kernel looks for its interpreter
_SCRIPT_BYTES = 16384  # of a shell script, in which we look


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What is written in JavaScript and installed by npm, also where a wrapper in sh or a launcher stands before it.
_NODE_TOOLS = _words("""
    ava bower c8 commitlint concurrently corepack cross-env cypress eslint eslint_d gatsby grunt gulp hexo http-server jest jshint
    karma lerna lessc lint-staged markdownlint mocha netlify nodemon npm npm-run-all npx nuxi nuxt nyc playwright pm2 pnpm pnpx postcss
    prettier prisma react-scripts rimraf rollup semantic-release serverless stylelint svelte-kit terser ts-node ts-node-dev tsc tsup
    tsx typedoc uglifyjs vite vite-node vitest vue-cli-service vue-tsc wait-on webpack webpack-cli webpack-dev-server wrangler
    yarn yarnpkg zx
""")
# The same for names that others have as well: not if the file is there and no script.
_MAYBE_NODE_TOOLS = _words("""
    astro babel biome cdk electron ember esbuild expo nest next ng nx parcel remix sass serve standard storybook swc turbo vercel
""")
# Words of the shell, the `>` of simple_commands(), and programs that nobody writes in JavaScript: not worth a look at files.
_NEVER_NODE = _words("""
    > . : [ [[ alias break case cd command continue declare done echo esac exit export false fi for function getopts hash kill let local
    popd printf pushd pwd read readonly return select set shift source test true type typeset ulimit umask unalias unset wait which
    basename cat chmod chown cp cut date dd df diff dirname du find git grep gzip head hostname id install ln ls make mkdir mktemp mv perl
    ps python python3 readlink rm rmdir rsync seq sleep sort ssh stat tail tar tee touch tr uname uniq wc
""")
# A shell script without any of these is not read: that costs no more than a look at it. The most frequent of all the above.
_NAMES_IN_SCRIPTS = (b"node", b"npm", b"npx", b"yarn", b"/dev/std", b"/fd/")
# What opens /dev/stderr by itself, or has words that are no code: a path inside one of them is not opened, or we read it elsewhere.
_NO_CODE = SHELLS | _words("awk echo eval gawk gsed mawk nawk original-awk printf runuser sed su trap")

# Programs, and words of the shell, that run another one, with our sockets and not with a pipe or a terminal of its own.
_RUNNERS = _words("""
    busybox doas dumb-init env exec flock gosu ionice nice nohup setsid stdbuf su-exec sudo taskset time timeout tini xargs xvfb-run
""")
_KNOWN = SHELLS | _NODE_TOOLS | _MAYBE_NODE_TOOLS | _NEVER_NODE | _RUNNERS

_AROUND_PATHS = str.maketrans(dict.fromkeys("\"'`=,:;()<>[]&|", " "))


def find_program(name: str, environment: Mapping[str, str] | None, working_dir: str | None) -> str | None:
    """Where execvp(3) finds it that is called in this directory, and relative to it; None if it is nowhere.

    ``environment``: whose PATH counts, None for ours.
    """
    path = (os.environ if environment is None else environment).get("PATH", os.defpath)
    for there in [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in path.split(":")]:
        file = _from_here(there, working_dir)
        try:
            if os.access(file, os.X_OK) and os.path.isfile(file):
                return there
        except ValueError:  # a NUL, or what no file name can be encoded from
            continue
    return None


def is_without_interpreter(path: str, working_dir: str | None) -> bool:
    """Whether this is a script without a `#!` line, which execvp(3) has sh run."""
    head = _read(_from_here(path, working_dir), _HEAD_BYTES)
    return not head.startswith(b"#!") and _interpreter(head, path) != []


def why_lossy(argv: Sequence[str], environment: Mapping[str, str] | None, working_dir: str | None) -> str | None:
    """Why output of this command would be lost on a datagram socket, in a few words for a log; None if nothing speaks for it."""
    return _stream_opened(argv) or _Search(environment, working_dir).command(list(argv))


class _Search:
    """The search for what speaks for it: each method tells why, or None."""

    def __init__(self, environment: Mapping[str, str] | None, working_dir: str | None) -> None:
        self._environment = environment
        self._working_dir = working_dir
        self._looks = _LOOKS
        self._found: dict[str, str | None] = {}
        self._innocent: set[str] = set()
        self._in_script = False

    def command(self, argv: list[str]) -> str | None:
        for _ in range(_LOOKS):
            if not argv or argv[0] in _NEVER_NODE or argv[0] in self._innocent:
                break
            base = _base(argv[0])
            if base in SHELLS:
                is_text, operand = shell_operand(argv)
                return self._text(operand) if is_text else self._shell_script(operand)
            if text := _text_for_shell(base, argv):
                return self._text(text)
            if base not in _RUNNERS:
                return self._program(argv[0], base)
            argv = argv[next((at for at in range(1, len(argv)) if self._is_program(argv[at])), len(argv)) :]
        return None

    def _is_program(self, word: str) -> bool:
        """Whether that is what a runner runs, and no option, nor the value of one."""
        if word.startswith("-") or "=" in word:
            return False
        base = _base(word)
        return base in _KNOWN or _is_node(base) or self._find(word) is not None

    def _find(self, name: str) -> str | None:
        if name not in self._found:
            may_look = "$" not in name and self._may_look()
            self._found[name] = find_program(name, self._environment, self._working_dir) if may_look else None
        return self._found[name]

    def _may_look(self) -> bool:
        self._looks -= 1
        return self._looks >= 0

    def _text(self, text: str) -> str | None:
        """In the shell's language."""
        for words in simple_commands(text) if self._may_look() else []:
            if reason := _stream_opened(words) or self.command(without_keywords(words)):
                return reason
        return None

    def _shell_script(self, name: str) -> str | None:
        """In the file that a shell reads, unless another one runs it."""
        if self._in_script or not name:
            return None
        text = os.fsdecode(_lines_that_matter(_read(_from_here(name, self._working_dir), _SCRIPT_BYTES)))
        self._in_script = True
        reason = self._text(text) if text else None
        self._in_script = False
        return f"{name} {reason}" if reason else None

    def _program(self, name: str, base: str) -> str | None:
        """In the name of a program, or in its file."""
        if base in _NODE_TOOLS or _is_node(base):
            return f"runs {base}"
        self._innocent.add(name)  # from now on: scripts may be the interpreters of each other
        path = self._find(name)
        interpreter: list[str] = []
        if path is not None:
            file = _from_here(path, self._working_dir)
            interpreter = _interpreter(_read(file, _HEAD_BYTES), path)
            if reason := self.command(interpreter):
                return reason
            if not interpreter and os.path.islink(file) and _is_node(_base(os.path.realpath(file))):
                return "runs node"
        return f"runs {base}" if base in _MAYBE_NODE_TOOLS and (interpreter or path is None) else None


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _is_node(base: str) -> bool:
    """Also node20, node-20 and nodejs18, as some distributions call them."""
    return base.startswith("node") and not base.removeprefix("node").removeprefix("js").strip("-.0123456789")


def _from_here(path: str, working_dir: str | None) -> str:
    return os.path.join(working_dir, path) if working_dir and not path.startswith("/") else path


def _read(path: str, size: int) -> bytes:
    """The first bytes of a file; none of one that may be run and not read."""
    try:
        with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
            return file.read(size) or b""
    except (OSError, ValueError):
        return b""


def _interpreter(head: bytes, script: str) -> list[str]:
    """What execvp(3) runs for a script, and nothing for another file. The rest of the first line is one argument."""
    if not head.startswith(b"#!"):
        return ["sh", script] if head and b"\0" not in head else []
    line = head[2:].partition(b"\n")[0].strip(b" \t")
    return [os.fsdecode(word) for word in line.split(None, 1)] + [script] if line else []


def _lines_that_matter(script: bytes) -> bytes:
    """Those that name something of interest, and those that may begin or end a string, or a here-document, of several lines."""
    names = [name for name in _NAMES_IN_SCRIPTS if name in script]
    if not names or b"\0" in script:
        return b""
    here_documents = b"<<" in script
    return b"\n".join(
        [
            line
            for line in script.replace(b"\\\n", b" ").split(b"\n")
            if line.count(b"'") & 1
            or line.count(b'"') & 1
            or (here_documents and (b" " not in line or b"<<" in line))
            or any(map(line.__contains__, names))
        ]
    )


def _text_for_shell(base: str, argv: list[str]) -> str:
    """What one who is no shell itself has a shell read, or reads in the same way."""
    if base in ("eval", "trap"):
        return " ".join(argv[1:])
    if base == "env" and len(argv) > 1 and argv[1].startswith(("-S", "-vS")):
        return " ".join(["env", argv[1].partition("S")[2], *argv[2:]])
    return argv[argv.index("-c") + 1] if base in ("flock", "runuser", "su") and "-c" in argv[:-1] else ""


def _stream_opened(words: Sequence[str]) -> str | None:
    """Whether the path of stdout or stderr is one of the words, or in one, as the value of an option or a string in code."""
    text = "\n".join(words)
    if "/dev/std" not in text and "/fd/" not in text:
        return None
    is_code = _NO_CODE.isdisjoint(map(_base, words))
    for word in words:
        for part in word.translate(_AROUND_PATHS).split() if is_code else (word, word.rpartition("=")[2]):
            path = part[2:] if part.startswith("-") else part
            if _is_stream(path):
                return f"opens {path}"
    return None


def _is_stream(path: str) -> bool:
    """Any fd but 0 counts: the others may be copies. /proc/1/fd/1 belongs to somebody else."""
    match path.split("/"):
        case ["", "dev", "stdout" | "stderr"]:
            return True
        case ["", "dev" as process, "fd", fd] | ["", "proc", process, "fd", fd]:
            return not process.isdigit() and fd != "0" and (fd.isalnum() or fd.startswith("$"))
    return False
