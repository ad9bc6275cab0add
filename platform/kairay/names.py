"""Every name that is derived from a Workspace's, each from one function.

Ray's objects take at most 47 characters before the operator adds its own suffixes, so long Workspace names
are cut and end in a hash of the whole. A Service keeps the Workspace's full name, which is a DNS label.
"""

from __future__ import annotations

import hashlib

RAY_NAME_LIMIT = 47
"""Characters of a RayJob's or RayService's name; KubeRay's operator refuses longer ones."""

TAG_LIMIT = 128
"""Characters of an image tag: the OCI distribution specification."""

_HASH_CHARACTERS = 6


def ray_name(workspace: str, revision: str) -> str:
    """The RayJob that tunes `revision` of the Workspace called `workspace`."""
    suffix = f"-{revision}"
    return shorten(workspace, RAY_NAME_LIMIT - len(suffix)) + suffix


def ray_service_name(workspace: str) -> str:
    """The RayService, and the Serve application, that answers for `workspace`."""
    return shorten(workspace, RAY_NAME_LIMIT)


def service_name(workspace: str) -> str:
    """The Kubernetes Service in front: the Workspace's own name, never cut."""
    return workspace


def run_name(workspace: str, revision: str, uid: str | None = None) -> str:
    """The training run and its storage folder; `uid` parts a Workspace from a deleted one of its name."""
    name = ray_name(workspace, revision)
    return name if uid is None else f"{name}-{uid.replace('-', '')[:8]}"


def claim_name(workspace: str) -> str:
    """The volume claim that holds a run's checkpoints."""
    return f"{workspace}-run"


def api_keys_name(workspace: str) -> str:
    """The secret with the API keys that Kairay makes."""
    return f"{workspace}-api-keys"


def adapter_tag(tag: str, revision: str) -> str:
    """The tag that stays with one revision's adapter while `tag` itself moves on to the next."""
    suffix = f"-{revision}"
    return shorten(tag, TAG_LIMIT - len(suffix)) + suffix


def shorten(name: str, limit: int) -> str:
    """`name` if it has at most `limit` characters, else its beginning and six hex characters of its hash."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARACTERS]
    return name[: limit - _HASH_CHARACTERS - 1].rstrip("-._") + f"-{digest}"
