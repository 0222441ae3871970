"""
Whether one replica gets requests, by how it answered the latest ones. PURE.

An exchange begins a request at the gate and tells it how that went. Closed: requests pass. Open:
none do, for the cooldown. Half-open: the cooldown is over, and one request, the trial, decides.

    closed ──(refused once, or allowed_fails in a row)──► open ──(cooldown)──► half-open
    half-open ──(trial succeeded)──► closed · ──(trial failed)──► open · ──(dropped)──► half-open
    any ──(reset: a new container)──► closed
"""

from __future__ import annotations

from typing import Final, Literal

State = Literal["closed", "open", "half_open"]

#: The token of a request that was sent although nothing passes: its end says nothing.
UNHEARD: Final = 0


class Gate:
    """
    One replica's gate. Every `now` is in seconds of one monotonic clock.

    `begin` gives a token, and one of `succeeded`, `failed` and `dropped` takes it back; a `dropped`
    after that changes nothing, and a trial that is told neither way shuts the gate for good. What
    a request shows is heard only in the period it began in: an end told late neither closes an
    open gate nor keeps it open for longer. A period ends where the gate opens, where a trial
    begins or is dropped, and at a reset.
    """

    __slots__ = (
        "_failures",
        "_period",
        "_trial",
        "allowed_fails",
        "cooldown_seconds",
        "opened_total",
        "retry_at",
    )

    def __init__(self, allowed_fails: int, cooldown_seconds: float) -> None:
        #: Both may be set anew at any time; an open gate keeps the `retry_at` that it has.
        self.allowed_fails = allowed_fails
        self.cooldown_seconds = cooldown_seconds
        self.retry_at: float | None = None  # the cooldown's end, past or to come; None: closed
        self.opened_total = 0  # a failed trial is one more
        self._failures = 0  # in a row, while closed
        self._period = UNHEARD + 1
        self._trial = False  # one is running

    def allows(self, now: float) -> bool:
        """Return whether a request may be sent now. Asking takes nothing."""
        return self.retry_at is None or (not self._trial and now >= self.retry_at)

    def state(self, now: float) -> State:
        """Return what the gate is now; half-open with and without a trial."""
        if self.retry_at is None:
            return "closed"
        return "open" if now < self.retry_at else "half_open"

    def begin(self, now: float) -> int:
        """
        Note that a request is sent; half-open, the first one is the trial.

        Returns:
            The token that its end is told with.
        """
        if self.retry_at is None:
            return self._period
        if not self.allows(now):
            return UNHEARD
        self._trial = True
        self._period += 1
        return self._period

    def succeeded(self, token: int) -> bool:
        """
        Note that the replica answered: earlier failures are forgotten.

        Returns:
            Whether the gate closed by it: it was the trial.
        """
        if token != self._period:
            return False
        closed = self.retry_at is not None
        self._close()
        return closed

    def failed(self, token: int, now: float, *, refused: bool) -> bool:
        """
        Note that the replica did not do its part.

        Args:
            token: What `begin` gave.
            now: When it failed; the cooldown begins here.
            refused: Nobody is there (no connection, or a new one closed without a byte), which
                opens the gate by itself: the next request would fare no better.

        Returns:
            Whether the gate opened by it.
        """
        if token != self._period:
            return False
        self._failures += 1
        opens = refused or self._trial or self._failures >= self.allowed_fails
        if opens:
            self._open(now)
        return opens

    def dropped(self, token: int) -> None:
        """Note an end that shows nothing (client gone, 4xx, 429): a trial leaves room for one."""
        if token == self._period and self._trial:
            self._trial = False
            self._period += 1

    def reset(self) -> None:
        """Close at once with nothing held against it: another container runs there now."""
        self._close()
        self._period += 1

    def _close(self) -> None:
        self.retry_at = None
        self._failures = 0
        self._trial = False

    def _open(self, now: float) -> None:
        self.retry_at = now + self.cooldown_seconds
        self._failures = 0
        self._trial = False
        self._period += 1
        self.opened_total += 1
