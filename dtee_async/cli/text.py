"""Owns the language of our messages: English as the sources have it, or the catalogue that the environment asks for.

gettext's rules: LC_ALL, LC_MESSAGES or LANG is the locale; LANGUAGE, a list, wins over it unless it is C. Who wants
English, or nothing, pays nothing: only then that a message is needed and is not to be English, gettext is imported.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from gettext import NullTranslations

DOMAIN = "dtee-async"
FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "locale")


def languages(environment: Mapping[str, str]) -> list[str]:
    """The languages to look for, the best first; none if English comes first."""
    get = environment.get
    locale = get("LC_ALL") or get("LC_MESSAGES") or get("LANG") or "C"
    if _language(locale) in ("C", "POSIX"):
        return []
    found = []
    for each in (get("LANGUAGE") or locale).split(":"):
        if _language(each) in ("en", "C", "POSIX"):
            break
        if each:
            found.append(each)
    return found


def speak_as_told() -> None:
    """Make libc's words, those of strerror(3) and strsignal(3), be in the same language, if it has them."""
    if languages(os.environ):
        import locale

        try:
            locale.setlocale(locale.LC_MESSAGES, "")
        except locale.Error as error:
            del error  # that locale is not installed: libc speaks English


def say(text: str) -> None:
    """To stderr, at once, blocking."""
    with contextlib.suppress(OSError):  # where it could be said that nothing can be said, nothing can be said
        os.write(2, os.fsencode(text))


def worded(error: OSError) -> str:
    """What it is about, if it says so, and why."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


def N_(message: str) -> str:  # noqa: N802 - the name that xgettext and its like know
    """Mark a message that is translated later, by ``_``."""
    return message


def _(message: str) -> str:
    """The message in the user's language."""
    catalogue = _catalogue()
    return message if catalogue is None else _writable(catalogue.gettext(message), message)


def ngettext(one: str, many: str, count: int) -> str:
    """The message for that many of something, in the user's language."""
    catalogue = _catalogue()
    message = one if count == 1 else many
    return message if catalogue is None else _writable(catalogue.ngettext(one, many, count), message)


@cache
def _catalogue() -> NullTranslations | None:
    wanted = languages(os.environ)
    if not wanted:
        return None
    import gettext

    return gettext.translation(DOMAIN, FOLDER, wanted, fallback=True)


def _language(locale: str) -> str:
    """``de`` of ``de_AT.UTF-8@euro``."""
    for end in ".@_":
        locale = locale.partition(end)[0]
    return locale


def _writable(translated: str, message: str) -> str:
    """The translation if the locale's encoding has all its letters."""
    try:
        os.fsencode(translated)
    except UnicodeEncodeError:
        return message
    return translated
