"""`doctor`: what is wrong with this host, and how to mend it."""

from __future__ import annotations

import json

from gpuctl.cli import host_facts
from gpuctl.cli.progress import bar
from gpuctl.cli.session import Session, display

#: Something fails; a warning alone is no failure.
_WRONG = 3


def command(session: Session, profile: str | None, *, as_json: bool, everything: bool) -> int:
    """Look at the host, print what was found; return the exit code."""
    from gpuctl.diagnosis import diagnose
    from gpuctl.diagnosis.document import document
    from gpuctl.views import diagnosis

    with bar(session, "looking at this host") as progress:
        facts = host_facts.gathered(session, profile, progress)
    findings = diagnose(facts)
    if as_json:
        print(json.dumps(document(findings), indent=2))
    else:
        display(diagnosis.listed(findings, everything=everything))
    return _WRONG if any(finding.level == "fail" for finding in findings) else 0
