"""The settings that are looked at with every request."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from gpuctl.gateway.terms import Terms
from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings

NAMES = Terms.__slots__


def test_each_is_the_settings_own() -> None:
    """Every one is found in the settings under its name, with its value."""
    timeouts = {field.name: 100.0 + at for at, field in enumerate(fields(TimeoutSettings))}
    limits = {field.name: 200 + at for at, field in enumerate(fields(LimitSettings))}
    own: dict[str, Any] = {
        "affinity": "prefix",
        "retries": 7,
        "keep_alive_interval_seconds": 300.0,
        "priorities": {"chat": 1},
        "pass_through": {"/ocr": "ocr"},
        "metrics_key": True,
    }
    terms = Terms(
        GatewaySettings(timeouts=TimeoutSettings(**timeouts), limits=LimitSettings(**limits), **own)
    )
    set_to = {**timeouts, **limits, **own}
    assert {name: getattr(terms, name) for name in NAMES} == {name: set_to[name] for name in NAMES}


@pytest.mark.parametrize("seconds", [None, 90.0])
def test_of_an_attempt(seconds: float | None) -> None:
    """What an attempt may take is a number or nothing, as it is set."""
    timeouts = replace(TimeoutSettings(), attempt_seconds=seconds)
    assert Terms(GatewaySettings(timeouts=timeouts)).attempt_seconds == seconds
