"""
Gathers what is wrong with a plan, so that the operator is told all of it at once.

The profile's own mistakes refuse a plan always. What the *host* lacks refuses it for `up` and
`check` (strict), and is a warning for a daemon, which must go on with what is left. So is what an
older gpuctl took: it is applied and may be running, and a daemon that ended would watch nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuctl.errors import PlanRefused


@dataclass(slots=True, kw_only=True)
class Mistakes:
    source: str  # the profile's file; "" when it came from elsewhere
    strict: bool
    refused: list[tuple[str, str]] = field(default_factory=list)  # message, hint
    warnings: list[str] = field(default_factory=list)

    def profile(self, message: str, hint: str = "") -> None:
        """Note a mistake of the profile."""
        self.refused.append((message, hint))

    def host(self, message: str, hint: str = "") -> None:
        """Note something that this host does not have, or that gpuctl does not take any more."""
        if self.strict:
            self.refused.append((message, hint))
        else:
            self.warnings.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def settle(self) -> tuple[str, ...]:
        """
        Return the warnings, in the order noted.

        Raises:
            PlanRefused: there is at least one mistake; one line for each, in the order noted.
        """
        if not self.refused:
            return tuple(dict.fromkeys(self.warnings))
        prefix = f"{self.source}: " if self.source else ""
        lines = dict.fromkeys(f"{prefix}{message}" for message, _ in self.refused)
        hints = dict.fromkeys(hint for _, hint in self.refused if hint)
        raise PlanRefused("\n".join(lines), "\n".join(hints))
