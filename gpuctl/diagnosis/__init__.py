"""
What is wrong with a host: Facts in, Findings out, by group. PURE; `gpuctl doctor` shows them.

A check is one function from the facts to findings, listed in its file's GROUP; a group is one
file, listed here in the order shown.
"""

from __future__ import annotations

from dataclasses import replace

from gpuctl.diagnosis import (
    disk,
    docker,
    driver,
    gpus,
    links,
    profile,
    supervisor,
    system,
    toolkit,
)
from gpuctl.diagnosis.facts import Facts
from gpuctl.diagnosis.finding import Finding, Level

GROUPS = (
    driver.GROUP,
    gpus.GROUP,
    links.GROUP,
    toolkit.GROUP,
    docker.GROUP,
    profile.GROUP,
    disk.GROUP,
    system.GROUP,
    supervisor.GROUP,
)


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Return what every check says of a host, in the order of groups and checks."""
    return tuple(
        replace(finding, group=group.name)
        for group in GROUPS
        for check in group.checks
        for finding in check(facts)
    )


__all__ = ["GROUPS", "Facts", "Finding", "Level", "diagnose"]
