"""The image of `on_cpu` on a whole daemon: there before a GPU dies."""

from __future__ import annotations

from gpuctl.model import Variant
from tests.moving import Rack


def test_the_image_for_the_cpu_is_fetched_while_all_is_well() -> None:
    """So that a failover starts at once, and nothing is fetched then."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu", on_cpu=Variant(image="engine:spare"))
    told = [(e.subject, e.reason) for e in rack.fakes.store.stored if e.kind == "image"]
    assert told == [("chat", "fetching"), ("chat", "fetched")]
    assert rack.phase() == "ready"
    rack.lose(0)
    rack.pass_(12)
    assert (rack.places(), rack.spec("chat-0").image) == ({"chat-0": ()}, "engine:spare")
    assert "fetch" not in rack.actions()
