"""Progress of an image pull: many layers at once, told as one ratio. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Layers:
    """How far each layer of an image has come, as `POST /images/create` tells it."""

    def __init__(self) -> None:
        self._bytes: dict[str, tuple[int, int]] = {}

    def told(self, message: Mapping[str, Any]) -> tuple[str, float | None]:
        """Take one message in; return it as a line, and the ratio fetched (`None`: unknown)."""
        layer, status = message.get("id", ""), message.get("status", "")
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._bytes[layer] = (detail["current"], detail["total"])
        elif status == "Download complete" and layer in self._bytes:
            total = self._bytes[layer][1]
            self._bytes[layer] = (total, total)
        return (f"{layer}: {status}" if layer else status), self._ratio()

    def _ratio(self) -> float | None:
        total = sum(whole for _, whole in self._bytes.values())
        return sum(fetched for fetched, _ in self._bytes.values()) / total if total else None
