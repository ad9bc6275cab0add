"""API keys on real Ray Serve: asked for by `user_config`, switched and rotated under a replica that runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from kairay.local.ports import free_ports

pytestmark = [
    pytest.mark.local,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's imports
]

PRESET = "smollm2-135m-instruct"


@dataclass
class Service:
    """A running application whose Serve config can be edited."""

    url: str
    config: dict[str, Any] = field(default_factory=dict)

    def deploy(self, *, require_keys: bool) -> None:
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        self.config["applications"][0]["deployments"] = [
            {
                "name": "Chat",
                "user_config": {"requireKeys": require_keys},
                "ray_actor_options": {"num_cpus": 1},
            }
        ]
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(self.config))

    def status(self, path: str = "/v1/models", **headers: str) -> int:
        try:
            return requests.get(self.url + path, headers=headers, timeout=10).status_code
        except requests.RequestException:
            return 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def service(keys: Path) -> Iterator[Service]:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray
    from ray import serve

    (port,) = free_ports(1)
    args = {
        "name": "keyed", "preset": PRESET, "modelName": PRESET, "defaultModel": PRESET,
        "contextLength": 512, "kvCacheBytes": 256 * 2**20, "threads": 1, "keysPath": str(keys),
    }  # fmt: skip
    app = {"name": "keyed", "route_prefix": "/", "import_path": "kairay_serve.chat:build", "args": args}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield Service(f"http://127.0.0.1:{port}", {"applications": [app]})
        serve.shutdown()
    finally:
        ray.shutdown()


def wait_for(wanted: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_keys_are_switched_and_rotated_without_another_replica(service: Service, keys: Path) -> None:
    service.deploy(require_keys=True)
    wait_for(lambda: service.status("/health") == 200, 200)
    assert service.status() == 503
    (keys / "key").write_text("old\n")
    wait_for(lambda: service.status(authorization="Bearer old") == 200, 10)
    assert (service.status(), service.status("/metrics"), service.status("/health")) == (401, 401, 200)

    with_replica = replica()
    service.deploy(require_keys=False)
    wait_for(lambda: service.status() == 200, 30)
    service.deploy(require_keys=True)
    wait_for(lambda: service.status() == 401, 30)
    (keys / "key").write_text("newer\n")
    wait_for(lambda: service.status(authorization="Bearer newer") == 200, 10)
    assert service.status(authorization="Bearer old") == 401
    assert replica() == with_replica


def replica() -> list[str]:
    """The actors that answer."""
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()["applications"]["keyed"]["deployments"]["Chat"]
    return [each["actor_id"] for each in details["replicas"]]
