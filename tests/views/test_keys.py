"""What is said of an API key."""

from __future__ import annotations

import pytest

from gpuctl.views import keys
from gpuctl.views.keys import KeyRow

ROW: KeyRow = {
    "id": "key-00000001",
    "name": "ci",
    "state": "live",
    "models": [],
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "priority": None,
    "admin": False,
    "created_at": 0.0,
    "created_by": 0,
    "expires_at": None,
    "revoked_at": None,
    "revoked_by": None,
}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW, "for all models, until revoked"),
        (
            ROW | {"models": ["chat", "embed"], "requests_per_minute": 5, "tokens_per_minute": 9},
            "for chat, embed, 5 requests a minute, 9 tokens a minute, until revoked",
        ),
        (
            ROW | {"priority": 0, "admin": True},
            "for all models, priority 0, for operator endpoints too, until revoked",
        ),
    ],
)
def test_what_a_key_may(row: KeyRow, words: str) -> None:
    """Only what there is; a priority of 0 is one."""
    assert keys.described(row) == words


def test_until_when() -> None:
    """An expiry is a moment."""
    assert keys.described(ROW | {"expires_at": 0.0}).startswith("for all models, until 19")
