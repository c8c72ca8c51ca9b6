"""Makes what is installed below share/, and the message catalogues: ``make share``.

The manual pages and the completions come from the option table of the command line and from docs/man. Neither
argparse-manpage nor shtab can be told that the first word which is no option begins another command: the one leaves
--help out, the other goes on to offer our options inside of that command. The shells themselves can, as for sudo.
"""

from __future__ import annotations

import ast
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dtee_async.cli.options import OPTIONS, Option
from dtee_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from babel.messages.catalog import Catalog

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dtee_async"
PROGRAMS = ("dtee-async", "cronty-async")
MADE = "Made from dtee_async/cli/options.py by 'make share': change that."


def share() -> dict[str, str]:
    """Every file below share/, by its path there."""
    files = {}
    for prog in PROGRAMS:
        options = [option for option in OPTIONS if option.cronty or prog == "dtee-async"]
        files[f"man/man1/{prog}.1"] = manual(prog, options)
        files[f"bash-completion/completions/{prog}"] = bash(prog, options)
        files[f"zsh/site-functions/_{prog}"] = zsh(prog, options)
        files[f"fish/vendor_completions.d/{prog}.fish"] = fish(prog, options)
    return files


# The manual pages.


def manual(prog: str, options: list[Option]) -> str:
    """A manual page: the prose of docs/man, with the options filled in."""
    prose = (ROOT / "docs/man" / f"{prog}.1.in").read_text()
    head = f'.\\" Made from dtee_async/cli/options.py and docs/man/{prog}.1.in by "make share": change those.\n'
    head += f'.TH {roff(prog.upper())} 1 "" "dtee\\-async {__version__}" "User Commands"\n'
    return head + prose.replace("@OPTIONS@\n", "".join(map(manual_entry, options)))


def manual_entry(option: Option) -> str:
    """An option as a tagged paragraph."""
    short = f"\\fB\\-{option.short}\\fR" + (f" \\fI{option.metavar}\\fR" if option.metavar else "") + ", " if option.short else ""
    long = f"\\fB\\-\\-{roff(option.long)}\\fR" + (f"=\\fI{option.metavar}\\fR" if option.metavar else "")
    return f".TP\n{short}{long}\n{roff(option.help[0].upper() + option.help[1:])}.\n"


def roff(text: str) -> str:
    """The text as it is, for roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[0] in ".'" else text


# The completions. Each has to know where our options end and the command begins.


NAMES = r"s/^ *\[jobs\.\([A-Za-z0-9_-]*\)[].].*/\1/p; s/^\([A-Za-z0-9_-]*\):.*/\1/p"
"""For sed(1): the names of the jobs in a jobs file or a Procfile, as they are usually written; Python would take its time."""

FILES_OF_JOBS = ("jobs", "procfile")
"""The options after which words are names of jobs, and no command."""

SHOW = ("help", "version", "doctor", "schema")
"""The options that only show something."""


def has_jobs(options: list[Option]) -> bool:
    """Whether the program runs jobs, too."""
    return any(option.key in FILES_OF_JOBS for option in options)


def bash(prog: str, options: list[Option]) -> str:
    """The completion for bash, which divides words at ``=`` and ``:``, and wants only the last part of one back.

    Lines of the text that begin with a plus are for a program that runs jobs.
    """
    lines = (line for line in BASH.splitlines(keepends=True) if has_jobs(options) or not line.startswith("+"))
    return (
        "".join(line.replace("+", " ", 1) if line.startswith("+") else line for line in lines)
        .replace("PROG", prog)
        .replace("_FUNCTION", identifier(prog))
        .replace("MADE", MADE)
        .replace("LETTERS", "".join(option.short for option in options if option.metavar))
        .replace("LONG_WITH_VALUE", " | ".join(f"--{option.long}" for option in options if option.metavar))
        .replace("OPTIONS", " ".join(spelling for option in options for spelling in spellings(option)))
        .replace("CHOICES", "".join(map(bash_values, options)))
        .replace("NAMES", NAMES)
    )


def bash_values(option: Option) -> str:
    """What bash offers as the argument of an option, if it is no file."""
    if option.metavar in ("", "FILE"):
        return ""
    words = '"$names"' if option.metavar == "NAME" else f"'{' '.join(option.choices)}'"
    return f"        {' | '.join(spellings(option))}) from=(-W {words}) ;;\n"


BASH = r"""# Completion of PROG for bash.
# MADE

