"""Values laid over values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over values, as Helm does with several files: maps merge, all else replaces."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            before = whole.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                whole[key] = merged(before, value)
            else:
                whole[key] = value
    return whole
