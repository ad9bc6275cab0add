"""What is said of a Workspace that nobody can judge now, because the hub or a registry cannot be reached. Pure."""

from __future__ import annotations

from kairay.controller.conditions import MOST_CHARACTERS, Condition, Type
from kairay.controller.decide import Decision, World
from kairay.controller.drawn_for import wish_of
from kairay.controller.observed import Observed
from kairay.controller.told import State, draw_status, kept_status
from kairay.errors import TransientError


def hold(seen: Observed, error: TransientError, world: World) -> Decision:
    """The status of a Workspace that nobody can judge now; once it has been planned, what was found then holds."""
    message = f"{error.message}; Kairay tries again by itself"
    wish = wish_of(seen, world.settings)
    if "plan" in seen.status:
        told = f"{message}, and what runs goes on"[:MOST_CHARACTERS]
        return Decision(status={**seen.status, "message": told}, wish=wish)
    conditions = [
        Condition(type=kind, status=False, reason=error.reason, message=message)
        for kind in (Type.RESOURCE_READY, Type.SUCCEEDED, Type.READY)
    ]
    status = draw_status(seen, world.now, conditions, state=State.PENDING, message=message)
    return Decision(status={**kept_status(seen), **status}, wish=wish)
