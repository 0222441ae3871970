"""Which profile a command means: the one named, the configured one, the applied one, or `cpu`."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING

from gpuctl import paths
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, NotFound, ProfileError, UsageError

if TYPE_CHECKING:
    from gpuctl.model import Profile

#: Taken where nothing is configured and no GPU is there to choose by.
BARE = "cpu"


def load(session: Session, name: str) -> Profile:
    """
    Return a profile by its path or shipped name, with the environment's overrides in it.

    Raises:
        ProfileError: with every mistake in it.
    """
    from gpuctl import profile
    from gpuctl.plugin import load_engines

    path = profile.find(name)
    for message, hint in profile.warnings(path):
        session.say(f"warning: {message}\nhint: {hint}")
    return _overridden(session, profile.load(path, engines=load_engines()))


def _overridden(session: Session, profile: Profile) -> Profile:
    """Return a profile with the environment's overrides in it, and tell of those that change it."""
    from gpuctl import overrides

    try:
        found = overrides.apply(profile, session.environment)
    except ProfileError as error:
        raise ProfileError((*error.mistakes, *_unread(session, profile))) from None
    for message, hint in overrides.notes(profile, session.environment):
        session.say(f"warning: {message}" + (f"\nhint: {hint}" if hint else ""))
    for variable, text in found.overrides.items():
        session.say(f"environment: {variable}={text} stands above the profile")
    return found.profile


def _unread(session: Session, profile: Profile) -> tuple[tuple[str, str], ...]:
    """Return the files of secrets that cannot be read, as far as the environment makes sense."""
    from gpuctl import overrides
    from gpuctl.cli import preflight

    files = {name: session.environment.get(name, "") for name in overrides.FILES}
    if session.simulate:
        return ()
    with suppress(ProfileError):  # of a path that is none, which is among the mistakes already
        profile = overrides.apply(profile, files).profile
    return preflight.unread_secrets(profile)


def chosen(session: Session, name: str | None) -> Profile:
    """Return the profile to bring up: named, configured, applied before, or a default."""
    if name is None:
        name = configured(session)
    if name is not None:
        return load(session, name)
    if os.path.exists(session.own.applied):
        return _overridden(session, applied(session))
    return load(session, default(session))


def configured(session: Session) -> str | None:
    """Return what gpuctl.toml in the configuration directory names, or profile.toml beside it."""
    directory = session.own.config
    settings = f"{directory}/gpuctl.toml"
    if os.path.exists(settings):
        try:
            with open(settings, "rb") as file:
                named = tomllib.load(file).get("profile")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{settings}: {error}", 'it needs a line like profile = "p106x8"'
            ) from None
        if isinstance(named, str):
            own = os.path.join(directory, named)
            return own if os.path.exists(own) else named
    path = f"{directory}/profile.toml"
    return path if os.path.exists(path) else None


def applied(session: Session) -> Profile:
    """
    Return the applied profile.

    Raises:
        NotFound: nothing was ever applied here.
    """
    from gpuctl.applied import load as read
    from gpuctl.cli import compose

    return compose.settled(session, read(applied_text(session)))


def applied_text(session: Session) -> str:
    """Return the applied profile as it is stored. Raises `NotFound` where there is none."""
    path = session.seen.applied
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(
            f"no profile is applied: there is no {path}", "apply one with `gpuctl up PROFILE`"
        ) from None
    except OSError as error:
        raise GpuctlError(f"{path}: {error.strerror}", paths.denied(path)) from None


def default(session: Session) -> str:
    """
    Return the shipped profile for a host nobody has configured.

    Raises:
        UsageError: it has GPUs, so the choice is its owner's.
    """
    from gpuctl.cli import compose
    from gpuctl.profile import shipped

    if session.simulate in shipped():
        return session.simulate
    gpus = compose.inventory(session, None).gpus
    if gpus:
        found = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in gpus)
        raise UsageError(
            f"which profile? This host has GPUs ({found})",
            "name one of `gpuctl profiles`, or write one with `gpuctl init`",
        )
    return BARE
