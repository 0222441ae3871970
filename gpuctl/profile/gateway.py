"""
What must hold between the values of `[gateway]`, and between them and the workloads.

Called by `rules` with what was valid; yields Mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpuctl.model import GatewaySettings
from gpuctl.overrides import gateway_doubts
from gpuctl.profile.mistakes import Mistake, nearest
from gpuctl.quantities import show


def check(settings: GatewaySettings, workloads: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield every mistake; *workloads* are the names of those that the profile has."""
    for key, what, hint in gateway_doubts(settings):
        yield Mistake(path=("gateway", *key.split(".")), what=what, hint=hint)
    yield from _targets(settings.pass_through, workloads)
    yield from _nested(tuple(settings.pass_through))


def _targets(routes: Mapping[str, str], workloads: tuple[str, ...]) -> Iterator[Mistake]:
    for path, name in routes.items():
        if name not in workloads:
            what = f"there is no workload {show(name)}"
            hint = nearest(name, workloads, of="the workloads are")
            yield Mistake(path=("gateway", "pass_through", path), what=what, hint=hint)


def _nested(paths: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield a route inside another: each takes all that is below it."""
    for path in paths:
        outer = next((other for other in paths if path.startswith(f"{other}/")), None)
        if outer is not None:
            what = f"{outer} takes this already"
            hint = "give the two paths that do not begin alike"
            yield Mistake(path=("gateway", "pass_through", path), what=what, hint=hint)
