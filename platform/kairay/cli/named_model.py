"""A model as somebody names it at a prompt: a folder of that name here is told where no preset has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kairay.errors import InputError
from kairay.plan import PlanTarget
from kairay.presets import Preset
from kairay.registry.reference import LAYOUT_PREFIX
from kairay.registry.resolve import NOT_IN_PODS, refuse_folder, resolve_preset


def named_preset(name: str, target: PlanTarget, folder: Path) -> Preset:
    """The preset that a file in `folder` names, for a plan; a relative path counts from there, as of `hostPath`.

    InputError as `resolve_preset`, and for a folder that pods do not have.
    """
    if target is PlanTarget.LOCAL:
        with told_of_folder(name, f": write ./{name}", folder):
            return resolve_preset(_from(folder, name))
    refuse_folder(name)
    with told_of_folder(name, f", {NOT_IN_PODS}", folder):
        return resolve_preset(name)


@contextmanager
def told_of_folder(name: str, remedy: str, folder: Path = Path()) -> Iterator[None]:
    """Say in the InputError of a name that no preset has that a folder in `folder` has it, and what to do."""
    try:
        yield
    except InputError as error:
        if error.reason != "UnknownPreset" or not (folder / name).is_dir():
            raise
        end = "" if error.message.endswith("?") else ";"
        said = f"{error.message}{end} there is a folder {name} here{remedy}"
        raise InputError(said, reason=error.reason) from None


def _from(folder: Path, name: str) -> str:
    """The name as it stands, but of what lies in the file system its whole path."""
    kind = LAYOUT_PREFIX if name.startswith(LAYOUT_PREFIX) else ""
    path = folder / Path(name.removeprefix(kind)).expanduser()
    is_path = kind or name.startswith((".", "~")) or ("/" in name and path.is_dir())
    return f"{kind}{path}" if is_path else name
