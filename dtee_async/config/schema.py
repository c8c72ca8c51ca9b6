"""Owns the JSON Schema of a jobs file, for editors."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.policy import FOREVER
from .tables import JobsTable

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """A JSON Schema that accepts what load() accepts, as far as a schema can tell."""
    made: dict[str, Any] = _for_toml(msgspec.json.schema(JobsTable))
    return {"$schema": DIALECT, "title": "The jobs of dtee-async", **made}


def _for_toml(value: Any) -> Any:
    """There is no null in TOML: a key is there or it is not. A default that cannot be written, or is a whole table, says nothing."""
    if isinstance(value, list):
        return [_for_toml(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {
        name: _for_toml(one) for name, one in value.items() if name != "default" or not (isinstance(one, dict) or one in (None, FOREVER))
    }
    kinds = [one for one in kept.get("anyOf", ()) if one != {"type": "null"}]
    if len(kinds) == 1:
        del kept["anyOf"]
        return {**kinds[0], **kept}
    return {**kept, "anyOf": kinds} if kinds else kept
