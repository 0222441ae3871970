"""What the values of `[gateway]` must keep among themselves, wherever they were set."""

from __future__ import annotations

from gpuctl.model import GatewaySettings

#: A request line and a handful of headers; what browsers and proxies send is some KiB.
_LEAST_HEAD_BYTES = 1024


def doubts(settings: GatewaySettings) -> tuple[tuple[str, str, str], ...]:
    """Return what cannot work together, as (key in `[gateway]`, what is wrong, hint)."""
    times = settings.timeouts
    longest = max(times.streaming_seconds, times.batch_seconds)
    attempt = times.attempt_seconds
    found: list[tuple[str, str, str]] = []
    if attempt is not None and attempt > longest:
        what = f"{attempt:g}s is longer than a whole request may take ({longest:g}s)"
        found.append(("timeouts.attempt", what, "shorten it, or lengthen streaming and batch"))
    shortest = min(times.streaming_seconds, times.batch_seconds)
    bounds = {"a whole request": shortest, "an attempt": shortest if attempt is None else attempt}
    for name, seconds in bounds.items():
        if times.connect_seconds > seconds:
            what = f"{times.connect_seconds:g}s is longer than {name} may take ({seconds:g}s)"
            found.append(("timeouts.connect", what, 'the usual one is "2s"'))
            break
    head = settings.limits.head_bytes
    if head < _LEAST_HEAD_BYTES:
        what = f"{head} bytes have no room for the head of a request"
        found.append(("limits.head", what, 'the usual size is "16k"'))
    return tuple(found)
