"""Who holds the one cluster of this machine, and the lock under which that changes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from onebox.layout import CLONE, Layout
from onebox.tools import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Written before the first change to the machine, so that a killed start can be told from a running cluster."""

    clone: str
    pid: int
    """Of the starter."""
    started: str
    tools: str
    gpus: int
    up: bool
    """Whether the start came to its end."""

    @property
    def is_this_clone(self) -> bool:
        """Whether this clone of the project started it."""
        return Path(self.clone) == CLONE


def read(layout: Layout) -> Holder | None:
    """The holder, or None; a torn file counts as a start that was cut off."""
    try:
        return Holder(**json.loads(layout.holder.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Holder(clone="?", pid=0, started="?", tools="", gpus=0, up=False)


def write(layout: Layout, holder: Holder) -> None:
    """Replace the record in one step."""
    draft = layout.holder.with_suffix(".new")
    draft.write_text(json.dumps(asdict(holder), indent=1))
    draft.replace(layout.holder)


@contextmanager
def lock(layout: Layout, report: Report) -> Iterator[None]:
    """Only one start or stop at a time; the kernel frees it when its owner dies."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with (layout.root / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            report(f"another start or stop is at work (pid {handle.read().strip() or '?'}); waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
