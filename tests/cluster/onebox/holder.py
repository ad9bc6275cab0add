"""Who holds the one cluster of this machine, and the lock under which that changes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from onebox.errors import Report
from onebox.layout import CLONE, Layout
from onebox.locks import exclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Written before the first change to the machine, so that a killed start can be told from a running cluster."""

    clone: str
    started: str
    tools: str
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
        return Holder(clone="?", started="?", tools="", up=False)


def write(layout: Layout, holder: Holder) -> None:
    """Replace the record in one step."""
    draft = layout.holder.with_suffix(".new")
    draft.write_text(json.dumps(asdict(holder), indent=1))
    draft.replace(layout.holder)


@contextmanager
def lock(layout: Layout, report: Report) -> Iterator[None]:
    """Only one start or stop at a time; the kernel frees it when its owner dies."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with exclusive(
        layout.root / ".lock",
        lambda pid: report(f"another start or stop is at work (pid {pid or '?'}); waiting for it"),
    ) as handle:
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
