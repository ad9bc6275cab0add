"""How our Ray instance is started: its command line and environment, as pure functions of ports and paths.

Loopback only, token on every port that runs code, no usage reports, no port that another Ray would take too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kairay.local.ports import LOOPBACK
from kairay.local.processes import MARK

OBJECT_STORE_BYTES = 512 * 2**20
"""Tokenised data and adapters are megabytes; Ray's default is 30 % of the memory, which training needs."""

_DROPPED: Final = frozenset(
    {
        "PYTHONDONTWRITEBYTECODE",  # workers import torch: without bytecode every start pays seconds
        "PYTHONSTARTUP",
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_TOKEN",
        "RAY_DASHBOARD_ADDRESS",
        "RAY_JOB_HEADERS",
        "RAY_NAMESPACE",
        "RAY_RUNTIME_ENV_HOOK",
        "RAY_TMPDIR",
    }
)
"""Variables of the caller's shell that would lead our instance astray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPorts:
    """Every port of the instance that is not chosen by Ray itself."""

    gcs: int
    dashboard: int
    metrics: int
    client: int
    agent_http: int
    agent_grpc: int
    runtime_env: int
    autoscaler_metrics: int
    dashboard_metrics: int


def start_command(ray: str, ports: RayPorts, temp_dir: Path) -> list[str]:
    """`ray start` for one head on this machine; `ray` is the program's path."""
    flags = {
        "node-ip-address": LOOPBACK,
        "port": ports.gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": ports.dashboard,
        "dashboard-agent-listen-port": ports.agent_http,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "runtime-env-agent-port": ports.runtime_env,
        "ray-client-server-port": ports.client,
        "metrics-export-port": ports.metrics,
        # Zero means any free port; the default range would collide with the ports chosen above.
        "min-worker-port": 0,
        "max-worker-port": 0,
        "object-store-memory": OBJECT_STORE_BYTES,
        "temp-dir": temp_dir,
        "log-style": "record",
        "log-color": "false",
    }
    return [
        ray,
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        *(f"--{k}={v}" for k, v in flags.items()),
    ]


def start_environment(
    caller: Mapping[str, str], *, instance: str, token_path: Path, bin_dir: Path, ports: RayPorts
) -> dict[str, str]:
    """The caller's environment without what misleads Ray, and our settings; all of Ray inherits it."""
    kept = {key: value for key, value in caller.items() if key not in _DROPPED}
    return kept | {
        MARK: instance,
        "PATH": prepend_path(str(bin_dir), caller.get("PATH", os.defpath)),
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # or logs fill with bytecode
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_metrics_report_interval_ms": "2000",
        # Without it Ray swaps 127.0.0.1 for the address of a network card and listens there.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics),
        "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
    }


def prepend_path(folder: str, path: str) -> str:
    """A search path in which `folder` comes first, once."""
    return os.pathsep.join([folder, *(part for part in path.split(os.pathsep) if part != folder)])
