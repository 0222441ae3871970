"""
What a real engine did under a real daemon, second by second, for docs/engines.md.

`make engines` sets GPUCTL_RECORD, and the transcript then takes the place of the one before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"


class Transcript:
    """The lines of one engine's run."""

    def __init__(self, engine: str, versions: str) -> None:
        self._engine, self._began = engine, time.monotonic()
        cores = os.cpu_count()
        self._lines = [f"{versions}; {datetime.now(UTC):%Y-%m-%d}, {cores} cores, no GPU"]

    def say(self, words: str) -> None:
        self._lines.append(f"{time.monotonic() - self._began:7.1f} s  {words}")

    def event(self, event: Mapping[str, Any]) -> None:
        """Add an event of gpuctl's own journal, with what of its evidence is worth a line."""
        told = {key: event["evidence"][key] for key in _TOLD if key in event["evidence"]}
        self.say(f"event: {event['kind']} {event['reason']} {told}".replace("  ", " "))

    def write(self) -> None:
        """Put it on the page between its marks, where it is asked for."""
        put(PAGE, f"transcript {self._engine}", self._lines)


def put(page: Path, mark: str, lines: Iterable[str]) -> None:
    """Put lines on a page between its marks, where GPUCTL_RECORD asks for it."""
    if os.environ.get("GPUCTL_RECORD") != "1":
        return
    begin, end = f"<!-- {mark} -->\n", "<!-- end -->"
    head, found, rest = page.read_text().partition(begin)
    assert found, f"{page.name} has no place for {mark}"
    text = "\n".join(lines)
    page.write_text(f"{head}{begin}```text\n{text}\n```\n{end}{rest.partition(end)[2]}")


_TOLD = (
    *("seconds", "stages", "warmup_requests", "check", "in_flight", "still_seconds"),
    *("limit_seconds", "exit_code", "answer", "failures"),
)
