"""What goes on failing is told once."""

from __future__ import annotations

from gpuctl.gateway.outages import Outages
from tests.gateway.inside import Heard


def test_told_once() -> None:
    """It is told again as soon as it fails otherwise, or had worked in between."""
    heard = Heard()
    outages = Outages(heard.event)
    for error in ("full", "full", "denied", "full", "full"):
        outages.failed("report_failed", error=error)
    outages.worked("report_failed")
    outages.failed("report_failed", error="full")
    told = ("full", "denied", "full", "full")
    assert heard.of("report_failed") == [{"error": error} for error in told]


def test_each_by_itself() -> None:
    """One that works again says nothing of the others, nor of another file."""
    heard = Heard()
    outages = Outages(heard.event)
    for _ in range(2):
        outages.failed("status_unreadable", file="/a", error="full")
        outages.failed("key_file_unreadable", file="/a", error="full")
        outages.failed("key_file_unreadable", file="/b", error="full")
        outages.worked("key_file_unreadable", "/b")
    a, b = ({"file": file, "error": "full"} for file in ("/a", "/b"))
    assert heard.events == [
        ("status_unreadable", a),
        ("key_file_unreadable", a),
        ("key_file_unreadable", b),
        ("key_file_unreadable", b),
    ]
