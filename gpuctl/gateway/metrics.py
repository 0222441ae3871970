"""
What the gateway counts, and the text that Prometheus reads of it. PURE.

The data path tells of every finished request (`finished`, 2 µs) and of what no request's record
has; `operator` adds what is true at the moment (`gauges`) and asks for the text. Labels are
bounded: endpoints as the route table writes them, routes' own names, HTTP codes, replicas' names
and codes of gpuctl; never what a client sent, and never a key.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final

from gpuctl.gateway import gauges
from gpuctl.gateway.families import Labels, by, counter, histogram
from gpuctl.gateway.histogram import (
    DURATION_SECONDS,
    FIRST_TOKEN_SECONDS,
    OUTPUT_TOKEN_SECONDS,
    QUEUE_SECONDS,
    SIZE_BYTES,
    TOKENS_PER_SECOND,
    Histogram,
)
from gpuctl.gateway.record import Record

#: Shown from the start, at 0: `increase()` does not see the first event of a series that appears
#: with it. Others are shown once they occur.
REJECTIONS: Final = ("draining", "no_replica", "queue_full", "queue_timeout")
AUTH_FAILURES: Final = ("expired", "missing", "not_admin", "revoked", "unknown")
SCOPES: Final = ("connections", "ip", "requests", "tokens")


class _Series:
    """What is counted of one endpoint and model."""

    __slots__ = (
        "cached_tokens", "codes", "completion_tokens", "duration", "ends", "first_token",
        "output_token", "prompt_tokens", "queue", "request_bytes", "response_bytes", "speed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.ends: dict[str, int] = {}
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.duration = Histogram(DURATION_SECONDS)
        self.queue = Histogram(QUEUE_SECONDS)
        self.first_token = Histogram(FIRST_TOKEN_SECONDS)
        self.output_token = Histogram(OUTPUT_TOKEN_SECONDS)
        self.speed = Histogram(TOKENS_PER_SECOND)
        self.request_bytes = Histogram(SIZE_BYTES)
        self.response_bytes = Histogram(SIZE_BYTES)

    def tokens(self) -> tuple[tuple[str, int], ...]:
        """Return how many tokens there were, by kind."""
        return (
            ("prompt", self.prompt_tokens),
            ("completion", self.completion_tokens),
            ("cached", self.cached_tokens),
        )


class Metrics:
    """Counters since the gateway began; owned by the event loop's thread."""

    __slots__ = ("_auth", "_limited", "_rejected", "_retries", "_series", "_upstream")

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}
        self._retries = 0
        self._rejected = dict.fromkeys(REJECTIONS, 0)
        self._auth = dict.fromkeys(AUTH_FAILURES, 0)
        self._limited = dict.fromkeys(SCOPES, 0)
        self._upstream: dict[tuple[str, str], int] = {}

    def finished(self, record: Record) -> None:
        """Count one request that is over; each exactly once."""
        key = (record.endpoint, record.model)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        series.codes[record.status] = series.codes.get(record.status, 0) + 1
        if record.end != "answered":
            series.ends[record.end] = series.ends.get(record.end, 0) + 1
            if record.end == "refused":
                self._rejected[record.error] = self._rejected.get(record.error, 0) + 1
        if record.request_bytes:
            series.request_bytes.add(record.request_bytes)
        if record.response_bytes:
            series.response_bytes.add(record.response_bytes)
        if record.attempts:
            _sent(series, record)
            self._retries += record.attempts - 1
        elif record.queued_seconds:
            series.queue.add(record.queued_seconds)

    def upstream_failed(self, replica: str, kind: str) -> None:
        """Count one attempt that a replica did not do its part of."""
        key = (replica, kind)
        self._upstream[key] = self._upstream.get(key, 0) + 1

    def auth_failed(self, reason: str) -> None:
        """Count a request that was not let in; see AUTH_FAILURES."""
        self._auth[reason] = self._auth.get(reason, 0) + 1

    def rate_limited(self, scope: str) -> None:
        """Count a 429 of the gateway's own; see SCOPES."""
        self._limited[scope] = self._limited.get(scope, 0) + 1

    def text(self, now: gauges.Gauges) -> bytes:
        """Return everything, in the same order each time, for a scrape."""
        parts = (gauges.process(now), self._requests(), self._held(now), gauges.replicas(now))
        return "".join(f"{line}\n" for part in parts for line in part).encode()

    def _requests(self) -> Iterator[str]:
        """Yield what is counted by endpoint and model."""
        series = tuple((_of(key), one) for key, one in sorted(self._series.items()))
        codes = (
            ((*of, ("code", str(code))), count)
            for of, one in series
            for code, count in sorted(one.codes.items())
        )
        words = "Requests that are over, by HTTP code; 0: nothing was sent."
        yield from counter("requests_total", words, codes)
        for name, words, read in _HISTOGRAMS:
            yield from histogram(name, words, ((of, read(one)) for of, one in series))
        tokens = (
            ((*of, ("kind", kind)), count)
            for of, one in series
            for kind, count in one.tokens()
            if count
        )
        words = "Tokens as the engines count them; the cached ones are prompt as well."
        yield from counter("tokens_total", words, tokens)
        for end, name, words in _ENDS:
            total = sum(one.ends.get(end, 0) for _, one in series)
            yield from counter(name, words, (((), total),))

    def _held(self, now: gauges.Gauges) -> Iterator[str]:
        """Yield what was held back, and what went wrong."""
        for name, words, samples in (
            ("rejections_total", "Requests that the gateway refused, by the code of the error.",
             by("reason", self._rejected)),
            ("auth_failures_total", "Requests that were not let in.", by("reason", self._auth)),
            ("rate_limited_total", "Requests above a limit of a key or an address.",
             by("scope", self._limited)),
            ("retries_total", "Requests sent once more.", (((), self._retries),)),
            ("retry_budget_exhausted_total", "Retries that were not made, to spare the rest.",
             (((), now.retries_refused),)),
        ):  # fmt: skip
            yield from counter(name, words, samples)
        failed = (
            ((("replica", replica), ("kind", kind)), count)
            for (replica, kind), count in sorted(self._upstream.items())
        )
        yield from counter("upstream_errors_total", "Attempts that failed at a replica.", failed)


