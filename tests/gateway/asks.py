"""What a request asks for, in a form that can be compared and shown."""

from __future__ import annotations

from gpuctl.gateway.bodies import Ask, BadRequest


def told(found: Ask | BadRequest) -> object:
    """Return all that an `Ask` says; a refusal as it is."""
    if isinstance(found, BadRequest):
        return found
    return {name: getattr(found, name) for name in Ask.__slots__}
