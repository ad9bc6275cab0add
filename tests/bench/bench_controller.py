"""The controller against 1,000 Workspaces on a real API server without nodes, kubelets or operators.

`python tests/bench/bench_controller.py`. Measures the time until every RayService, Service, NetworkPolicy and status is
there, the controller's processor time and memory, what it wrote, and what it costs when nothing happens. The reference
is KAITO 0.12's own controller on such a set-up: 285 s, 22 CPU-seconds, 103 MB, then 7 % of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "tests" / "apiserver")]

from bare import BareApiServer, bare_api_server  # noqa: E402  after its folder is on the path
from kairay.kube.client import Client  # noqa: E402
from kairay.kube.connect import connect  # noqa: E402
from kairay.kube.objects import RAY_SERVICE, WORKSPACE, Manifest  # noqa: E402

NODE = "gpu-node"
WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
_SAMPLE = re.compile(r"^apiserver_request_total\{(.*)\} (\d+(?:\.\d+)?(?:e\+\d+)?)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steady-seconds", type=float, default=60)
    parser.add_argument(
        "--tuning", action="store_true", help="tuning Workspaces: a RayJob, a claim and a file more"
    )
    options = parser.parse_args()
    with bare_api_server() as server:
        prepare(server)
        with controller(server) as process:
            asyncio.run(measure(server, process, options))


def prepare(server: BareApiServer) -> None:
    """CRDs, namespaces and one node that carries the label."""
    server.install_kuberay_crds()
    server.api.apply_all((ROOT / "kuberay" / "install" / "crd.yaml").read_text("utf-8"))
    server.wait_for_crds()
    for name in ("kairay-system", "bench"):
        server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    labels = {"app": "bench", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
    server.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}})
    room = {"cpu": "24", "memory": "220Gi", "nvidia.com/gpu": "1", "pods": "110"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "",
        "lastTransitionTime": None,
    }
    status = {"allocatable": room, "capacity": room, "conditions": [ready]}
    server.api.patch(f"/api/v1/nodes/{NODE}/status", {"status": status})


@contextlib.contextmanager
def controller(server: BareApiServer) -> Iterator[psutil.Process]:
    """The controller as a process of its own."""
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "KAIRAY_HTTP_HOST": "127.0.0.1"}
    environment["KAIRAY_HTTP_PORT"] = "18081"
    log = server.pki.parent / "controller.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "kairay.controller"]
        process = subprocess.Popen(command, env=environment, stderr=output, cwd=ROOT)
        try:
            deadline = time.monotonic() + 30
            while '"synced"' not in log.read_text("utf-8"):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the controller did not start:\n{log.read_text('utf-8')}")
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)
            faults = Counter(json.loads(line)["event"] for line in log.read_text("utf-8").splitlines())
            print("its log:", dict(faults))


async def measure(server: BareApiServer, process: psutil.Process, options: argparse.Namespace) -> None:
    os.environ["KUBECONFIG"] = str(server.kubeconfig)
    idle = cpu(process)
    async with Client(connect()) as client:
        started = time.monotonic()
        gate = asyncio.Semaphore(20)

        async def create(index: int) -> None:
            async with gate:
                await client.create(workspace(index, tuning=options.tuning))

        await asyncio.gather(*(create(index) for index in range(options.count)))
        created = time.monotonic() - started
        while not await all_done(client, options):
            await asyncio.sleep(0.5)
        seconds, used = time.monotonic() - started, cpu(process) - idle
    memory = process.memory_info().rss
    print(f"{options.count} Workspaces created in {created:.1f} s; everything there after {seconds:.1f} s")
    print(f"controller: {used:.1f} CPU-seconds, {memory / 1e6:.0f} MB resident")
    for what, count in sorted(writes(server).items()):
        print(f"  {what}: {count}")
    time.sleep(20)  # what is on its way settles
    before, busy = Counter(writes(server)), cpu(process)
    time.sleep(options.steady_seconds)
    after = Counter(writes(server))
    share = 100 * (cpu(process) - busy) / options.steady_seconds
    print(
        f"steady over {options.steady_seconds:.0f} s: {share:.2f} % of a core; writes {dict(after - before)}"
    )
    print(f"memory then: {process.memory_info().rss / 1e6:.0f} MB")


async def all_done(client: Client, options: argparse.Namespace) -> bool:
    """Every status written, and every RayService there."""
    found, _ = await client.list(WORKSPACE, namespace="bench")
    if sum(bool(each.get("status")) for each in found) < options.count:
        return False
    services, _ = await client.list(RAY_SERVICE, namespace="bench")
    return options.tuning or len(services) >= options.count


def workspace(index: int, *, tuning: bool) -> Manifest:
    preset = {"name": "phi-3-mini-128k-instruct"}
    work: Manifest = {"inference": {"preset": preset}}
    if tuning:
        work = {"tuning": {
            "preset": preset, "method": "qlora", "input": {"urls": ["https://example.com/train.jsonl"]},
            "output": {"image": f"registry.example/team/adapter-{index}:1", "imagePushSecret": "push"},
        }}  # fmt: skip
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": f"model-{index:04d}", "namespace": "bench"},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"app": "bench"}},
        },
        **work,
    }  # fmt: skip


def cpu(process: psutil.Process) -> float:
    """Seconds of processor time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def writes(server: BareApiServer) -> Counter[str]:
    """Writes that the API server counted, by resource; those of the bench itself are the Workspaces created."""
    found: Counter[str] = Counter()
    for labels, count in _SAMPLE.findall(server.api.text("/metrics")):
        told = dict(_LABEL.findall(labels))
        if told["verb"] in WRITES and told["resource"] and told["resource"] not in ("events", "apiservices"):
            part = f"/{told['subresource']}" if told["subresource"] else ""
            found[f"{told['verb']} {told['resource']}{part}"] += int(float(count))
    return found


if __name__ == "__main__":
    main()