def _sent(series: _Series, record: Record) -> None:
    """Count what only a request has that was sent to a replica."""
    series.duration.add(record.seconds)
    series.queue.add(record.queued_seconds)
    series.prompt_tokens += record.prompt_tokens or 0
    series.cached_tokens += record.cached_tokens or 0
    first = record.first_byte_seconds
    if record.stream and first is not None:
        series.first_token.add(first)
    completion = record.completion_tokens
    if not completion:
        return
    series.completion_tokens += completion
    worked = record.seconds - record.queued_seconds
    if worked > 0:
        series.speed.add(completion / worked)
    # The first token's time is in the time to it: what is left is made by the others.
    if record.stream and first is not None and completion > 1:
        series.output_token.add((record.seconds - first) / (completion - 1))


#: Of requests that a replica was asked to answer, but for the sizes: a flood of refusals in
#: microseconds must not hide how long the others take.
_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[_Series], Histogram]], ...]] = (
    ("request_duration_seconds", "From a request's head to its answer's end.",
     attrgetter("duration")),
    ("queue_duration_seconds", "How long a request waited for its replica.", attrgetter("queue")),
    ("time_to_first_token_seconds", "From a streamed request's head to its first event.",
     attrgetter("first_token")),
    ("time_per_output_token_seconds", "Of a streamed answer, from one token to the next.",
     attrgetter("output_token")),
    ("request_tokens_per_second", "Completion tokens of a request by its time out of the queue.",
     attrgetter("speed")),
    ("request_size_bytes", "Bodies of requests.", attrgetter("request_bytes")),
    ("response_size_bytes", "Bodies of answers, as far as they were sent.",
     attrgetter("response_bytes")),
)  # fmt: skip

_ENDS: Final = (
    ("client_gone", "client_cancellations_total", "Clients that left before their answer ended."),
    ("cut", "answers_cut_total", "Answers that broke off after their first byte."),
    ("replayed", "idempotent_replays_total", "Answers shared by their Idempotency-Key."),
)


def _of(key: tuple[str, str]) -> Labels:
    return (("endpoint", key[0]), ("model", key[1]))
