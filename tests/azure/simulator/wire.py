"""ARM's paths and JSON in front of the cloud."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.cloud import Cloud
from simulator.contract import request_of, violation_of_answer, violation_of_request
from simulator.errors import ArmError
from simulator.records import AgentPool, Operation
from simulator.sizes import listed
from simulator.throttle import Buckets

_CLUSTER = r"/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.ContainerService/managedClusters/(?P<mc>[^/]+)"  # noqa: E501
_POOL = _CLUSTER + r"/agentPools/(?P<pool>[^/]+)"
_COMPUTE = r"/subscriptions/(?P<sub>[^/]+)/providers/Microsoft\.Compute"
_AKS = r"/subscriptions/(?P<sub>[^/]+)/providers/Microsoft\.ContainerService/locations/[^/]+"
_ROUTES = tuple(
    (method, re.compile(path, re.IGNORECASE), call)
    for method, path, call in (
        ("GET", _CLUSTER, "GET cluster"),
        ("GET", _CLUSTER + "/agentPools", "GET pools"),
        ("GET", _CLUSTER + "/availableAgentPoolVersions", "GET versions"),
        ("GET", _POOL, "GET pool"),
        ("PUT", _POOL, "PUT pool"),
        ("DELETE", _POOL, "DELETE pool"),
        ("POST", _POOL + "/deleteMachines", "POST deleteMachines"),
        ("POST", _POOL + "/abort", "POST abort"),
        ("GET", _POOL + "/machines", "GET machines"),
        ("GET", _POOL + "/machines/(?P<machine>[^/]+)", "GET machine"),
        ("GET", _AKS + "/operations/(?P<operation>[^/]+)", "GET operation"),
        ("GET", _AKS + "/operationresults/(?P<operation>[^/]+)", "GET operation"),
        ("GET", _COMPUTE + "/locations/(?P<location>[^/]+)/usages", "GET usages"),
        ("GET", _COMPUTE + "/skus", "GET skus"),
        ("POST", r"/subscriptions/[^/]+/providers/[^/]+/register", "POST register"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass(kw_only=True)
class Arm:
    """ARM: finds the route, throttles, checks, answers, and writes down what was asked."""

    cloud: Cloud
    base: str
    """Its own address, for the links that it hands out."""
    page: int = 50
    """Pools in one page of a list."""
    checks: bool = True
    """Messages are checked against the description; not so for fields that AKS does not have yet."""
    log: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """Requests or answers that break the description."""

    def __post_init__(self) -> None:
        cloud = self.cloud
        self.buckets = Buckets(clock=cloud.clock)
        self._handlers: dict[str, Callable[[Mapping[str, str], Call], Answer]] = {
            "GET cluster": lambda found, call: Answer(status=200, body=self._cluster()),
            "GET pools": lambda found, call: self._pools(int(call.query.get("$skiptoken", "0"))),
            "GET pool": lambda found, call: Answer(status=200, body=self._pool(cloud.pool(found["pool"]))),
            "PUT pool": lambda found, call: self._put(found["pool"], call),
            "DELETE pool": self._delete,
            "POST deleteMachines": self._delete_machines,
            "POST abort": lambda found, call: self._accepted(cloud.abort(found["pool"])),
            "GET machines": self._machines,
            "GET machine": lambda found, call: Answer(
                status=200, body=self._one_machine(found["pool"], found["machine"])
            ),
            "GET operation": lambda found, call: self._operation(found["operation"], call),
            "GET usages": lambda found, call: Answer(status=200, body={"value": cloud.usages()}),
            "GET skus": lambda found, call: Answer(
                status=200, body={"value": listed(cloud.names.location, cloud.restricted)}
            ),
        }

    @property
    def calls(self) -> Counter[str]:
        """How often each call came."""
        return Counter(entry["call"] for entry in self.log)

    def answer(self, call: Call) -> Answer:
        """The answer to any request."""
        name, found = _route(call)
        try:
            answer = self._answer(name, found, call)
        except ArmError as error:
            headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            answer = Answer(status=error.status, body=error.body, headers=headers)
            if "error" in error.body:
                self._check_answer(call, answer)
        self.log.append(_entry(name, found.get("pool"), call, answer))
        return answer

    def _answer(self, name: str, found: Mapping[str, str], call: Call) -> Answer:
        self.buckets.take(name, found.get("pool"))
        request = request_of(call.method, call.path, call.query, call.headers, call.body)
        if self.checks and (problem := violation_of_request(request)) is not None:
            self.violations.append(f"request {call.method} {call.path}: {problem}")
            raise ArmError(400, "InvalidRequestContent", f"The request content was invalid: {problem}")
        self._check_names(name, found)
        if name not in ("PUT pool", "DELETE pool", "POST deleteMachines"):
            self.cloud.settle()
            self.cloud.strike(name)
        answer = self._handle(name, found, call)
        self._check_answer(call, answer)
        return answer

    def _handle(self, name: str, found: Mapping[str, str], call: Call) -> Answer:
        handle = self._handlers.get(name)
        if handle is None:
            raise ArmError(404, "InvalidResourceType", f"The simulator knows no {call.method} {call.path}.")
        return handle(found, call)

    def _put(self, name: str, call: Call) -> Answer:
        properties = json.loads(call.body).get("properties") or {}
        new = self.cloud.put(
            name, properties, call.headers.get("if-match"), call.headers.get("if-none-match")
        )
        pool = self.cloud.pools[name]
        links = self._links(self.cloud.operations[pool.operation or ""])
        return Answer(status=201 if new else 200, body=self._pool(pool), headers=links)

    def _delete(self, found: Mapping[str, str], call: Call) -> Answer:
        return self._accepted(self.cloud.delete(found["pool"], call.headers.get("if-match")))

    def _delete_machines(self, found: Mapping[str, str], call: Call) -> Answer:
        return self._accepted(
            self.cloud.delete_machines(found["pool"], json.loads(call.body)["machineNames"])
        )

    def _machines(self, found: Mapping[str, str], call: Call) -> Answer:
        machines = [
            self._machine(found["pool"], each.name) for each in self.cloud.pool(found["pool"]).machines
        ]
        return Answer(status=200, body={"value": machines})

    def _accepted(self, operation: Operation | None) -> Answer:
        return Answer(status=204) if operation is None else Answer(status=202, headers=self._links(operation))

    def _links(self, operation: Operation) -> dict[str, str]:
        names = self.cloud.names
        at = f"{self.base}/subscriptions/{names.subscription}/providers/Microsoft.ContainerService/locations"
        version = "api-version=2017-08-31"
        return {
            "Azure-AsyncOperation": f"{at}/{names.location}/operations/{operation.id}?{version}",
            "Location": f"{at}/{names.location}/operationresults/{operation.id}?{version}",
            "Retry-After": "0" if self.cloud.clock.speed == 0 else "5",
        }

    def _operation(self, key: str, call: Call) -> Answer:
        operation = self.cloud.operations.get(key)
        if operation is None:
            raise ArmError(404, "NotFound", f"No operation {key}.")
        if "operationresults" in call.path:
            return Answer(
                status=202 if operation.status == "InProgress" else 204, headers=self._links(operation)
            )
        clock = self.cloud.clock
        body: dict[str, Any] = {
            "name": operation.id, "status": operation.status, "startTime": clock.iso(operation.started),
        }  # fmt: skip
        if operation.status != "InProgress":
            body["endTime"] = clock.iso(operation.ends)
        if operation.status == "Failed":
            body["error"] = operation.error
        return Answer(status=200, body=body, headers={"Retry-After": "0"})

    def _pools(self, start: int) -> Answer:
        pools = [self._pool(pool) for _, pool in sorted(self.cloud.pools.items())]
        body: dict[str, Any] = {"value": pools[start : start + self.page]}
        if start + self.page < len(pools):
            body["nextLink"] = (
                f"{self.base}{self.cloud.names.id}/agentPools?api-version=2026-08-01&$skiptoken={start + self.page}"
            )
        return Answer(status=200, body=body)

    def _pool(self, pool: AgentPool) -> dict[str, Any]:
        return {
            "id": f"{self.cloud.names.id}/agentPools/{pool.name}",
            "name": pool.name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools",
            "properties": pool.properties,
        }

    def _machine(self, pool: str, name: str) -> dict[str, Any]:
        return {
            "id": f"{self.cloud.names.id}/agentPools/{pool}/machines/{name}",
            "name": name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools/machines",
            "properties": {"resourceId": f"/simulated/{pool}/{name}"},
        }

    def _one_machine(self, pool: str, name: str) -> dict[str, Any]:
        if all(machine.name != name for machine in self.cloud.pool(pool).machines):
            raise ArmError(404, "NotFound", f"Could not find machine {name}.")
        return self._machine(pool, name)

    def _cluster(self) -> dict[str, Any]:
        names = self.cloud.names
        properties = {
            "provisioningState": "Succeeded",
            "powerState": {"code": "Running"},
            "currentKubernetesVersion": "1.34.1",
            "maxAgentPools": 100,
            "nodeResourceGroup": f"MC_{names.resource_group}_{names.cluster}_{names.location}",
            "nodeProvisioningProfile": {"mode": "Manual"},
        }
        return {
            "id": names.id,
            "name": names.cluster,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": names.location,
            "properties": properties,
        }

    def _check_names(self, name: str, found: Mapping[str, str]) -> None:
        names = self.cloud.names
        if found.get("sub", names.subscription) != names.subscription:
            raise ArmError(
                404, "SubscriptionNotFound", f"The subscription '{found['sub']}' could not be found."
            )
        if found.get("group", names.resource_group).lower() != names.resource_group:
            raise ArmError(
                404, "ResourceGroupNotFound", f"Resource group '{found['group']}' could not be found."
            )
        if found.get("mc", names.cluster).lower() != names.cluster:
            raise ArmError(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.ContainerService/managedClusters/{found['mc']}' under resource group "
                f"'{names.resource_group}' was not found.",
            )

    def _check_answer(self, call: Call, answer: Answer) -> None:
        if not self.checks:
            return
        request = request_of(call.method, call.path, call.query, call.headers, call.body)
        problem = violation_of_answer(request, answer.status, answer.headers, answer.content)
        if problem is not None:
            self.violations.append(f"answer {answer.status} to {call.method} {call.path}: {problem}")


def _route(call: Call) -> tuple[str, dict[str, str]]:
    for method, path, name in _ROUTES:
        if method == call.method and (found := path.fullmatch(call.path)) is not None:
            return name, found.groupdict()
    return f"{call.method} unknown", {}


def _entry(name: str, pool: str | None, call: Call, answer: Answer) -> dict[str, Any]:
    """For tests and for people; never the token itself."""
    kept = ("if-match", "if-none-match", "user-agent")
    return {
        "call": name,
        "pool": pool,
        "path": call.path,
        "query": dict(call.query),
        "headers": {key: call.headers[key] for key in kept if key in call.headers},
        "authorized": "authorization" in call.headers,
        "body": json.loads(call.body) if call.body else None,
        "status": answer.status,
    }
