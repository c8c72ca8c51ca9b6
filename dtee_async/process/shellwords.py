"""Owns the rough reading of the shell's language: the simple commands in a text, as words without quotes, and what a shell itself reads."""

from __future__ import annotations

SHELLS = frozenset(["ash", "bash", "dash", "ksh", "ksh93", "mksh", "rbash", "sh", "zsh"])

_DEPTH = 16  # of parentheses and substitutions; what is deeper is read as if it were flat
_BLANKS = " \t\r"
_ENDS = _BLANKS + "\n;&|()<>"
_QUOTES = '\\"$`'  # also within double quotes
_MARKS = bytes(chr(code) in _ENDS + _QUOTES + "'" for code in range(256))
_MARKS_IN_QUOTES = bytes(chr(code) in _QUOTES for code in range(256))
_KEYWORDS = frozenset(["!", "{", "}", "do", "elif", "else", "if", "then", "until", "while"])


def shell_operand(argv: list[str]) -> tuple[bool, str]:
    """What a shell reads that is run with these words: whether it is a text (``-c``) or a file, and which; empty if it is neither."""
    is_text = False
    rest = argv[1:]
    while rest and rest[0].startswith(("-", "+")):
        option = rest.pop(0)
        is_long = option.startswith("--")
        is_text = is_text or (option[0] == "-" and not is_long and "c" in option)
        if option in ("--rcfile", "--init-file") or (not is_long and option.endswith(("o", "O"))):
            rest = rest[1:]
    return is_text, rest[0] if rest else ""


def without_keywords(words: list[str]) -> list[str]:
    """The program and its arguments: what comes first may be the shell's own, or an assignment."""
    for number, word in enumerate(words):
        name, assigns, _ = word.partition("=")
        if word not in _KEYWORDS and not (assigns and name.removesuffix("+").isidentifier()):
            return words[number:]
    return []


def simple_commands(text: str) -> list[list[str]]:
    """The commands in it, and ``>`` with its target for each redirection of output. A substitution is a ``$`` and its own commands."""
    reader = _Reader(text)
    reader.read("")
    return reader.commands


class _Reader:
    """Where we are in a text, and what was found up to there."""

    def __init__(self, text: str) -> None:
        self.text = text
        characters = text.encode("ascii", "replace")
        self.marks = characters.translate(_MARKS)  # 1 where a word may end, or a quote begin
        self.marks_in_quotes = characters.translate(_MARKS_IN_QUOTES)
        self.at = 0
        self.depth = 0
        self.ends = _ENDS  # of a word
        self.here: list[str] = []  # ends of the here-documents that begin with the next line
        self.commands: list[list[str]] = []

    def read(self, closing: str) -> None:
        """Read on to ``closing``, or to the end."""
        text, size = self.text, len(self.text)
        outer, self.ends = self.ends, _ENDS + closing
        words: list[str] = []
        self.commands.append(words)
        while self.at < size:
            char = text[self.at]
            if char in _BLANKS:
                self.at += 1
            elif char == closing:
                self.at += 1
                break
            elif char == "#":
                self._skip_to("\n")
            elif char in "<>":
                self._redirection()
            elif char in _ENDS:
                self.at += 1
                if char in "()" and len(words) == 1:
                    words.clear()  # the name of a function, or a pattern of `case`
                self._operator(char)
                if words:
                    words = []
                    self.commands.append(words)
            else:
                word = self._text(self.ends, self.marks)
                if not (word.isdigit() and text[self.at : self.at + 1] in ("<", ">")):
                    words.append(word)
        self.ends = outer

    def _operator(self, char: str) -> None:
        if char == "(":
            self._nested(")")
        elif char == "\n" and self.here:
            self._here_documents()

    def _nested(self, closing: str) -> None:
        if self.depth < _DEPTH:
            self.depth += 1
            self.read(closing)
            self.depth -= 1

    def _skip_to(self, end: str) -> str:
        start = self.at
        found = self.text.find(end, start)
        self.at = found if found >= 0 else len(self.text)
        return self.text[start : self.at]

    def _text(self, ends: str, marks: bytes) -> str:
        """What stands before any of ``ends``, without its quotes."""
        parts = []
        while True:
            start = self.at
            found = marks.find(1, start)
            self.at = found if found >= 0 else len(self.text)
            parts.append(self.text[start : self.at])
            char = self.text[self.at : self.at + 1]
            if char in ends:
                return "".join(parts)
            self.at += 1
            parts.append(self._quoted(char))

    def _quoted(self, quote: str) -> str:
        """What stands for the quote that we are behind."""
        inside = "$"
        match quote:
            case "\\":
                inside = self.text[self.at : self.at + 1].strip("\n")  # a line that goes on
                self.at += 1
            case "'":
                inside = self._skip_to("'")
                self.at += 1
            case '"':
                inside = self._text('"', self.marks_in_quotes)
                self.at += 1
            case "`":
                self._nested("`")
            case _ if self.text.startswith("(", self.at):
                self.at += 1
                self._nested(")")
            case _ if self.text.startswith("{", self.at):
                inside += self._skip_to("}")
        return inside

    def _redirection(self) -> None:
        ahead = self.text[self.at : self.at + 3]
        operator = ahead[: len(ahead) - len(ahead.lstrip("<>&|-"))]
        self.at += len(operator)
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        if self.text.startswith("(", self.at):  # a command is on the other side
            self.at += 1
            self._nested(")")
        elif not operator.endswith("&-"):  # that closes an fd
            target = self._text(self.ends, self.marks)
            if operator in ("<<", "<<-"):
                self.here.append(target)
            elif operator not in ("<", "<&", "<<<"):
                self.commands.append([">", target])

    def _here_documents(self) -> None:
        """Skip them, unless there is a shell in the line before: then they are read as what comes next."""
        ends, self.here = self.here, []
        before = self.text[self.text.rfind("\n", 0, self.at - 1) + 1 : self.at]
        if not any(word.rpartition("/")[2] in SHELLS for word in before.split()):
            for end in ends:
                line = ""
                while self.at < len(self.text) and line != end:
                    line = self._skip_to("\n").lstrip("\t")
                    self.at += 1
