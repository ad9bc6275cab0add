"""What a client of the API server costs: 1,000 server-side applies, 20 at a time, then a watch of 1,000 objects.

`python tests/bench/bench_kube_clients.py [CLIENT ...]`, on a real API server. Ours runs in this environment, the
libraries in environments of their own that uv makes. Results and the choice: docs/design/2026-11-24-kube-client.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {
    "ours": [],
    "lightkube": ["lightkube==1.0.1"],
    "kubernetes": ["kubernetes==37.0.2"],
    "kubernetes_asyncio": ["kubernetes_asyncio==36.1.0"],
}
COUNT, AT_ONCE, NAMESPACE = 1000, 20, "bench"
Apply = Callable[[dict[str, Any]], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", default=list(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.clients[0], options.worker)
        return
    sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "tests" / "apiserver")]
    from bare import bare_api_server

    with bare_api_server() as server:
        server.install_kuberay_crds()
        server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        # Rounds in turn, so that what else the machine does meets all of them.
        for _ in range(options.rounds):
            for client in options.clients:
                subprocess.run(command(client, server.kubeconfig), check=True, cwd=ROOT)
                server.api.delete(f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs")


def command(client: str, kubeconfig: Path) -> list[str]:
    """This file again, as a process of its own."""
    call = [__file__, client, "--worker", str(kubeconfig)]
    if not LIBRARIES[client]:
        return [sys.executable, *call]
    extra = [part for package in [*LIBRARIES[client], "psutil"] for part in ("--with", package)]
    uv = str(Path(sys.executable).with_name("uv"))
    return [uv, "run", "-q", "--no-project", "--python", sys.executable, *extra, "python", *call]


def work(client: str, kubeconfig: str) -> None:
    """Measure one client in this process; one line of JSON."""
    measured: dict[str, Any] = {"client": client}
    process, started, base = psutil.Process(), time.process_time(), psutil.Process().memory_info().rss

    def mark(name: str, since: float, wall: float | None = None) -> None:
        measured[f"{name}_cpu_s"] = round(time.process_time() - since, 2)
        if wall is not None:
            measured[f"{name}_wall_s"] = round(time.perf_counter() - wall, 1)
        measured[f"{name}_mb"] = round((process.memory_info().rss - base) / 1e6)

    if client == "kubernetes":
        with_threads(kubeconfig, mark, started)
    else:
        asyncio.run(BENCHES[client](kubeconfig, mark, started))
    measured["cpu_ms_per_apply"] = round(measured["apply_cpu_s"] * 1000 / COUNT, 2)
    print(json.dumps(measured), flush=True)


async def ours(kubeconfig: str, mark: Callable[..., None], started: float) -> None:
    from kairay.kube.client import Client
    from kairay.kube.connect import connect
    from kairay.kube.objects import RAY_JOB

    async with Client(connect({"KUBECONFIG": kubeconfig})) as api:
        _, version = await api.list(RAY_JOB, namespace=NAMESPACE)
        mark("start", started)

        async def apply(manifest: dict[str, Any]) -> None:
            await api.apply(manifest)

        await apply_all(apply, mark)
        cpu, wall = time.process_time(), time.perf_counter()
        seen = 0
        async for _ in api.watch(RAY_JOB, namespace=NAMESPACE, resource_version=version):
            seen += 1
            if seen == COUNT:
                break
        mark("watch", cpu, wall)


async def lightkube(kubeconfig: str, mark: Callable[..., None], started: float) -> None:
    from lightkube import AsyncClient, KubeConfig
    from lightkube.generic_resource import create_namespaced_resource

    api = AsyncClient(config=KubeConfig.from_file(kubeconfig).get(), field_manager="kairay", trust_env=False)
    kind = create_namespaced_resource("ray.io", "v1", "RayJob", "rayjobs")
    listed = api.list(kind, namespace=NAMESPACE)
    assert [each async for each in listed] == []
    mark("start", started)

    async def apply(manifest: dict[str, Any]) -> None:
        await api.apply(kind(manifest), force=True)

    await apply_all(apply, mark)
    cpu, wall = time.process_time(), time.perf_counter()
    seen = 0
    async for _ in api.watch(kind, namespace=NAMESPACE, resource_version=listed.resourceVersion):
        seen += 1
        if seen == COUNT:
            break
    mark("watch", cpu, wall)


async def kubernetes_asyncio(kubeconfig: str, mark: Callable[..., None], started: float) -> None:
    from kubernetes_asyncio import client, config, watch

    await config.load_kube_config(kubeconfig)
    where = ("ray.io", "v1", NAMESPACE, "rayjobs")
    async with client.ApiClient() as connection:
        api = client.CustomObjectsApi(connection)
        version = (await api.list_namespaced_custom_object(*where))["metadata"]["resourceVersion"]
        mark("start", started)

        async def apply(manifest: dict[str, Any]) -> None:
            await api.patch_namespaced_custom_object(
                *where, manifest["metadata"]["name"], manifest, field_manager="kairay", force=True,
                _content_type="application/apply-patch+yaml",
            )  # fmt: skip

        await apply_all(apply, mark)
        cpu, wall = time.process_time(), time.perf_counter()
        seen = 0
        async with watch.Watch() as stream:
            listing = api.list_namespaced_custom_object
            async for _ in stream.stream(listing, *where, resource_version=version):
                seen += 1
                if seen == COUNT:
                    break
        mark("watch", cpu, wall)


def with_threads(kubeconfig: str, mark: Callable[..., None], started: float) -> None:
    from kubernetes import client, config, watch

    config.load_kube_config(kubeconfig)
    where = ("ray.io", "v1", NAMESPACE, "rayjobs")
    api = client.CustomObjectsApi()
    version = api.list_namespaced_custom_object(*where)["metadata"]["resourceVersion"]
    mark("start", started)
    cpu, wall = time.process_time(), time.perf_counter()

    def apply(index: int) -> None:
        manifest = ray_job(index)
        api.patch_namespaced_custom_object(
            *where, manifest["metadata"]["name"], manifest, field_manager="kairay", force=True,
            _content_type="application/apply-patch+yaml",
        )  # fmt: skip

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(apply, range(COUNT)))
    mark("apply", cpu, wall)
    cpu, wall = time.process_time(), time.perf_counter()
    stream = watch.Watch()
    for seen, _ in enumerate(
        stream.stream(api.list_namespaced_custom_object, *where, resource_version=version)
    ):
        if seen == COUNT - 1:
            stream.stop()
    mark("watch", cpu, wall)


async def apply_all(apply: Apply, mark: Callable[..., None]) -> None:
    """Every object once, AT_ONCE at a time."""
    cpu, wall = time.process_time(), time.perf_counter()
    left = iter(range(COUNT))

    async def worker() -> None:
        for index in left:
            await apply(ray_job(index))

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    mark("apply", cpu, wall)


def ray_job(index: int) -> dict[str, Any]:
    """About 4 KB, as Kairay's own are."""
    environment = [{"name": f"VARIABLE_{number}", "value": "x" * 20} for number in range(12)]
    container = {
        "name": "ray", "image": "registry.example/kairay/ray:1", "env": environment,
        "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"nvidia.com/gpu": "1"}},
        "volumeMounts": [{"name": f"volume-{number}", "mountPath": f"/mnt/{number}"} for number in range(4)],
    }  # fmt: skip
    volumes = [{"name": f"volume-{number}", "emptyDir": {}} for number in range(4)]
    template = {"spec": {"containers": [container], "volumes": volumes}}
    group = {"groupName": "gpu", "replicas": 1, "minReplicas": 0, "maxReplicas": 1, "rayStartParams": {}}
    cluster = {
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template},
        "workerGroupSpecs": [{**group, "template": template}],
    }
    return {
        "apiVersion": "ray.io/v1", "kind": "RayJob",
        "metadata": {"name": f"job-{index:04d}", "namespace": NAMESPACE, "labels": {"kairay.dev/workspace": "w"}},
        "spec": {"entrypoint": "python -m kairay_train", "rayClusterSpec": cluster},
    }  # fmt: skip


BENCHES = {"ours": ours, "lightkube": lightkube, "kubernetes_asyncio": kubernetes_asyncio}

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
