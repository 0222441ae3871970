"""
`demo`: two replicas of a real small model on the CPU, asked, killed, and brought back.

It is the product's own `up` on a profile, a state directory and a port of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl import embedded, fast_status, paths
from gpuctl.cli import background, bring_up, compose, follow, planned, preflight, take_down
from gpuctl.cli.session import Session, show
from gpuctl.errors import GpuctlError

if TYPE_CHECKING:
    from gpuctl.model import Profile
    from gpuctl.model.status import Status

QUESTION = "What is the capital of France?"
#: Left to itself, a model of 135M parameters answers this one in French, and at length.
MANNER = "You answer in one short English sentence."

_PROFILE = """\
schema = 1
[host]
name = "demo"
runtime = "process"
[watchdog]
interval = "1s"
load_spacing = "0s"
[workloads.chat]
engine = "llama.cpp"
model = "{model}"
gpus = "none"
replicas = 2
port = {port}
context = 1024
"""
_FIRST_PORT = 18081
_TRIED_PORTS = 100
#: A cold disk and one slow core take half a minute.
_READY_SECONDS = 180.0
_DOWN_SECONDS = 60.0
_LOOK = "`gpuctl demo --keep` leaves it running: `gpuctl logs` has what its engine says"


def command(session: Session, *, keep: bool) -> int:
    """Run the demo; return the exit code."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise GpuctlError(
            "the demo needs the embedded llama.cpp server, which is not installed",
            embedded.INSTALL,
        )
    place = _cache(session.environment)
    own = _own(session, place / "demo")
    _tell("1. the model: SmolLM2 135M, 98 MB, Apache-2.0")
    model = _model(session, place / "models")
    _begin_anew(own, place / "demo")
    try:
        code = _shown(own, model)
    finally:
        if not keep:
            _clean_up(own)
    if keep:
        _tell_how(own)
    return code


def _tell(words: str) -> None:
    show(words, flush=True)  # in its place among the lines of progress, piped or not


def _shown(session: Session, model: Path) -> int:
    _tell("2. two replicas of it, as processes on this machine's CPU")
    began = time.monotonic()
    profile = _profile(session, model)
    code = _up(session, profile)
    if code:
        return code
    _tell(f"   ready after {time.monotonic() - began:.1f} s")
    _tell(f"3. a question to chat-0: {QUESTION}")
    _tell(f"   {_ask(session.status(), 'chat-0')}")
    _tell("4. chat-1 is killed (SIGKILL), and nobody tells the watchdog")
    seconds = _kill(session, profile, "chat-1")
    _tell(f"   ready again after {seconds:.1f} s; it answers: {_ask(session.status(), 'chat-1')}")
    _tell("5. `gpuctl status` now")
    fast_status.main(False, "", session.environment)
    return 0


def _up(session: Session, profile: Profile) -> int:
    plan, _ = planned.made(session, profile)
    with closing(compose.runtime(session, profile)) as runtime:
        preflight.check(session, profile, plan, runtime)
    bring_up.apply(session, profile)
    guard, known = bring_up.supervise(session)
    return bring_up.ready(session, plan, guard, known, _READY_SECONDS)


def _kill(session: Session, profile: Profile, name: str) -> float:
    """Kill a replica's process; return the seconds until another is ready in its place."""
    with closing(compose.runtime(session, profile)) as runtime:
        old = runtime.inspect(f"gpuctl-{name}")
    if old is None or old.pid is None:
        raise GpuctlError(f"{name} has no process", "run the demo again")
    began = time.monotonic()
    os.kill(old.pid, signal.SIGKILL)

    def back(status: Status) -> bool:
        row = next(row for row in status["replicas"] if row["name"] == name)
        return row["container"] not in (None, old.id) and row["phase"] in ("ready", "busy")

    follower = follow.Follower(session=session, timeout_seconds=_READY_SECONDS)
    with follow.progress(session) as show:
        follower.until(back, show)
    return time.monotonic() - began


