"""The seam between the two kinds of place: what pushing and pulling need of a layout or of a registry."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from kairay.errors import InputError
from kairay.registry.credentials import Credentials
from kairay.registry.manifest import Descriptor, Manifest
from kairay.registry.reference import LayoutReference, RemoteReference

INSECURE_VARIABLE = "KAIRAY_INSECURE_REGISTRIES"

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


class Action(StrEnum):
    """What a store was opened for; only the wording of errors depends on it."""

    PUSH = "push"
    PULL = "pull"


def insecure_registries(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The registries in $KAIRAY_INSECURE_REGISTRIES, parted by commas; InputError for what is no `host[:port]`."""
    written = environment.get(INSECURE_VARIABLE, "").split(",")
    hosts = frozenset(filter(None, (host.strip() for host in written)))
    for host in sorted(hosts):
        if not _HOST.fullmatch(host):
            raise InputError(
                f"${INSECURE_VARIABLE}: {host!r} is not a registry; write host or host:port, parted by commas"
            )
    return hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """How to talk to a registry."""

    insecure_hosts: frozenset[str] = field(default_factory=insecure_registries)
    """Registries, as `host` or `host:port`, allowed plain HTTP; those on loopback are anyway."""
    attempts: int = 5
    """Tries for each request that fails for a reason that may pass."""
    first_delay: float = 0.5
    """Seconds before the second try; doubled for each further one."""
    timeout: tuple[float, float] = (10.0, 120.0)
    """Seconds to connect, and without a byte."""
    sleep: Callable[[float], None] = time.sleep


class Store(Protocol):
    """One place of artifacts, opened at one reference."""

    def resolve(self) -> Manifest | None:
        """The manifest that the reference points at; None where there is none."""

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there, by digest and size."""

    def put_blob(self, blob: Descriptor, content: Path | bytes) -> None:
        """Store a blob's content, checked, unless it is there."""

    def put_manifest(self, manifest: Manifest, tag: str) -> None:
        """Store a manifest whose blobs are there and let `tag` point at it."""

    def fetch(self, blob: Descriptor, destination: Path) -> None:
        """Write a blob to a file; KairayError (DigestMismatch) names a corrupt one."""

    def read(self, blob: Descriptor, *, most: int) -> bytes:
        """A small blob's content; InputError for one of more than `most` bytes, else as `fetch`."""


@contextmanager
def open_store(
    reference: LayoutReference | RemoteReference,
    action: Action,
    credentials: Credentials | None,
    options: RemoteOptions,
) -> Iterator[Store]:
    """The store behind a reference, closed at the end; HTTP libraries are imported for a registry only."""
    if isinstance(reference, LayoutReference):
        from kairay.registry.layout import LayoutStore

        yield LayoutStore(reference)
        return
    from kairay.registry.remote import RemoteStore

    store = RemoteStore(reference, action=action, credentials=credentials, options=options)
    try:
        yield store
    finally:
        store.close()
