"""Ray Serve's REST API: our application among those that are there, and what becomes of it.

Serve takes the whole list of applications at once and deletes those that are missing from it, so ours is merged
into what runs. A failure's reason is on the deployment or on the application, and that order is of use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from kairay.errors import TransientError
from kairay.local.dashboard import Dashboard, refused

PATH = "/api/serve/applications/"

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class AppStatus(StrEnum):
    """States of a Serve application, as Serve spells them."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInfo:
    """One application, as Serve sees it."""

    name: str
    status: AppStatus
    message: str = ""
    """Why it is not running, in one line; empty when Serve does not say."""
    route_prefix: str | None = None
    config: Mapping[str, Any] | None = None
    """What it was deployed with; None for one that was not deployed through this API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeInfo:
    """Serve as a whole."""

    applications: Mapping[str, AppInfo] = field(default_factory=dict)
    port: int | None = None
    """Of its HTTP server; None while Serve is not up."""


class Serve(Protocol):
    """What a run needs of Serve; `ServeClient` talks to Ray, `fake.FakeServe` is for tests."""

    def read(self) -> ServeInfo:
        """All applications now."""

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Deploy the one application of `config` beside those that are there."""

    def delete(self, name: str) -> None:
        """Delete an application; the others stay. No error when it is not there."""


class ServeClient:
    """The Serve API of a running Ray."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def read(self) -> ServeInfo:
        """All applications now."""
        answer = self._dashboard.call("GET", PATH)
        if not answer.ok:
            raise TransientError(f"Ray would not show what it serves: {answer.text.strip()[:200]}")
        data = answer.json()
        applications = {
            name: _as_app(name, app) for name, app in sorted(data.get("applications", {}).items())
        }
        return ServeInfo(applications=applications, port=(data.get("http_options") or {}).get("port"))

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Deploy the one application of `config` beside those that are there."""
        (ours,) = config["applications"]
        self._put(config, [*self._others(ours["name"]), ours], f"serve {ours['name']}")

    def delete(self, name: str) -> None:
        """Delete an application; with the last one Serve's own processes go too."""
        others = self._others(name)
        if others:
            self._put({}, others, f"stop serving {name}")
        elif self.read().applications.keys() <= {name}:
            answer = self._dashboard.call("DELETE", PATH)
            if not answer.ok:
                raise refused(f"stop serving {name}", answer)
        else:
            self._put({}, [], f"stop serving {name}")

    def _others(self, name: str) -> list[Mapping[str, Any]]:
        return [
            app.config
            for app in self.read().applications.values()
            if app.name != name and app.config is not None
        ]

    def _put(self, config: Mapping[str, Any], applications: list[Mapping[str, Any]], what: str) -> None:
        ordered = sorted(applications, key=lambda app: str(app["name"]))
        answer = self._dashboard.call("PUT", PATH, {**config, "applications": ordered}, timeout=120.0)
        if not answer.ok:
            raise refused(what, answer)


def _as_app(name: str, data: Mapping[str, Any]) -> AppInfo:
    return AppInfo(
        name=name,
        status=AppStatus(data["status"]),
        message=_reason(data),
        route_prefix=data.get("route_prefix"),
        config=data.get("deployed_app_config"),
    )


def _reason(data: Mapping[str, Any]) -> str:
    said = [deployment.get("message") for _, deployment in sorted(data.get("deployments", {}).items())]
    return next((line for text in [*said, data.get("message")] if (line := _last_line(text or ""))), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in _ANSI.sub("", text).splitlines() if line.strip()]
    return lines[-1][:600] if lines else ""
