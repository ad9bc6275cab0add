"""What we changed on the machine, written down before we change it: a kill in between must leave it readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_record(path: Path, value: Any) -> None:
    """Replace the record in one step."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def read_record(path: Path, default: Any) -> Any:
    """The record; `default` where there is none, or one that an older kill has torn."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return default
