"""What Ray Serve is told, and that nothing of it would be dropped in silence."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kairay.config_maps import engine_settings
from kairay.errors import InputError
from kairay.plan import Plan
from kairay.ray.serve_config import check_serve_config, serve_config
from kairay.ray.target import CLUSTER, LOCAL, ServedAdapter, ServicePlace, Target
from kairay.skus import Device
from kairay.workspace import parse_documents
from planning import plan_on_laptop

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INFERENCE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: my-chat}
resource: {labelSelector: {matchLabels: {app: my-chat}}}
inference:
  preset: {name: smollm2-135m-instruct}
"""
TUNED = ServicePlace(
    port=8000, route_prefix="/", default_model="my-chat",
    adapters=(ServedAdapter(name="my-chat", source="oci:/state/adapters/my-chat-0a1b2c:my-chat"),),
)  # fmt: skip


def fixed_plan() -> Plan:
    plan = plan_on_laptop(parse_documents(INFERENCE, "test.yaml").workspaces[0])
    assert plan.serving is not None
    # Written out, so that golden files hold still when the planner learns to plan better.
    fixed = replace(
        plan.serving,
        context_length=8192,
        kv_cache_bytes=2**30,
        threads=2,
        target_ongoing_requests=16.0,
        idle_seconds=600.0,
    )
    return replace(plan, serving=fixed)


def render(target: Target = LOCAL, place: ServicePlace = TUNED, plan: Plan | None = None) -> dict[str, Any]:
    return serve_config(plan or fixed_plan(), target, place, engine_config={})


def test_the_local_config_is_stable_to_the_byte() -> None:
    text = json.dumps(render(), indent=2, sort_keys=True) + "\n"
    assert text == (GOLDEN / "serve-config-local.json").read_text("utf-8")


def test_local_and_cluster_differ_in_their_target_only() -> None:
    local, cluster = render(LOCAL), render(CLUSTER)
    assert local["applications"][0]["args"] == cluster["applications"][0]["args"]
    assert local["applications"][0]["import_path"] == cluster["applications"][0]["import_path"]
    (mine,), (theirs,) = (c["applications"][0]["deployments"] for c in (local, cluster))
    assert {k for k in mine if mine[k] != theirs[k]} == {"ray_actor_options"}
    assert mine["ray_actor_options"]["num_cpus"] == 0
    assert theirs["ray_actor_options"]["num_cpus"] == 2


def test_it_listens_on_loopback_on_a_laptop() -> None:
    assert render()["http_options"] == {"host": "127.0.0.1", "port": 8000}


def test_the_application_accepts_its_arguments() -> None:
    from kairay_serve.args import ChatArgs

    args = ChatArgs.model_validate(render()["applications"][0]["args"])
    assert args.names == ("smollm2-135m-instruct", "my-chat")
    assert args.default_model == "my-chat"


def test_without_an_adapter_the_base_model_answers() -> None:
    args = render(place=ServicePlace(port=8000, route_prefix="/"))["applications"][0]["args"]
    assert (args["defaultModel"], args["adapters"]) == ("smollm2-135m-instruct", [])


def test_asking_for_keys_changes_the_user_config_only() -> None:
    open_, closed = (
        render(CLUSTER, replace(TUNED, keys_path="/kairay/keys", require_keys=required))
        for required in (False, True)
    )
    deployment = open_["applications"][0]["deployments"][0]
    assert open_["applications"][0]["args"]["keysPath"] == "/kairay/keys"
    assert deployment["user_config"] == {"requireKeys": False}
    deployment["user_config"] = {"requireKeys": True}
    assert open_ == closed


def test_keys_that_are_required_but_mounted_nowhere_are_still_required() -> None:
    app = render(CLUSTER, replace(TUNED, require_keys=True))["applications"][0]
    assert app["deployments"][0]["user_config"] == {"requireKeys": True}


def test_the_application_accepts_its_keys_and_user_config() -> None:
    from kairay_serve.args import ChatArgs, UserConfig

    app = render(CLUSTER, replace(TUNED, keys_path="/kairay/keys", require_keys=True))["applications"][0]
    assert ChatArgs.model_validate(app["args"]).keys_path == "/kairay/keys"
    assert UserConfig.model_validate(app["deployments"][0]["user_config"]).require_keys


def test_a_cluster_begins_with_no_more_replicas_than_it_keeps() -> None:
    plan = fixed_plan()
    assert plan.serving is not None
    idle = replace(plan, serving=replace(plan.serving, min_replicas=0))
    first = [
        render(target, plan=idle)["applications"][0]["deployments"][0]["autoscaling_config"][
            "initial_replicas"
        ]
        for target in (LOCAL, CLUSTER)
    ]
    assert first == [1, 0]


def test_on_gpus_a_replica_takes_its_gpus_and_counts_their_memory_together() -> None:
    plan = fixed_plan()
    assert plan.serving is not None
    shape = replace(plan.serving, device=Device.CUDA, tensor_parallel=2, kv_cache_bytes=10, threads=None)
    app = render(CLUSTER, plan=replace(plan, serving=shape))["applications"][0]
    assert app["deployments"][0]["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 2}
    assert app["args"]["kvCacheBytes"] == 20


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("http_options",),
        ("applications", 0),
        ("applications", 0, "deployments", 0),
        ("applications", 0, "deployments", 0, "autoscaling_config"),
        ("applications", 0, "deployments", 0, "ray_actor_options"),
    ],
)
def test_a_key_that_serve_would_drop_is_refused(path: tuple[str | int, ...]) -> None:
    config = deepcopy(render())
    place: Any = config
    for part in path:
        place = place[part]
    place["minReplicas"] = 1
    with pytest.raises(InputError, match="no key 'minReplicas'"):
        check_serve_config(config)


def test_bounds_that_cannot_be_are_refused() -> None:
    config = deepcopy(render())
    config["applications"][0]["deployments"][0]["autoscaling_config"] |= {
        "min_replicas": 3,
        "max_replicas": 1,
    }
    with pytest.raises(InputError, match="3 to 1 replicas"):
        check_serve_config(config)


def test_the_engines_section_is_taken_from_kaitos_config() -> None:
    text = "vllm: {max-model-len: 2048}\nmax_probe_steps: 6\n"
    assert engine_settings(text, "vllm", "ConfigMap c") == {"max-model-len": 2048}
    assert engine_settings(text, "transformers", "ConfigMap c") == {}


@pytest.mark.parametrize("text", ["[1, 2]", "vllm: 3", "vllm: [", ""])
def test_an_engine_config_that_is_not_one_is_named(text: str) -> None:
    with pytest.raises(InputError, match="ConfigMap c"):
        engine_settings(text, "vllm", "ConfigMap c")
