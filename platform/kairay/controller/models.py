"""The model that a Workspace names: one of the catalogue, or what the hub or a registry says of another.

Users write the name, the controller asks: so it asks the operator's hub and the registries that the operator lists,
with the operator's logins, and nobody else. It never looks for a folder, which would be one of its own.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from kairay.controller.settings import ModelSettings
from kairay.errors import InputError, KairayError, TransientError
from kairay.presets import Preset, find_preset
from kairay.registry.model_files import HUB_ID, Remedies, read_artifact, read_hub
from kairay.registry.reference import ArtifactReference, RemoteReference, names_a_registry
from kairay.registry.resolve import preset_of, refuse_folder
from kairay.registry.store import RemoteOptions

FACTS_LAST: Final = timedelta(days=1)
REFUSAL_LASTS: Final = timedelta(minutes=1)
"""Then it is looked at again without an edit: a licence may have been accepted, an artifact pushed."""
SILENCE_LASTS: Final = timedelta(seconds=10)
"""Of a hub that cannot be reached, so that many Workspaces that name one model ask once."""
PATIENCE: Final = 3.0
"""Seconds that a pass waits for an answer; the question goes on, and the next pass finds what came of it."""

_AT_A_TIME = 4
_MOST_KEPT = 1000
_REMEDIES = Remedies(
    token="give the controller a token that may read it (docs/cluster-guide.md: secret kairay-hub)",  # noqa: S106
    unreachable="check that the controller can reach it (Helm: models.endpoint)",
)
_TIMEOUT = (10.0, 30.0)
"""Seconds to connect to a registry, and without a byte."""


class Models(Protocol):
    """Where a pass gets the facts of a model."""

    async def preset(self, name: str, now: datetime) -> Preset:
        """InputError: there is no such model, or it may not be asked for. TransientError: nobody can say now."""


class ModelLookUp:
    """The real one. It remembers: facts for a day, and for longer while nobody can be asked; a refusal for a minute.

    `look_up` runs in a thread. A name is never asked for twice at a time, and few are at once, so that a server that
    does not answer holds up its own models and no other Workspace.
    """

    def __init__(self, look_up: Callable[[str], Preset], *, patience: float = PATIENCE) -> None:
        self._look_up, self._patience = look_up, patience
        self._threads = ThreadPoolExecutor(max_workers=_AT_A_TIME, thread_name_prefix="model")
        self._known: dict[str, _Word] = {}
        self._asked: dict[str, asyncio.Task[_Word]] = {}

    async def preset(self, name: str, now: datetime) -> Preset:
        """See Models."""
        try:
            return find_preset(name)
        except InputError:
            if "/" not in name:
                raise
        known = self._known.get(name)
        if known is None or known.until <= now:
            known = await self._ask(name, now, known)
        return known.read()

    async def _ask(self, name: str, now: datetime, before: _Word | None) -> _Word:
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.ensure_future(self._learn(name, now, before))
            task.add_done_callback(lambda _: self._asked.pop(name))
        done, _ = await asyncio.wait({task}, timeout=self._patience)
        if done:
            return task.result()
        looking = TransientError(f"{name} is being looked up", retry_after=1.0, reason="LookingUp")
        return before or _Word(until=now, error=looking)

    async def _learn(self, name: str, now: datetime, before: _Word | None) -> _Word:
        loop = asyncio.get_running_loop()
        try:
            preset = await loop.run_in_executor(self._threads, self._look_up, name)
            word = _Word(until=now + FACTS_LAST, preset=preset)
        except TransientError as error:
            silence = _Word(until=now + SILENCE_LASTS, error=_bare(error))
            stale = before is not None and before.preset is not None
            word = replace(before, until=silence.until) if before is not None and stale else silence
        except KairayError as error:
            # A certificate that is not trusted and a damaged artifact too: somebody has to do something about it.
            said = error if isinstance(error, InputError) else InputError(error.message, reason=error.reason)
            word = _Word(until=now + REFUSAL_LASTS, error=_bare(said))
        self._known.pop(name, None)
        self._known[name] = word
        while len(self._known) > _MOST_KEPT:
            del self._known[next(iter(self._known))]
        return word


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """What was said of a name, and until when it counts; one of the two."""

    until: datetime
    preset: Preset | None = None
    error: InputError | TransientError | None = None

    def read(self) -> Preset:
        if self.error is not None:
            raise _bare(self.error)
        assert self.preset is not None
        return self.preset


def _bare(error: InputError | TransientError) -> InputError | TransientError:
    """Without the traceback, which would keep all that was read."""
    return copy.copy(error)


def look_up_model(name: str, settings: ModelSettings, environment: Mapping[str, str]) -> Preset:
    """The preset of this name, by who may be asked for it; blocks. Errors as for `Models`, and those of a registry.

    `environment` has the hub's token.
    """
    try:
        return find_preset(name)
    except InputError:
        refuse_folder(name)
        if not (names_a_registry(name) or HUB_ID.fullmatch(name)):
            raise
    if names_a_registry(name):
        _check_listed(name, settings)
        # The next pass is the next attempt.
        return preset_of(read_artifact(name, RemoteOptions(attempts=1, timeout=_TIMEOUT)))
    if not settings.hub:
        raise InputError(
            f"preset.name: {name} is not in the catalogue (`kairay presets`), and models are not looked up on the hub"
            " here (Helm: models.hub); push it to a registry and give REGISTRY/NAME:TAG"
        )
    return preset_of(read_hub(name, {**environment, "HF_ENDPOINT": settings.endpoint}, _REMEDIES))


def _check_listed(name: str, settings: ModelSettings) -> None:
    reference = ArtifactReference.parse(name)
    assert isinstance(reference, RemoteReference)
    if reference.registry.casefold() not in settings.registries:
        raise InputError(
            f"preset.name: {reference.registry} is not among the registries that Kairay asks for models here; the"
            " operator lists them (Helm: models.registries, or KAIRAY_MODEL_REGISTRIES)"
        )
