"""What the stage gives to a controller in place of caches that fill themselves, of Ray, and of a loop."""

from __future__ import annotations

from collections.abc import Iterable

from kairay.controller.keeper import NodeKeeper
from kairay.kube.objects import Manifest, labels_of
from kairay.objects.metadata import WORKSPACE_LABEL


class Listed:
    """A cache that is filled when the stage says so."""

    def __init__(self, found: Iterable[Manifest] = ()) -> None:
        self.take(found)

    def take(self, found: Iterable[Manifest]) -> None:
        self._found = {
            (each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in found
        }

    def get(self, namespace: str, name: str) -> Manifest | None:
        return self._found.get((namespace, name))

    def by_label(self, namespace: str, value: str) -> list[Manifest]:
        here = (each for (place, _), each in self._found.items() if place == namespace)
        return [each for each in here if labels_of(each).get(WORKSPACE_LABEL) == value]

    def all(self) -> list[Manifest]:
        return list(self._found.values())


class KilledError(BaseException):
    """Nobody catches it."""


class Keeper(NodeKeeper):
    """One that tells whether it wants to look again at once."""

    woken = False

    def wake(self) -> None:
        self.woken = True
