"""Owns as whom a command runs and with which limits: from what a user writes to the steps of the launcher. Everything is looked up here."""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Iterator, Mapping
from errno import EINVAL, ESRCH
from typing import NamedTuple

from ..core.policy import Privileges
from ..errors import SpawnError

NOBODYS_ID = 0xFFFFFFFF
"""The id that setuid(2) and setgid(2) take for none."""


class Resolved(NamedTuple):
    """``steps`` for the launcher, in their order; ``login``: what the new user's environment says of him."""

    steps: list[str]
    login: dict[str, str]


class _Identity(NamedTuple):
    uid: int | None
    gid: int
    groups: list[int]
    login: dict[str, str]


def limit_names() -> list[str]:
    """The resources of this system that can be limited, as ``limits`` has them (setrlimit(2))."""
    return sorted(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_"))


def limit_problem(name: str) -> str | None:
    """Why there is no limit of this name, in words; None if there is."""
    known = limit_names()
    return None if name in known else f"no such limit: {name!r}; expected one of {', '.join(known)}"


def resolve(privileges: Privileges) -> Resolved:
    """What has to be done for these. Raises SpawnError, which names the key and what is wrong with it."""
    steps = []
    if privileges.umask is not None:
        steps.append(f"umask {privileges.umask}")
    if privileges.nice is not None:
        steps.append(f"nice {privileges.nice}")
    steps += _limits(privileges.limits or {})
    identity = _identity(privileges)
    if identity is None:
        return Resolved(steps, {})
    uid, gid, groups, login = identity
    if os.geteuid() != 0 and (uid, gid) in {(None, os.getegid()), (os.geteuid(), os.getegid())}:
        return Resolved(steps, login)  # as who we are: without the right to say so, there is nothing to be said
    steps += ["groups " + " ".join(map(str, groups)), f"group {gid}"]
    if uid is not None:
        steps.append(f"user {uid}")
    return Resolved(steps, login)


def with_login(environment: Mapping[str, str] | None, login: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command, in which HOME, USER, LOGNAME and SHELL are those of its user.

    As systemd.exec(5) has it: what the job says itself stays, and that is what differs from ours.
    """
    ours = os.environ
    given = dict(ours if environment is None else environment)
    return given | {name: value for name, value in login.items() if given.get(name) == ours.get(name)}


def _limits(limits: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    for name, (soft, hard) in limits.items():
        if problem := limit_problem(name):
            raise SpawnError(EINVAL, f"limits: {problem}")
        if min(soft, hard) < resource.RLIM_INFINITY or (hard != resource.RLIM_INFINITY and not 0 <= soft <= hard):
            raise SpawnError(EINVAL, f"limits.{name}: expected a soft limit that is not above the hard one, got {soft} and {hard}")
        yield f"limits.{name} {getattr(resource, f'RLIMIT_{name.upper()}')} {soft} {hard}"


def _identity(privileges: Privileges) -> _Identity | None:
    if privileges.user is None and privileges.group is None:
        return None
    gid = None if privileges.group is None else _group(privileges.group)
    if privileges.user is None:
        assert gid is not None
        return _Identity(None, gid, [gid], {})
    uid, entry = _user(privileges.user)
    if entry is None:
        if gid is None:
            raise SpawnError(ESRCH, f"user: {uid} is not in passwd(5), so its group is not known: say it by group")
        return _Identity(uid, gid, [gid], {})
    gid = entry.pw_gid if gid is None else gid
    login = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell or "/bin/sh"}
    return _Identity(uid, gid, os.getgrouplist(entry.pw_name, gid), login)


def _user(wanted: str | int) -> tuple[int, pwd.struct_passwd | None]:
    if isinstance(wanted, str):
        try:
            entry = pwd.getpwnam(wanted)
        except (KeyError, ValueError) as error:  # ValueError: a NUL
            if not wanted.isascii() or not wanted.isdecimal():
                raise SpawnError(ESRCH, f"user: no such user: {wanted}") from error
        else:
            return entry.pw_uid, entry
    uid = _number("user", int(wanted))
    try:
        return uid, pwd.getpwuid(uid)
    except KeyError:
        return uid, None


def _group(wanted: str | int) -> int:
    if isinstance(wanted, str):
        try:
            return grp.getgrnam(wanted).gr_gid
        except (KeyError, ValueError) as error:
            if not wanted.isascii() or not wanted.isdecimal():
                raise SpawnError(ESRCH, f"group: no such group: {wanted}") from error
    return _number("group", int(wanted))


def _number(key: str, number: int) -> int:
    if not 0 <= number < NOBODYS_ID:
        raise SpawnError(EINVAL, f"{key}: expected a number from 0 to {NOBODYS_ID - 1}, got {number}")
    return number
