"""What a test may do to a simulator that runs in another process: JSON below `/_control/`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from simulator.faults import Fault
from simulator.wire import Answer, Arm, Call


def control(arm: Arm, call: Call) -> Answer:
    """One command; 404 for an unknown one."""
    command = f"{call.method} {call.path.removeprefix('/_control/')}"
    if command not in _COMMANDS:
        return Answer(status=404, body={"error": f"no {command}; there are {', '.join(sorted(_COMMANDS))}"})
    given = json.loads(call.body) if call.body else {}
    try:
        return Answer(status=200, body=_COMMANDS[command](arm, given))
    except (KeyError, TypeError) as error:
        return Answer(status=400, body={"error": f"{command}: {error!r}"})


def _state(arm: Arm, given: dict[str, Any]) -> Any:
    arm.cloud.settle()
    return {
        "now": arm.cloud.clock.now(),
        "pools": {name: pool.properties for name, pool in sorted(arm.cloud.pools.items())},
        "machines": {name: [m.name for m in pool.machines] for name, pool in sorted(arm.cloud.pools.items())},
        "violations": arm.violations,
    }


def _fault(arm: Arm, given: dict[str, Any]) -> Any:
    arm.cloud.faults.append(Fault(**{**given, "details": tuple(given.get("details", ()))}))
    return {"faults": len(arm.cloud.faults)}


def _no_faults(arm: Arm, given: dict[str, Any]) -> Any:
    arm.cloud.faults.clear()
    return {"faults": 0}


def _set(field: str) -> Callable[[Arm, dict[str, Any]], Any]:
    def put(arm: Arm, given: dict[str, Any]) -> Any:
        owner = arm.cloud.quota if field in ("limits", "others") else arm.cloud
        getattr(owner, field).update(given)
        return getattr(owner, field)

    return put


def _foreign(arm: Arm, given: dict[str, Any]) -> Any:
    arm.cloud.add_foreign(given["name"], given["properties"])
    return {}


def _change(arm: Arm, given: dict[str, Any]) -> Any:
    arm.cloud.change(given["name"], **given["properties"])
    return {}


_COMMANDS: dict[str, Callable[[Arm, dict[str, Any]], Any]] = {
    "GET state": _state,
    "GET calls": lambda arm, _: dict(arm.calls),
    "GET log": lambda arm, _: arm.log,
    "POST faults": _fault,
    "DELETE faults": _no_faults,
    "POST capacity": _set("capacity"),
    "POST restricted": _set("restricted"),
    "POST quota": _set("limits"),
    "POST quota/others": _set("others"),
    "POST evict": lambda arm, given: arm.cloud.evict(given["pool"], int(given.get("count", 1))),
    "POST foreign": _foreign,
    "POST change": _change,
}
