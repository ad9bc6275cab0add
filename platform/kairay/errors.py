"""Errors that reach a person: one tree, each leaf a different thing to do about it.

KairayError              exit 1   something failed; the message says what
├── InputError           exit 2   what was written must change (a Workspace, a flag, a preset name)
│   └── DataError        exit 3   a data file or a row of it must change; names file and line
├── HostError            exit 4   this machine lacks something: disk, port, memory, a package
├── TransientError       exit 5   the same call may work later (a registry that is down)
└── JobFailedError       exit 6   a job ran and ended without success

Every message is one sentence that says what, where and the remedy. Only these cross a package border; foreign errors
are mapped where the foreign call is made.
"""

from __future__ import annotations

import json


class KairayError(Exception):
    """Root of the tree; `reason` is the CamelCase word that status and JSON output carry."""

    exit_code = 1
    reason = "Failed"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self)

    def to_json(self) -> str:
        """The last line that a job or a fetch prints when it fails, for whoever waits for it."""
        return json.dumps({"error": {"reason": self.reason, "message": self.message}})


class InputError(KairayError):
    """What a person wrote must change; trying again as it is cannot help."""

    exit_code = 2
    reason = "InvalidInput"


class DataError(InputError):
    """A data file or one of its rows must change; the message starts with `file:line:`."""

    exit_code = 3
    reason = "InvalidData"


class HostError(KairayError):
    """The machine lacks something that a person can give it: disk, a port, memory, a package."""

    exit_code = 4
    reason = "HostNotReady"


class TransientError(KairayError):
    """The same call may work after `retry_after` seconds."""

    exit_code = 5
    reason = "Unavailable"

    def __init__(self, message: str, *, retry_after: float = 5.0, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class JobFailedError(KairayError):
    """A job ran and ended without success; the message carries its last word."""

    exit_code = 6
    reason = "JobFailed"
