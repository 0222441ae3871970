"""A daemon whose events were lost while replicas were elsewhere: nothing that serves is touched."""

from __future__ import annotations

from tests import make
from tests.moving import Rack, gpus_of


def bereft(rack: Rack) -> None:
    """Kill the daemon and lose what was remembered."""
    rack.fakes.store.stored.clear()
    rack.fakes.store.cautious = True
    rack.born()


def test_what_serves_from_the_reserve_serves_on() -> None:
    """Why it had left its GPU is forgotten: that is no reason to go back, until the next `up`."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(12)
    rack.find(0)
    bereft(rack)
    rack.pass_(30)
    assert gpus_of(rack) == {"chat-0": ("GPU-1",)}
    assert (rack.phase(), rack.places(), rack.actions()) == ("ready", {"chat-0": (1,)}, [])
    rack.ask("up")
    rack.pass_(30)
    assert gpus_of(rack) == {"chat-0": ("GPU-0",)}


def test_what_scale_added_serves_on() -> None:
    """It looks like what an earlier profile left, which goes at the next `up` or `down`."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    bereft(rack)
    rack.pass_(30)
    assert gpus_of(rack) == {"chat-0": ("GPU-0",), "chat-1": ("GPU-1",)}
    rack.ask("down")
    rack.pass_(40)
    assert rack.fakes.runtime.containers == {}


def test_what_fails_meanwhile_is_started_where_it_belongs() -> None:
    """Its budget counts as used: in the time of a crash loop."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(12)
    rack.find(0)
    bereft(rack)
    rack.pass_(3)
    rack.fakes.runtime.die("c2", 1)
    rack.pass_(make.SETTINGS.crash_loop_seconds + 20, step=10)
    assert gpus_of(rack) == {"chat-0": ("GPU-0",)}
