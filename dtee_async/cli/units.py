"""Owns how amounts of bytes and times are shown to a person."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def amount(size_bytes: float) -> str:
    """In decimal units with three digits or more: ``999 B``, ``1.23 GB``."""
    exponent = 0
    while size_bytes >= 999.5 and exponent < len(UNITS) - 1:
        size_bytes /= 1000
        exponent += 1
    digits = 0 if not exponent or size_bytes >= 99.95 else 1 if size_bytes >= 9.995 else 2
    return f"{size_bytes:.{digits}f} {UNITS[exponent]}"


def clock(duration_s: float) -> str:
    """Hours, minutes, seconds: ``0:01:02``."""
    minutes, seconds = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
