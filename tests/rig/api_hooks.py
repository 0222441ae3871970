"""
What schemathesis must know of a gateway that no document tells: which model there is.

Loaded by it through SCHEMATHESIS_HOOKS. A body whose model is a name gets the name of the one that
is served, so that it comes to an engine; whatever else is wrong with it stays.
"""

from __future__ import annotations

from typing import Any

import schemathesis

MODEL = "chat"


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Name the served model where a model is named."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and body["model"]:
        return {**body, "model": MODEL}
    return body
