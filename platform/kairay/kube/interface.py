"""What we ask of an API server. The docstrings are the contract; client.py and fake.py keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from kairay.kube.objects import Key, Kind, Manifest, Trim

FIELD_MANAGER: Final = "kairay"
"""Who owns the fields that we apply."""

Labels = Mapping[str, str | None]
"""Which objects: label to value, or to None for any value."""


class EventType(StrEnum):
    """What a watch says of its object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. A BOOKMARK's object has nothing but metadata.resourceVersion."""

    type: EventType
    object: Manifest


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """Something that we may do, or not, in a namespace (empty: everywhere)."""

    verb: str
    resource: str
    """In the plural: `pods`."""
    group: str = ""
    subresource: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """As rules name it: `create services/proxy`, `create workspaces.kaito.sh`."""
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {whole}/{self.subresource}" if self.subresource else f"{self.verb} {whole}"


class Cluster(Protocol):
    """One API server.

    Every call may raise what kairay.kube.errors lists; each sentence names the object. Objects that come back are
    the caller's own, to keep or to change. Nothing is tried again inside, except one retry after 401 with
    credentials read anew and one after a kept connection that had been closed.
    """

    async def get(self, key: Key) -> Manifest | None:
        """The object, or None."""

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        fields: Mapping[str, str] | None = None,
        trim: Trim | None = None,
    ) -> tuple[list[Manifest], str]:
        """All objects (None: of all namespaces) and the resourceVersion to watch from.

        Each has apiVersion and kind. `fields` are those that the kind can be selected by: `spec.nodeName` of pods,
        `involvedObject.uid` of events.
        `trim` is applied to each page as it comes, so a long list needs little memory.
        """

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply, by force, as field manager `kairay`: exactly these fields are ours from now on.

        Fields that we applied before and that are missing now are removed; others' fields stay. `status` is
        ignored. metadata.uid or metadata.resourceVersion, where given, must be the object's: else ConflictError, also
        when there is no object. An apply that changes nothing leaves the resourceVersion as it is.
        """

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """The same for the status: only `status` of the manifest is written. AbsentError without the object."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Make it; ConflictError when it is there. metadata.generateName stands in for a name."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """Write the whole object; ConflictError unless metadata.resourceVersion is the newest."""

    async def delete(self, key: Key, *, uid: str | None = None) -> None:
        """Delete it, and what it owns in the background. Absent is fine; another uid is a ConflictError."""

    def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: Labels | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        """What changed after `resource_version`, with bookmarks, until the server ends it (after some minutes).

        An object that no longer has the labels comes as DELETED. GoneError when the version is forgotten,
        TransientError when the connection breaks; then watch again from the last version seen.
        """

    async def logs(self, key: Key, *, container: str | None = None, tail: int | None = None) -> str:
        """A pod's log, or its last `tail` lines; AbsentError without the pod."""

    async def discover(self, path: str) -> Manifest | None:
        """What the server says of itself at `/version` or of an API below `/apis`; None for an API it lacks."""

    async def may(self, right: Right) -> bool:
        """Whether these credentials have a right; the question is stored nowhere."""
