"""Karpenter played by a loop: NodePools and waiting pods in, NodeClaims and pretended nodes out, and away again.

It does what tests of Kairay need of Karpenter and nothing more: a node for each NodeClaim, one size for each NodePool,
GPUs as the only resource, node selectors and tolerations but no affinity. It looks at everything at every step and
remembers only times, so it may be stopped and started. Nothing runs on its nodes but what kwok pretends.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import requests

from kairay.skus import load_skus
from onebox.api import Api, ApiError, Manifest
from provisioner_objects import (
    GPU,
    POOL_OF_NODE,
    condition,
    fits,
    gpus_of,
    is_daemon,
    is_done,
    is_registered,
    is_waiting,
    node_claim,
    pretended_node,
    refused_event,
    seconds,
    wanted,
)

POOLS, CLAIMS = "/apis/karpenter.sh/v1/nodepools", "/apis/karpenter.sh/v1/nodeclaims"
NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
_RACES = (requests.codes.not_found, requests.codes.conflict)


@dataclass(kw_only=True)
class Provisioner:
    """`step` looks once and does what follows; `running` does that in a thread. Give it an Api of its own."""

    api: Api
    start_seconds: float = 2.0
    """From a NodeClaim to its node."""
    unavailable_seconds: float = 30.0
    """A size that was refused is not asked for again so long."""
    refuses: dict[str, str] = field(default_factory=dict)
    """Sizes that the cloud has none of, with its words; change it while it runs."""
    gpus: Mapping[str, int] = field(
        default_factory=lambda: {sku.name: sku.gpus for sku in load_skus().values()}
    )
    """Of a node, by size."""
    taints: Iterable[Manifest] = ()
    """On every node beside its NodePool's."""
    now: Callable[[], float] = time.time
    _due: dict[str, float] = field(default_factory=dict)
    _empty: dict[str, float] = field(default_factory=dict)
    _unavailable: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self, every: float = 0.5) -> Iterator[Provisioner]:
        """Steps in a thread; an error of it is raised at the end of the block."""
        stop, errors = threading.Event(), list[Exception]()

        def work() -> None:
            while not stop.wait(every):
                try:
                    self.step()
                except (ApiError, requests.RequestException) as error:
                    # Others delete and write too; the next look shows how it is.
                    if not isinstance(error, ApiError) or error.status not in _RACES:
                        errors.append(error)
                        return

        thread = threading.Thread(target=work, name="provisioner", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]

    def step(self) -> None:
        """One look, and everything that follows from it."""
        pools = {each["metadata"]["name"]: each for each in self.api.items(POOLS)}
        pools = {name: each for name, each in pools.items() if "deletionTimestamp" not in each["metadata"]}
        pods = [each for each in self.api.items(PODS) if not is_done(each)]
        claims = []
        for claim in self.api.items(CLAIMS):
            pool = pools.get(claim["metadata"]["labels"][POOL_OF_NODE])
            if "deletionTimestamp" in claim["metadata"] or pool is None or self._is_idle(claim, pool, pods):
                self._end(claim, pods)
            else:
                claims.append(claim)
        self._start(claims, pools)
        self._launch(pools, claims, [pod for pod in pods if is_waiting(pod)], pods)
        for name, pool in pools.items():
            self._tell(pool, [each for each in claims if each["metadata"]["labels"][POOL_OF_NODE] == name])

    # -- nodes go -----------------------------------------------------------------------------------------------

    def _is_idle(self, claim: Manifest, pool: Manifest, pods: list[Manifest]) -> bool:
        name, patience = claim["metadata"]["name"], pool["spec"]["disruption"]["consolidateAfter"]
        busy = not is_registered(claim) or any(
            pod["spec"].get("nodeName") == name and not is_daemon(pod) for pod in pods
        )
        if busy:
            self._empty.pop(name, None)
            return False
        since = self._empty.setdefault(name, self.now())
        return patience != "Never" and self.now() - since >= seconds(patience)

    def _end(self, claim: Manifest, pods: list[Manifest]) -> None:
        """Drain without patience, then the node, then the claim."""
        name = claim["metadata"]["name"]
        for pod in pods:
            if pod["spec"].get("nodeName") == name:
                where = pod["metadata"]
                path = f"/api/v1/namespaces/{where['namespace']}/pods/{where['name']}"
                self.api.delete(path, grace_seconds=0)
        self.api.delete(f"{NODES}/{name}")
        if "deletionTimestamp" not in claim["metadata"]:
            self.api.delete(f"{CLAIMS}/{name}")
        with contextlib.suppress(ApiError):
            self.api.patch(f"{CLAIMS}/{name}", {"metadata": {"finalizers": None}})
        self._empty.pop(name, None)
        self._due.pop(name, None)

    # -- nodes come ---------------------------------------------------------------------------------------------

    def _launch(
        self,
        pools: dict[str, Manifest],
        claims: list[Manifest],
        waiting: list[Manifest],
        pods: list[Manifest],
    ) -> None:
        """NodeClaims for pods that fit on no node that is there or on its way; the heaviest NodePool first."""
        rooms = {each["metadata"]["name"]: self._room(each, pods) for each in claims}
        by_weight = sorted(
            pools.values(), key=lambda each: (-each["spec"].get("weight", 0), each["metadata"]["name"])
        )
        for pod in waiting:
            fitting = [pool for pool in by_weight if fits(pod, pool) and self._size(pool)[1] >= gpus_of(pod)]
            names = {pool["metadata"]["name"] for pool in fitting}
            for claim in claims:
                name = claim["metadata"]["name"]
                if claim["metadata"]["labels"][POOL_OF_NODE] in names and rooms[name] >= gpus_of(pod):
                    rooms[name] -= gpus_of(pod)
                    break
            else:
                made = next((each for pool in fitting if (each := self._claim(pool, claims))), None)
                if made is not None:
                    claims.append(made)
                    rooms[made["metadata"]["name"]] = self._size_of(made)[1] - gpus_of(pod)

    def _claim(self, pool: Manifest, claims: list[Manifest]) -> Manifest | None:
        """A new NodeClaim, unless the NodePool is full or the cloud has none."""
        size, gpus = self._size(pool)
        name = pool["metadata"]["name"]
        used = sum(
            self._size_of(each)[1] for each in claims if each["metadata"]["labels"][POOL_OF_NODE] == name
        )
        limit = pool["spec"].get("limits", {}).get(GPU)
        if (limit is not None and used + gpus > int(limit)) or self._unavailable.get(size, 0) > self.now():
            return None
        made = self.api.apply(node_claim(pool, f"{name}-{secrets.token_hex(3)[:5]}", gpus))
        if size in self.refuses:
            self._unavailable[size] = self.now() + self.unavailable_seconds
            self.api.apply(refused_event(made, self.refuses[size], self._stamp()))
            self._end(made, [])
            return None
        self._due[made["metadata"]["name"]] = self.now() + self.start_seconds
        self._status(made, launched=True)
        return made

    def _start(self, claims: list[Manifest], pools: dict[str, Manifest]) -> None:
        """Nodes of NodeClaims whose time has come."""
        for claim in claims:
            name = claim["metadata"]["name"]
            if not is_registered(claim) and self._due.setdefault(name, self.now()) <= self.now():
                pool = pools[claim["metadata"]["labels"][POOL_OF_NODE]]
                self.api.apply(
                    pretended_node(
                        claim, pool, [*pool["spec"]["template"]["spec"].get("taints", []), *self.taints]
                    )
                )
                room = {"cpu": "96", "memory": "880Gi", "pods": "110", GPU: str(self._size_of(claim)[1])}
                ready = condition("Ready", "KubeletReady", self._stamp())
                ready["lastHeartbeatTime"] = ready["lastTransitionTime"]
                status = {"allocatable": room, "capacity": room, "conditions": [ready]}
                self.api.patch(f"{NODES}/{name}/status", {"status": status})
                self._status(claim, launched=True, registered=True)

    # -- what is said -------------------------------------------------------------------------------------------

    def _status(self, claim: Manifest, *, launched: bool, registered: bool = False) -> None:
        name, gpus = claim["metadata"]["name"], str(self._size_of(claim)[1])
        status: Manifest = {
            "providerID": f"pretended://{name}",
            "capacity": {GPU: gpus},
            "allocatable": {GPU: gpus},
        }
        said = {"Launched": launched, "Registered": registered, "Initialized": registered}
        status["conditions"] = [condition(kind, kind, self._stamp()) for kind, true in said.items() if true]
        if registered:
            status["nodeName"] = name
        self.api.patch(f"{CLAIMS}/{name}/status", {"status": status})

    def _tell(self, pool: Manifest, claims: list[Manifest]) -> None:
        gpus = sum(self._size_of(each)[1] for each in claims)
        resources = {"nodes": str(len(claims)), GPU: str(gpus)}
        if pool.get("status", {}).get("resources") == resources:
            return
        said = ("ValidationSucceeded", "NodeClassReady", "Ready")
        status = {
            "resources": resources,
            "nodes": len(claims),
            "conditions": [condition(each, each, self._stamp()) for each in said],
        }
        self.api.patch(f"{POOLS}/{pool['metadata']['name']}/status", {"status": status})

    def _room(self, claim: Manifest, pods: list[Manifest]) -> int:
        name = claim["metadata"]["name"]
        return self._size_of(claim)[1] - sum(
            gpus_of(pod) for pod in pods if pod["spec"].get("nodeName") == name
        )

    def _size(self, pool: Manifest) -> tuple[str, int]:
        return self._read_size(pool["spec"]["template"]["spec"]["requirements"])

    def _size_of(self, claim: Manifest) -> tuple[str, int]:
        return self._read_size(claim["spec"]["requirements"])

    def _read_size(self, requirements: list[Manifest]) -> tuple[str, int]:
        size = wanted(requirements)["node.kubernetes.io/instance-type"]
        return size, self.gpus.get(size, 1)

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
