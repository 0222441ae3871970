"""What the tests of real engines ask of one under supervision, whichever it is."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from tests.e2e.host import Host
from tests.e2e.transcript import Transcript

#: The watchdog with its thresholds divided by ten, but for what a loaded machine needs to load.
TENTH = """\
interval = "500ms"
health_timeout = "1s"
hard_failures = 3
hard = "1s"
soft = "12s"
stalled = "12s"
startup = "240s"
startup_limit = "480s"
backoff = ["0s", "1s", "2s", "4s", "8s"]
crash_loop = "90s"
ready_reset = "60s"
load_spacing = "0s"
stop_grace = "10s"
failed_grace = "1s"
drain = "3s"
canary = "0s"
"""
LOAD_SECONDS = 300.0


def complete(port: int, prompt: str, *, seconds: float, **asked: Any) -> dict[str, Any]:
    """Have a completion made; return the answer. Raises OSError."""
    data = json.dumps({"model": "chat", "prompt": prompt, "temperature": 0, **asked}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


class Watched:
    """One replica, `chat-0`, and what becomes of it."""

    def __init__(self, host: Host, transcript: Transcript) -> None:
        self.host, self.transcript = host, transcript
        self._known = 0

    def told(self, *kinds: str) -> list[dict[str, Any]]:
        """Return its events of these kinds since the last time, and take them down."""
        events = self.host.events(*kinds, subject="chat-0")
        fresh = [event for event in events if event["id"] > self._known]
        self._known = max((self._known, *(event["id"] for event in fresh)))
        for event in fresh:
            self.transcript.event(event)
        return fresh

    def again_after(self, old: str, began: float) -> float:
        """Wait until it serves again in another container; return the seconds since *began*."""
        self.host.wait_replaced("chat-0", old, seconds=LOAD_SECONDS)
        took = time.monotonic() - began
        self.transcript.say(f"ready again after {took:.1f} s")
        return took

    @property
    def container(self) -> str:
        found: str = self.host.replica("chat-0")["container"]
        return found

    def stages_while(self, done: Any) -> list[str]:
        """Return the stages that `status` shows until *done* is true, each once."""
        seen: list[str] = []
        while not done():
            stage = self._stage()
            if stage and stage not in seen:
                seen.append(stage)
                self.transcript.say(f"status: loading, stage {stage}")
            time.sleep(0.1)
        return seen

    def _stage(self) -> str:
        if not (self.host.folder / "run" / "status.json").exists():
            return ""
        found: str | None = self.host.replica("chat-0").get("stage")
        return found or ""
