"""What the child cites for each reading is what `nvidia-smi` and the binding really have."""

from __future__ import annotations

import re
from pathlib import Path

import pynvml
import pytest

from tests.rig.nvml.cited import MODULES, cited, docstrings

#: Fields of `nvidia-smi --help-query-gpu` as of R580, those that may be cited.
QUERY_GPU = frozenset(Path(__file__).with_name("nvidia_smi_query_gpu.txt").read_text().split())
#: Those of its other queries.
QUERY_COMPUTE_APPS = frozenset({"pid", "process_name", "used_gpu_memory", "gpu_uuid"})
QUERY_REMAPPED_ROWS = frozenset(
    f"remapped_rows.{what}" for what in ("correctable", "uncorrectable", "pending", "failure")
)
KNOWN = {
    "query-gpu": QUERY_GPU,
    "query-compute-apps": QUERY_COMPUTE_APPS,
    "query-remapped-rows": QUERY_REMAPPED_ROWS,
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_field_cited_is_one_that_nvidia_smi_has(path: Path) -> None:
    """A Source that cannot be looked up is none."""
    assert {(query, field) for query, field in cited(path) if field not in KNOWN[query]} == set()


def test_each_tier_cites_its_fields() -> None:
    """The comparison is of something: every query is cited, and most of the fields."""
    everything = set().union(*map(cited, MODULES))
    assert {query for query, _ in everything} == set(KNOWN)
    assert len(everything) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_function_cited_is_one_that_the_binding_has(path: Path) -> None:
    """And every function called is cited where it is called."""
    text = path.read_text()
    documented = " ".join(docstrings(path))
    named = set(re.findall(r"\bnvml[A-Z]\w*\b", documented))
    ours = {name for name in named if not name.endswith("_t") and name not in ("nvmlDevice",)}
    assert {name for name in ours if not _exists(name)} == set()
    asked = set(re.findall(r"pynvml\.(nvmlDeviceGet\w+|nvmlSystemGet\w+)", text))
    hidden = {"nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetSupportedEventTypes"}
    assert {n for n in asked - hidden if not any(n.startswith(c.split("_v")[0]) for c in ours)} == (
        set()
    )


def _exists(name: str) -> bool:
    return hasattr(pynvml, name) or hasattr(pynvml, name.split("_v")[0])
