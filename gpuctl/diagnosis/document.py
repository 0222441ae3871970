"""The findings as scripts read them: `gpuctl doctor --json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuctl.diagnosis.finding import Finding

SCHEMA = 1


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return every finding, those that were skipped among them, in the order judged."""
    return {
        "schema": SCHEMA,
        "checks": [
            {
                "group": finding.group,
                "check": finding.check,
                "level": finding.level,
                "reason": finding.reason,
                "message": finding.message,
                "fix": finding.fix,
            }
            for finding in findings
        ],
    }