def _ask(status: Status, name: str) -> str:
    """
    Return the model's answer to the question, in one line.

    Raises:
        GpuctlError: there was none, or it had no word in it.
    """
    import httpx

    port = next(row["port"] for row in status["replicas"] if row["name"] == name)
    messages = [{"role": "system", "content": MANNER}, {"role": "user", "content": QUESTION}]
    body = {"messages": messages, "max_tokens": 32, "temperature": 0}
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        answer = httpx.post(url, json=body, timeout=60.0, trust_env=False).raise_for_status().json()
        words = str(answer["choices"][0]["message"]["content"] or "").split()
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise GpuctlError(f"{name} did not answer: {error}", _LOOK) from error
    if not words:
        raise GpuctlError(f"{name} answered the question without a word", _LOOK)
    return " ".join(words)


def _model(session: Session, cache: Path) -> Path:
    from gpuctl.adapters.model_files import fetch_demo_model
    from gpuctl.cli.progress import bar

    with bar(session, "fetching the model") as show:
        return fetch_demo_model(cache, show)


def _profile(session: Session, model: Path) -> Profile:
    from gpuctl.plugin import load_engines
    from gpuctl.profile import loads

    text = _PROFILE.format(model=model, port=_free_port())
    return loads(text, "the demo's profile", engines=load_engines())


def _free_port() -> int:
    """Return the first of two neighbouring free ports on loopback."""
    for port in range(_FIRST_PORT, _FIRST_PORT + _TRIED_PORTS, 2):
        if _free(port) and _free(port + 1):
            return port
    raise GpuctlError(f"no two free ports from {_FIRST_PORT} on", "see what listens with `ss -ltn`")


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _own(session: Session, place: Path) -> Session:
    """Return a session whose every directory lies in the demo's own place."""
    own: Mapping[str, str] = {
        **{k: v for k, v in session.environment.items() if not k.endswith("_DIRECTORY")},
        "GPUCTL_CONFIG_DIR": str(place),
        "GPUCTL_STATE_DIR": str(place),
        "GPUCTL_RUNTIME_DIR": str(place / "run"),
    }
    return replace(session, environment=own, simulate="")


def _cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or f"{environment.get('HOME', '/tmp')}/.cache"
    return Path(home) / "gpuctl"


def _begin_anew(session: Session, place: Path) -> None:
    """End what an earlier demo left, and forget its journal: its deaths would delay this one's."""
    # A directory each; the lock beside them stays.
    left = any(path.is_dir() for path in place.glob("processes/*"))
    if session.running() or left:
        session.say("an earlier demo is still there: it is taken down first")
        take_down.command(session, timeout=_DOWN_SECONDS)
    shutil.rmtree(place, ignore_errors=True)
    background.prepare(session.own)


def _clean_up(session: Session) -> None:
    if session.running() is None:
        return
    _tell("6. everything is taken down again (`gpuctl demo --keep` leaves it running)")
    take_down.command(session, timeout=_DOWN_SECONDS)


def _tell_how(session: Session) -> None:
    _tell("6. it is left running. To look at it, and to end it:")
    for line in afterwards(session.own, os.environ.get("PATH", os.defpath)):
        _tell(f"   {line}")


def afterwards(own: paths.Directories, search: str) -> Iterator[str]:
    """Yield what to type for a demo in these directories, in a shell of this search path."""
    if shutil.which("gpuctl", path=search) is None:
        yield f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
    setting = (
        f"GPUCTL_CONFIG_DIR={own.config}",
        f"GPUCTL_STATE_DIR={own.state}",
        f"GPUCTL_RUNTIME_DIR={own.runtime}",
    )
    yield f"export {shlex.join(setting)}"
    yield "gpuctl top        gpuctl why chat-1        gpuctl events"
    yield "gpuctl down"
