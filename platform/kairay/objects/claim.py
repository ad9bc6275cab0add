"""The volume claim for a run's checkpoints. Pure."""

from __future__ import annotations

from kairay.objects.metadata import Manifest, Owner
from kairay.ray.pods import memory_text


def claim(owner: Owner, name: str, *, size: int, storage_class: str | None, shared: bool) -> Manifest:
    """`size` in bytes; `shared`: several pods write to it at once. `storage_class` None: the cluster's default."""
    spec: Manifest = {
        "accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"],
        "resources": {"requests": {"storage": memory_text(size)}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": owner.metadata(name),
        "spec": spec,
    }
