"""
What an OpenAI client may rely on, as cases: each a function over a target, and a fact.

A target is the bare engine or the gateway in front of two of them; a case that only the gateway
fulfils says why. `test_gateway_conformance` runs them all.
"""

import pytest

GROUPS = (
    *("chat", "streams", "tools", "documents", "texts", "vectors", "responses"),
    *("catalogue", "mistakes", "transport"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{group}" for group in GROUPS))