_FUNCTION() {
    local words=() starts=() from=(-f) index last rest word joined='' option='' prefix='' ended=''
+   local files=() names=''
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if ((${#words[@]})) && [[ $joined || $word == [=:]* ]]; then
            words[-1]+=$word
        else
            words+=("$word")
            starts+=("$index")
        fi
        [[ $word == [=:]* ]] && joined=1 || joined=
    done
    last=$((${#words[@]} - 1))
    for ((index = 0; index < last; index++)); do
        word=${words[index]}
        if [[ $option ]]; then
+           [[ $option != @(--jobs|--procfile) ]] || files+=("${word/#\~/$HOME}")
            option=
            continue
        fi
        case $word in
            --)
                ended=1
                ((index++))
                break
                ;;
            LONG_WITH_VALUE) option=$word ;;
+           --jobs=* | --procfile=*) files+=("${word#*=}") ;;
            --*) ;;
            -?*)
                rest=${word#-}
                while [[ $rest == [!LETTERS]* ]]; do rest=${rest#?}; done
                [[ $rest != ? ]] || option=-$rest
                ;;
            *) break ;;
        esac
    done
    word=${words[last]}
+   ((!${#files[@]})) || names=$(sed -n 'NAMES' -- "${files[@]}" 2>/dev/null </dev/null)
    if [[ $option ]]; then
        :
+   elif ((${#files[@]})) && [[ $index -lt $last || $ended || $word != -* ]]; then
+       from=(-W "$names")
    elif ((index < last)); then
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset "${starts[index]}"
            return
        elif declare -F _command_offset >/dev/null; then
            _command_offset "${starts[index]}"
            return
        fi
    elif [[ $ended || $word != -* ]]; then
        from=(-c -f)
    elif [[ $word =~ ^(--[^=]*)= ]]; then
        option=${BASH_REMATCH[1]} prefix=${BASH_REMATCH[0]}
    elif [[ $word =~ ^-[^-LETTERS]*[LETTERS]. ]]; then
        prefix=${BASH_REMATCH[0]%?}
        option=-${prefix: -1}
    else
        from=(-W 'OPTIONS')
    fi
    case $option in
CHOICES    esac
    [[ ${from[0]} == -W ]] || compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -P "$prefix" "${from[@]}" -- "${word#"$prefix"}")
    word=${words[last]}
    rest=${COMP_WORDS[COMP_CWORD]}
    [[ $rest != [=:]* ]] || rest=
    prefix=${word%"$rest"}
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}

complete -F _FUNCTION PROG
"""


def zsh(prog: str, options: list[Option]) -> str:
    """The completion for zsh, whose _arguments knows of commands in commands."""
    specs = "".join(f"  {spec} \\\n" for option in options for spec in zsh_specs(option))
    return f"#compdef {prog}\n# {MADE}\n\n" + (ZSH_JOBS if has_jobs(options) else ZSH).replace("SPECS", specs).replace("NAMES", NAMES)


ZSH = r"""_arguments -s -S -A '-*' \
SPECS  '(-):COMMAND:{_alternative "commands:command: _command_names -e" "files:file:_files"}' \
  '*::ARGUMENT:_normal'
"""

ZSH_JOBS = r"""local curcontext=$curcontext state line names ret=1
typeset -A opt_args

_arguments -C -s -S -A '-*' \
SPECS  '(-):COMMAND:->command' \
  '*::ARGUMENT:->argument' && ret=0
[[ $state ]] || return ret

local files=(${(Q)${(s.:.)opt_args[--jobs]}} ${(Q)opt_args[--procfile]})
if [[ $state == name ]] || (($#files)); then
  names=(${(f)"$(sed -n 'NAMES' -- ${~files} 2>/dev/null </dev/null)"})
  _wanted jobs expl job compadd -a names
elif [[ $state == command ]]; then
  _alternative "commands:command: _command_names -e" "files:file:_files"
else
  _normal
fi
"""


def zsh_specs(option: Option) -> Iterator[str]:
    """An option for _arguments: once for each spelling."""
    help = "".join(f"\\{letter}" if letter in "\\[]:" else letter for letter in option.help)
    action = f"({' '.join(option.choices)})" if option.choices else {"FILE": "_files", "NAME": "->name"}.get(option.metavar, " ")
    value = f":{option.metavar}:{action}" if option.metavar else ""
    every = " ".join(spellings(option))
    before = "*" if option.repeats else "(- : *)" if option.key in SHOW else f"({every})"
    for spelling in spellings(option):
        mark = ("=" if spelling.startswith("--") else "+") if option.metavar else ""
        yield shlex.quote(f"{before}{spelling}{mark}[{help}]{value}")


def fish(prog: str, options: list[Option]) -> str:
    """The completion for fish."""
    specs = " ".join("/".join(filter(None, (o.short, o.long))) + ("=+" if o.repeats else "=" if o.metavar else "") for o in options)
    lines = [(FISH_JOBS if has_jobs(options) else FISH).replace("SPECS", specs).replace("NAMES", NAMES)]
    for option in options:
        words = ["complete -c PROG -n 'not _FUNCTION_command >/dev/null'", *(["-s", option.short] if option.short else [])]
        words += ["-l", option.long, "-d", shlex.quote(option.help)]
        if option.metavar == "FILE":
            words += ["-r", "-F"]
        elif option.metavar:
            words += ["-x", "-a", "'(_FUNCTION_names)'" if option.metavar == "NAME" else shlex.quote(" ".join(option.choices))]
        lines.append(" ".join(words) + "\n")
    return f"# {MADE}\n\n" + "".join(lines).replace("PROG", prog).replace("_FUNCTION", "_" + identifier(prog))


FISH = r"""function _FUNCTION_command --description 'the command on the command line, and what follows'
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    argparse -s SPECS -- $words 2>/dev/null
    or return
    set -q argv[1]
    and not string match -q -- '-*' $argv[1]
    or return
    string join0 -- $argv
    return 0
end

function _FUNCTION_complete_command
    __fish_complete_subcommand --commandline (_FUNCTION_command | string split0)
end

complete -c PROG -x -n '_FUNCTION_command >/dev/null' -a '(_FUNCTION_complete_command)'
"""

FISH_NAMES = r"""function _FUNCTION_names --description 'the jobs of the files on the command line; fails if there are no files'
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    argparse -s SPECS -- $words 2>/dev/null
    set -l files $_flag_jobs $_flag_procfile
    set -q files[1]
    or return
    sed -n 'NAMES' -- $files 2>/dev/null </dev/null
    return 0
end

"""

FISH_JOBS = FISH_NAMES + FISH.replace("    __fish_complete", "    _FUNCTION_names\n    or __fish_complete")


def spellings(option: Option) -> list[str]:
    """``-o`` and ``--out-append``."""
    return [f"-{option.short}"] * bool(option.short) + [f"--{option.long}"]


def identifier(prog: str) -> str:
    """The name as part of a function's name."""
    return "_" + prog.replace("-", "_")


# The message catalogues.

FUNCTIONS = {"_": 1, "N_": 1, "ngettext": 2}
"""What takes messages, and how many."""


def messages() -> dict[str, str | tuple[str, str]]:
    """Every message of the sources, by its first form: what to translate, one text or two."""
    found: dict[str, str | tuple[str, str]] = {}
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
                words = [word.value for word in node.args[: FUNCTIONS[node.func.id]] if isinstance(word, ast.Constant)]
                if words:
                    found[words[0]] = words[0] if len(words) == 1 else (words[0], words[1])
    return found


def catalogues() -> list[Path]:
    """The .po files."""
    return sorted((PACKAGE / "locale").glob("*/LC_MESSAGES/*.po"))


def read(path: Path) -> Catalog:
    """A catalogue, .po or .mo."""
    from babel.messages.mofile import read_mo
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return read_mo(file) if path.suffix == ".mo" else read_po(file)


def update(path: Path) -> int:
    """Bring a .po up to date with the sources, and make its .mo; how many messages have no translation."""
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import write_po

    template = Catalog()
    for message in messages().values():
        template.add(message)
    catalogue = read(path)
    catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
    catalogue.obsolete.clear()
    with path.open("wb") as file:
        write_po(file, catalogue, width=0, omit_header=False)
    with path.with_suffix(".mo").open("wb") as file:
        write_mo(file, catalogue)
    return sum(1 for message in catalogue if message.id and not (all(message.string) if message.pluralizable else message.string))


def main() -> None:
    """Write everything."""
    for name, text in share().items():
        path = ROOT / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    left = {path: update(path) for path in catalogues()}
    for path, count in left.items():
        if count:
            sys.exit(f"{path.relative_to(ROOT)}: {count} messages are not translated")


if __name__ == "__main__":
    main()
