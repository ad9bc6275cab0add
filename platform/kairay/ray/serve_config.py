"""The Serve config of one Workspace: what `PUT /api/serve/applications/` (or a RayService) is given. Pure.

Serve drops a key that it does not know without a word, so every config is checked against Ray 2.60's keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from kairay.errors import InputError
from kairay.names import ray_service_name
from kairay.plan import Plan, ServingShape
from kairay.ray.target import ServicePlace, Target
from kairay.skus import Device

IMPORT_PATH = "kairay_serve.chat:build"
DEPLOYMENT = "Chat"

QUEUE_FACTOR = 4
"""Requests that may wait, for each that is worked on; more get 429."""

_KEYS: Final[dict[str, str]] = {
    "": "applications http_options proxy_location grpc_options logging_config target_capacity",
    "http_options": "host port root_path request_timeout_s keep_alive_timeout_s",
    "applications": "name route_prefix import_path runtime_env args deployments logging_config",
    "applications.deployments": (
        "name num_replicas max_ongoing_requests max_queued_requests backpressure_config user_config"
        " autoscaling_config graceful_shutdown_wait_loop_s graceful_shutdown_timeout_s health_check_period_s"
        " health_check_timeout_s ray_actor_options placement_group_bundles placement_group_strategy"
        " max_replicas_per_node max_surge_percent rolling_update_percentage"
    ),
    "applications.deployments.autoscaling_config": (
        "min_replicas max_replicas initial_replicas target_ongoing_requests look_back_period_s"
        " upscale_delay_s downscale_delay_s downscale_to_zero_delay_s metrics_interval_s"
    ),
    "applications.deployments.ray_actor_options": (
        "num_cpus num_gpus memory resources accelerator_type runtime_env label_selector"
    ),
    "applications.deployments.backpressure_config": "status_code retry_after_s",
}
"""Keys by the path of the mapping that holds them. Those of `args` are kairay_serve's, checked there."""


def serve_config(
    plan: Plan,
    target: Target,
    place: ServicePlace,
    *,
    model: str | None = None,
    engine_config: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole config with its one application, checked; `model` replaces the preset's weights."""
    shape = plan.serving
    assert shape is not None, "a plan without a serving shape has no service"
    config = {
        "proxy_location": target.proxy_location,
        "http_options": {"host": target.http_host, "port": place.port},
        "applications": [
            {
                "name": ray_service_name(plan.workspace),
                "route_prefix": place.route_prefix,
                "import_path": IMPORT_PATH,
                "args": chat_args(plan, shape, place, model=model, engine_config=engine_config),
                "deployments": [{**_deployment(shape, target), **_user_config(place)}],
            }
        ],
    }
    check_serve_config(config)
    return config


def chat_args(
    plan: Plan,
    shape: ServingShape,
    place: ServicePlace,
    *,
    model: str | None,
    engine_config: Mapping[str, Any],
) -> dict[str, Any]:
    """The application builder's arguments (`kairay_serve.args.ChatArgs`)."""
    ongoing = _ongoing(shape)
    return {
        "name": plan.workspace,
        "preset": plan.preset,
        "model": model,
        "modelName": plan.preset,
        "adapters": [{"name": adapter.name, "source": adapter.source} for adapter in place.adapters],
        "defaultModel": place.default_model or plan.preset,
        "engine": str(shape.engine),
        "device": str(shape.device),
        "dtype": str(shape.dtype),
        "contextLength": shape.context_length,
        # The plan counts one GPU's part, the application a replica's.
        "kvCacheBytes": shape.kv_cache_bytes * max(1, shape.gpus_per_replica),
        "maxBatchTokens": None,
        "threads": shape.threads,
        "maxOngoingRequests": ongoing,
        "maxQueuedRequests": ongoing * QUEUE_FACTOR,
        "tensorParallel": shape.tensor_parallel,
        "pipelineParallel": shape.pipeline_parallel,
        "engineConfig": dict(engine_config),
        **({} if place.keys_path is None else {"keysPath": place.keys_path}),
    }


def check_serve_config(config: Mapping[str, Any]) -> None:
    """InputError for a key that Serve would drop in silence, or bounds that it would refuse only later."""
    _check_keys(config, "", "")
    for app in config["applications"]:
        for deployment in app.get("deployments", []):
            scaling = deployment.get("autoscaling_config")
            if scaling and not 0 <= scaling["min_replicas"] <= scaling["max_replicas"]:
                raise InputError(
                    f"{app['name']}: {scaling['min_replicas']} to {scaling['max_replicas']} replicas cannot be:"
                    " give 0 <= minReplicas <= maxReplicas"
                )


def _check_keys(value: Any, path: str, shown: str) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_keys(item, path, f"{shown}[{index}]")
        return
    if path not in _KEYS or not isinstance(value, Mapping):
        return
    for key in sorted(value):
        if key not in _KEYS[path].split():
            raise InputError(
                f"Serve config: {shown or 'the top'} has no key {key!r}; Serve would drop it in silence"
            )
        _check_keys(value[key], f"{path}.{key}".lstrip("."), f"{shown}.{key}".lstrip("."))


def _deployment(shape: ServingShape, target: Target) -> dict[str, Any]:
    # Limits on requests are not here: the application's builder derives them from its arguments.
    return {
        "name": DEPLOYMENT,
        "autoscaling_config": {
            "min_replicas": shape.min_replicas,
            "max_replicas": shape.max_replicas,
            "initial_replicas": max(target.first_replicas, shape.min_replicas),
            "target_ongoing_requests": shape.target_ongoing_requests,
            "downscale_delay_s": shape.idle_seconds,
        },
        "ray_actor_options": _resources(shape, target),
    }


def _user_config(place: ServicePlace) -> dict[str, Any]:
    # Serve hands a change of this one key to replicas that run: keys are switched on without a restart.
    if place.keys_path is None and not place.require_keys:
        return {}
    return {"user_config": {"requireKeys": place.require_keys}}


def _resources(shape: ServingShape, target: Target) -> dict[str, Any]:
    if shape.device is not Device.CPU:
        return {"num_cpus": 1, "num_gpus": shape.gpus_per_replica}
    cpus = shape.threads or 1 if target.replica_cpus is None else target.replica_cpus
    return {"num_cpus": cpus, "num_gpus": target.advertised_gpus, **_threads(shape, cpus)}


def _threads(shape: ServingShape, cpus: float) -> dict[str, Any]:
    # Ray gives a replica without CPUs one thread; the engine sets its own number, its libraries read this.
    if cpus or shape.threads is None:
        return {}
    return {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(shape.threads)}}}


def _ongoing(shape: ServingShape) -> int:
    return max(1, math.ceil(shape.target_ongoing_requests))
