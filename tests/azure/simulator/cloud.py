"""One AKS cluster: pools that grow and shrink in virtual time, and everything that can go wrong on the way.

Modelled: one operation per pool at a time, ETags that change with every write and when an operation ends, quota,
capacity, faults that are asked for, machines that become nodes while the operation is still under way, spot eviction,
a cluster autoscaler that was turned on. Not modelled: upgrades, networks, Windows. What a change leaves out is gone,
unless it could not be changed anyway: nobody documents what AKS does there.
"""

from __future__ import annotations

import copy
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.clock import Clock
from simulator.errors import ArmError
from simulator.faults import Fault
from simulator.quota import QuotaBook
from simulator.records import AT_REST, AgentPool, Machine, Names, NodeNews, Operation, Timings
from simulator.rules import IMMUTABLE, check_any, check_change, check_new

READ_ONLY = ("eTag", "provisioningState", "currentOrchestratorVersion", "nodeImageVersion", "status")


@dataclass(kw_only=True)
class Cloud:
    """The state of everything, and the calls that change it; not safe for threads by itself."""

    clock: Clock = field(default_factory=Clock)
    names: Names = field(default_factory=Names)
    timings: Timings = field(default_factory=Timings)
    machine_name: Callable[[str, int], str] | None = None
    """From a pool and a number; None: as AKS names its scale sets' machines."""
    faults: list[Fault] = field(default_factory=list)
    capacity: dict[str, int] = field(default_factory=dict)
    """Machines of a size that the region still has; one that is not named is ample."""
    restricted: dict[str, str] = field(default_factory=dict)
    """Sizes that the region does not sell to us, and the reason code."""
    eviction_lowers_count: bool = False
    """Nobody documents whether AKS lowers a pool's count when a spot machine is evicted."""
    cluster_busy_until: float = 0.0
    """An operation on the whole cluster runs until then."""
    pools: dict[str, AgentPool] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    news: list[NodeNews] = field(default_factory=list)
    """Nodes that came and went, until somebody takes them."""
    _ids: int = 0

    def __post_init__(self) -> None:
        self.quota = QuotaBook(location=self.names.location)
        if not self.pools:
            self.add_foreign("system", {"vmSize": "Standard_D4s_v5", "mode": "System", "count": 1})

    def put(
        self, name: str, wanted: Mapping[str, Any], if_match: str | None, if_none_match: str | None
    ) -> bool:
        """Create or change a pool; True: it is new."""
        self.settle()
        old = self.pools.get(name)
        self._check_condition(old, if_match, if_none_match)
        self._check_idle(old)
        properties = _clean(wanted)
        if old is None:
            check_new(name, properties, len(self.pools))
            properties.setdefault("count", 1)
        else:
            properties.setdefault("count", old.properties["count"])
            check_change(name, old.properties, properties)
            properties = {
                **{key: old.properties[key] for key in IMMUTABLE if key in old.properties},
                **properties,
            }
        check_any(properties)
        self._strike("PUT pool", name, properties)
        pool = old or AgentPool(name=name, properties=dict(_DEFAULTS))
        size = (str(properties["vmSize"]), properties.get("scaleSetPriority") == "Spot")
        more = properties["count"] - len(pool.machines)
        if more > 0:
            self.quota.check(*size, more, self._machines())
        self.pools[name] = pool
        counted = old is None or properties["count"] != old.properties["count"] or more != 0
        pool.properties = {**(_DEFAULTS if old is None else {}), **properties, **_kept(pool.properties)}
        doing = "Creating" if old is None else "Scaling" if counted else "Updating"
        self._begin_change(pool, doing, more)
        return old is None

    def delete(self, name: str, if_match: str | None) -> Operation | None:
        """Delete a pool; None: it was not there."""
        self.settle()
        pool = self.pools.get(name)
        if pool is None:
            return None
        self._check_condition(pool, if_match, None)
        self._check_idle(pool)
        self._strike("DELETE pool", name, pool.properties)
        leaving = tuple(machine.name for machine in pool.machines)
        return self._begin(pool, "Deleting", self.timings.delete, leaving=leaving)

    def delete_machines(self, name: str, machines: Iterable[str]) -> Operation:
        """Delete these machines and lower the count by as many."""
        self.settle()
        pool = self.pool(name)
        self._check_idle(pool)
        self._strike("POST deleteMachines", name, pool.properties)
        known = [machine.name for machine in pool.machines]
        going = tuple(machine for machine in machines if machine in known)
        if not going:
            raise ArmError(
                400,
                "InvalidParameter",
                "Cannot find any valid machines to delete. Please check your input machine names. The valid machines "
                f"to delete in agent pool '{name}' are: {', '.join(known)}.",
            )
        pool.properties["count"] -= len(going)
        return self._begin(pool, "DeletingMachines", self.timings.delete_machines, leaving=going)

    def abort(self, name: str) -> Operation | None:
        """Cancel what is under way; None: nothing is."""
        self.settle()
        pool = self.pool(name)
        if pool.operation is None:
            return None
        operation = self.operations[pool.operation]
        operation.status, pool.operation = "Canceled", None
        self._rest(pool, "Canceled")
        return operation

    def pool(self, name: str) -> AgentPool:
        """ArmError 404 where it is not there."""
        if name not in self.pools:
            raise ArmError(404, "NotFound", f"Could not find agent pool {name} in the cluster.")
        return self.pools[name]

    def usages(self) -> list[dict[str, Any]]:
        """Compute's counters."""
        return self.quota.usages(self._machines())

    def settle(self) -> None:
        """Let happen what is due by now."""
        now = self.clock.now()
        for pool in list(self.pools.values()):
            self._join(pool, now)
            operation = self.operations.get(pool.operation or "")
            if operation is not None and operation.ends <= now:
                self._finish(pool, operation)

    # What tests do behind the controller's back.

    def add_foreign(self, name: str, properties: Mapping[str, Any]) -> AgentPool:
        """A pool of somebody else, at rest, its nodes there."""
        pool = AgentPool(
            name=name, properties={**_DEFAULTS, "mode": "User", **copy.deepcopy(dict(properties))}
        )
        self.pools[name] = pool
        self._grow(pool, int(pool.properties.get("count", 0)), self.clock.now() - 1e9)
        self._rest(pool, "Succeeded")
        self._join(pool, self.clock.now())
        return pool

    def change(self, name: str, **properties: Any) -> None:
        """Somebody writes the pool: turns an autoscaler on, takes our tags away, stops it."""
        pool = self.pools[name]
        pool.properties |= properties
        self._rest(pool, pool.state)

    def drop(self, name: str) -> None:
        """Somebody deletes the pool, whatever it is at, and it is gone at once."""
        pool = self.pools.pop(name)
        self._leave(pool, tuple(machine.name for machine in pool.machines))

    def autoscale(self, name: str, count: int) -> None:
        """The cluster autoscaler sets the count, within its bounds."""
        pool = self.pools[name]
        pool.properties["count"] = count
        self._begin_change(pool, "Scaling", count - len(pool.machines))

    def evict(self, name: str, count: int = 1) -> tuple[str, ...]:
        """Azure takes spot machines back; which ones are gone."""
        pool = self.pools[name]
        gone = tuple(machine.name for machine in pool.machines[:count])
        if self.eviction_lowers_count:
            pool.properties["count"] -= len(gone)
            self._rest(pool, pool.state)
        self._leave(pool, gone)
        return gone

    def _begin_change(self, pool: AgentPool, doing: str, more: int) -> None:
        """Grow or shrink to the count, or fail as a fault or the capacity says."""
        now, size = self.clock.now(), pool.size[0]
        fault = self._fault("PUT pool", pool.name, pool.properties, operation=True)
        left = self.capacity.get(size, more)
        if fault is None and more > left:
            fault = Fault(code="AllocationFailed", message=_NO_CAPACITY.format(size=size), arrive=left)
        arriving = more if fault is None else min(more, fault.arrive)
        leaving = tuple(machine.name for machine in pool.machines[more:]) if more < 0 else ()
        if arriving > 0:
            self.capacity |= {size: left - arriving} if size in self.capacity else {}
            self._grow(pool, arriving, now)
        seconds = {"Creating": self.timings.create, "Scaling": self.timings.scale}.get(
            doing, self.timings.update
        )
        self._begin(pool, doing, seconds, error=fault.as_operation() if fault else None, leaving=leaving)

    def _begin(
        self,
        pool: AgentPool,
        doing: str,
        seconds: float,
        *,
        error: dict[str, Any] | None = None,
        leaving: tuple[str, ...] = (),
    ) -> Operation:
        now = self.clock.now()
        operation = Operation(
            id=self._next_id(),
            pool=pool.name,
            doing=doing,
            started=now,
            ends=now + seconds,
            error=error,
            leaving=leaving,
        )
        self.operations[operation.id], pool.operation = operation, operation.id
        pool.properties.pop("status", None)
        self._rest(pool, doing)
        return operation

    def _finish(self, pool: AgentPool, operation: Operation) -> None:
        operation.status = "Failed" if operation.error else "Succeeded"
        pool.operation = None
        self._leave(pool, operation.leaving)
        if operation.doing == "Deleting" and not operation.error:
            del self.pools[pool.name]
            return
        if operation.error:
            pool.properties["status"] = {"provisioningError": operation.error}
        self._rest(pool, operation.status)

    def _rest(self, pool: AgentPool, state: str) -> None:
        """A new state, and with it a new ETag."""
        pool.properties |= {"provisioningState": state, "eTag": self._next_id()}

    def _grow(self, pool: AgentPool, count: int, now: float) -> None:
        joins = now + self.timings.register
        for _ in range(count):
            name = (self.machine_name or _machine_name)(pool.name, pool.made)
            pool.machines.append(Machine(name=name, joins_at=joins, gpus_at=joins + self.timings.gpus))
            pool.made += 1

    def _join(self, pool: AgentPool, now: float) -> None:
        joined = [m for m in pool.machines if not m.joined and m.joins_at <= now]
        gpus = [m for m in pool.machines if not m.gpus and m.gpus_at <= now]
        for machine in joined:
            machine.joined = True
        for machine in gpus:
            machine.gpus = True
        if joined or gpus:
            self.news.append(
                NodeNews(
                    pool=pool.name, added=tuple(m.name for m in joined), gpus=tuple(m.name for m in gpus)
                )
            )

    def _leave(self, pool: AgentPool, names: tuple[str, ...]) -> None:
        if names:
            pool.machines = [machine for machine in pool.machines if machine.name not in names]
            self.news.append(NodeNews(pool=pool.name, removed=names))

    def _machines(self) -> Mapping[tuple[str, bool], int]:
        counted: Counter[tuple[str, bool]] = Counter()
        for pool in self.pools.values():
            counted[pool.size] += len(pool.machines)
        return counted

    def _check_condition(
        self, pool: AgentPool | None, if_match: str | None, if_none_match: str | None
    ) -> None:
        etag = pool.properties["eTag"] if pool else None
        missed = if_match is not None and if_match.strip('"') != etag and if_match != "*"
        if missed or (if_match is not None and pool is None) or (if_none_match == "*" and pool is not None):
            raise ArmError(
                412, "PreconditionFailed", "The condition of the request's ETag header is not met."
            )

    def _check_idle(self, pool: AgentPool | None) -> None:
        doing = f"{pool.name} - {pool.state}" if pool and pool.state not in AT_REST else None
        if self.clock.now() < self.cluster_busy_until:
            doing = "Updating"
        if doing:
            raise ArmError(
                409,
                "OperationNotAllowed",
                f"Operation is not allowed: Another operation ({doing}) is in progress, please wait for it to finish "
                "before starting a new operation. See https://aka.ms/aks-pending-operation for more details",
            )

    def _strike(self, call: str, pool: str | None, properties: Mapping[str, Any]) -> None:
        fault = self._fault(call, pool, properties, operation=False)
        if fault is not None:
            raise fault.as_call()

    def strike(self, call: str) -> None:
        """Faults of calls that change nothing."""
        self._strike(call, None, {})

    def _fault(
        self, call: str, pool: str | None, properties: Mapping[str, Any], *, operation: bool
    ) -> Fault | None:
        fitting = (
            each for each in self.faults if each.operation is operation and each.fits(call, pool, properties)
        )
        fault = next(fitting, None)
        return fault.strike() if fault else None

    def _next_id(self) -> str:
        self._ids += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.names.id}/{self._ids}"))


_NO_CAPACITY = (
    "Allocation failed. We do not have sufficient capacity for the requested VM size {size} in this region. Read more "
    "about improving likelihood of allocation success at http://aka.ms/allocation-guidance"
)
_DEFAULTS: dict[str, Any] = {
    "type": "VirtualMachineScaleSets",
    "mode": "User",
    "osType": "Linux",
    "osDiskSizeGB": 128,
    "osDiskType": "Managed",
    "maxPods": 110,
    "enableAutoScaling": False,
    "scaleDownMode": "Delete",
    "scaleSetPriority": "Regular",
    "powerState": {"code": "Running"},
    "currentOrchestratorVersion": "1.34.1",
    "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202610.19.0",
}


def _clean(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: copy.deepcopy(value)
        for key, value in wanted.items()
        if key not in READ_ONLY and value is not None
    }


def _kept(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: properties[key] for key in READ_ONLY if key in properties}


def _machine_name(pool: str, number: int) -> str:
    return f"aks-{pool}-{_scale_set(pool)}-vmss{number:06x}"


def _scale_set(name: str) -> str:
    return f"{uuid.uuid5(uuid.NAMESPACE_DNS, name).int % 10**8:08d}"
