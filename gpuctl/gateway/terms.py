"""
What of the settings is looked at with every request, flat. PURE.

A `GatewaySettings` is a dataclass, which the compiler leaves to the interpreter: three attributes
deep, each costs more than what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuctl.model import GatewaySettings


class Terms:
    """Made anew of every settings; names and units are theirs."""

    __slots__ = (
        *("affinity", "attempt_seconds", "batch_seconds", "body_bytes", "body_seconds"),
        *("head_bytes", "head_seconds", "headers", "idle_seconds", "keep_alive_interval_seconds"),
        *("keep_alive_seconds", "metrics_key", "pass_through", "priorities"),
        *("requests_per_minute_per_ip", "retries", "streaming_seconds"),
    )

    def __init__(self, settings: GatewaySettings) -> None:
        timeouts, limits = settings.timeouts, settings.limits
        self.streaming_seconds = timeouts.streaming_seconds
        self.batch_seconds = timeouts.batch_seconds
        self.attempt_seconds = timeouts.attempt_seconds
        self.idle_seconds = timeouts.idle_seconds
        self.head_seconds = timeouts.head_seconds
        self.body_seconds = timeouts.body_seconds
        self.keep_alive_seconds = timeouts.keep_alive_seconds
        self.head_bytes = limits.head_bytes
        self.headers = limits.headers
        self.body_bytes = limits.body_bytes
        self.requests_per_minute_per_ip = limits.requests_per_minute_per_ip
        self.affinity: str = settings.affinity
        self.retries = settings.retries
        self.keep_alive_interval_seconds = settings.keep_alive_interval_seconds
        self.priorities = dict(settings.priorities)  # what the compiler itself looks up in
        self.pass_through: Mapping[str, str] = settings.pass_through
        self.metrics_key = settings.metrics_key
