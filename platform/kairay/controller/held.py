"""What is said of a Workspace that nobody can judge now, because the hub or a registry cannot be reached, and of one
whose edit a rule of the cluster denies. Pure."""

from __future__ import annotations

from kairay.controller.conditions import MOST_CHARACTERS, Condition, Type
from kairay.controller.decide import Decision, World
from kairay.controller.drawn_for import wish_of
from kairay.controller.observed import Observed
from kairay.controller.told import State, draw_status, kept_status
from kairay.errors import KairayError


def hold(seen: Observed, error: KairayError, world: World) -> Decision:
    """The status of a Workspace that nobody can judge now, or whose edit the cluster denies; once something has been
    made of it, what was found then holds."""
    message = f"{error.message}; Kairay tries again by itself"
    wish = wish_of(seen, world.settings)
    if "plan" in seen.status or "inference" in seen.status:
        told = f"{message}, and what runs goes on"[:MOST_CHARACTERS]
        return Decision(status={**seen.status, "message": told}, wish=wish)
    conditions = [
        Condition(type=kind, status=False, reason=error.reason, message=message)
        for kind in (Type.RESOURCE_READY, Type.SUCCEEDED, Type.READY)
    ]
    status = draw_status(seen, world.now, conditions, state=State.PENDING, message=message)
    return Decision(status={**kept_status(seen), **status}, wish=wish)
