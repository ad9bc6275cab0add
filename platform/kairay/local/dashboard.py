"""HTTP to Ray's dashboard, with its token: the one seam where network trouble becomes an error of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kairay.errors import HostError, KairayError, TransientError

TIMEOUT = 30.0
"""Seconds for an answer; the dashboard shares two cores with training, so it may be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the dashboard said."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the call did what it should."""
        return self.status == 200

    def json(self) -> Any:
        """The body as data; TransientError when it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise TransientError(f"Ray's dashboard gave no JSON: {self.text.strip()[:200]!r}") from error


class Dashboard:
    """One Ray dashboard on this machine."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> Answer:
        """One request; TransientError when nothing answers in time, HostError when the token is refused."""
        import requests

        try:
            # A proxy from the environment must not see the token.
            with requests.Session() as session:
                session.trust_env = False
                answer = session.request(
                    method, self.url + path, json=body, headers=self._headers, timeout=timeout
                )
                status, text = answer.status_code, answer.text
        except requests.Timeout as error:
            raise TransientError(f"Ray at {self.url} gave no answer in {timeout:.0f} s; try again") from error
        except requests.RequestException as error:
            raise TransientError(
                f"Ray does not answer at {self.url}; `kairay status` shows what runs"
            ) from error
        if status in (401, 403):
            raise HostError(
                f"Ray at {self.url} refuses our token; name the right one with RAY_AUTH_TOKEN_PATH"
            )
        return Answer(status=status, text=text)

    def reaches(self, path: str, *, timeout: float = 5.0) -> bool:
        """Whether a GET is answered with 200 in time."""
        try:
            return self.call("GET", path, timeout=timeout).ok
        except KairayError:
            return False


def refused(what: str, answer: Answer) -> KairayError:
    """The error for an answer that no caller expects: what was asked, and Ray's last line."""
    lines = [line.strip() for line in answer.text.splitlines() if line.strip()]
    return KairayError(f"Ray would not {what}: {lines[-1][:400] if lines else f'HTTP {answer.status}'}")
