"""A model as somebody names it at a prompt: a folder of that name here is told where no preset has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kairay.errors import InputError
from kairay.plan import PlanTarget
from kairay.presets import Preset
from kairay.registry.resolve import NOT_IN_PODS, refuse_folder, resolve_preset


def named_preset(name: str, target: PlanTarget) -> Preset:
    """The preset of this name, for a plan. InputError as `resolve_preset`, and for a folder that pods do not have."""
    if target is PlanTarget.LOCAL:
        with told_of_folder(name, f": write ./{name}"):
            return resolve_preset(name)
    refuse_folder(name)
    with told_of_folder(name, f", {NOT_IN_PODS}"):
        return resolve_preset(name)


@contextmanager
def told_of_folder(name: str, remedy: str) -> Iterator[None]:
    """Say in the InputError of a name that no preset has that a folder has it, and what to do."""
    try:
        yield
    except InputError as error:
        if error.reason != "UnknownPreset" or not Path(name).is_dir():
            raise
        end = "" if error.message.endswith("?") else ";"
        said = f"{error.message}{end} there is a folder {name} here{remedy}"
        raise InputError(said, reason=error.reason) from None
