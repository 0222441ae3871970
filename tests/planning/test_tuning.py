"""What an engine chooses for a card reaches the plan; what the operator wrote stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.model import GIB, Tuned
from gpuctl.planning.tuning import tuned
from gpuctl.plugin import load_engines
from tests.engines.make import slot, workload

from .make import gpu, host, planned
from .make import workload as in_a_profile

LLAMA_CPP = load_engines()["llama.cpp"]


def test_options_are_filled_in() -> None:
    """What was chosen is an option; what the operator wrote, and what is no option, is not."""
    chosen = (
        Tuned(key="batch", value=256, why="small"),
        Tuned(key="ubatch", value=9, why="said", by_operator=True),
        Tuned(key="mounts", value="a:/b", why="kept"),
    )
    engine = replace(LLAMA_CPP, tune=lambda *_: chosen)
    asked = workload(options={"ubatch": 512})
    told = replace(asked, options={"batch": 256, "ubatch": 512})
    assert tuned(asked, slot(), engine) == (told, chosen)


def test_the_operator_prevails_over_a_careless_engine() -> None:
    """Even an engine that chooses what the profile says does not change it."""
    engine = replace(LLAMA_CPP, tune=lambda *_: (Tuned(key="batch", value=256, why="small"),))
    assert tuned(workload(options={"batch": 8}), slot(), engine)[0].options == {"batch": 8}


def test_an_engine_without_a_choice() -> None:
    """An engine that has nothing to choose leaves the workload as it is."""
    assert tuned(workload(), slot(), replace(LLAMA_CPP, tune=None)) == (workload(), ())


@pytest.mark.parametrize(
    ("name", "gibibytes", "batch"),
    [pytest.param("P106-100", 6, 256, id="small"), pytest.param("RTX 3090", 24, None, id="large")],
)
def test_a_plan_shows_it(name: str, gibibytes: int, batch: int | None) -> None:
    """A replica carries its settings and their reasons, and is started with them."""
    here = host((gpu(0, name=name, memory_total_bytes=gibibytes * GIB),))
    (replica,) = planned(in_a_profile(), on=here).replicas
    found = {row.key: row.value for row in replica.tuned}
    assert found.get("batch") == batch
    assert ("-b" in replica.spec.command) is (batch is not None)
