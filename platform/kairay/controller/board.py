"""Where passes over Workspaces and the keeper of nodes leave word for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kairay.controller.groups import NodeWish
from kairay.controller.triggers import WorkspaceName
from kairay.nodes.actions import NodeWord
from kairay.nodes.groups import merge_groups
from kairay.nodes.interface import NodeGroup, Offer


class NodeBoard:
    """What Workspaces want of nodes, and what is said of their nodes; in memory, since a pass over each tells it anew.

    `told` is called with a Workspace whose sentence has changed, `asked` when what is wanted has.
    """

    def __init__(self, told: Callable[[WorkspaceName], None]) -> None:
        self._told = told
        self.asked: Callable[[], None] = lambda: None
        self._wants: dict[WorkspaceName, NodeWish] = {}
        self._words: Mapping[str, NodeWord] = {}
        self._heard: frozenset[str] = frozenset()

    def want(self, name: WorkspaceName, wish: NodeWish | None) -> None:
        """The nodes of a Workspace; None: it wants none, or is gone."""
        if self._wants.get(name) == wish:
            return
        if wish is None:
            del self._wants[name]
        else:
            self._wants[name] = wish
        self.asked()

    def groups(self) -> dict[str, NodeGroup]:
        """What all of them want, one of each name."""
        return merge_groups(self._wants[name].group for name in sorted(self._wants))

    def gangs(self) -> frozenset[str]:
        """`namespace/name` of Workspaces whose workers are of no use unless all are there."""
        return frozenset(f"{space}/{name}" for (space, name), wish in self._wants.items() if wish.gang)

    def suggestions(self) -> dict[str, tuple[Offer, ...]]:
        """By group, what its Workspaces do not allow and would do as well."""
        return {
            wish.group.name: wish.instead
            for _, wish in sorted(self._wants.items(), reverse=True)
            if wish.instead
        }

    def say(self, words: Mapping[str, NodeWord], groups: Iterable[str]) -> None:
        """By group, a sentence on nodes that are waited for; those of `groups` without one are well."""
        before, self._words = self._words, dict(words)
        earlier, self._heard = self._heard, frozenset(groups)
        for name, wish in self._wants.items():
            is_new = wish.group.name in self._heard - earlier
            if is_new or before.get(wish.group.name) != words.get(wish.group.name):
                self._told(name)

    @property
    def words(self) -> Mapping[str, NodeWord]:
        """By group, what was said last."""
        return self._words

    @property
    def heard(self) -> frozenset[str]:
        """Groups of which something was said last, if only that they are well."""
        return self._heard
