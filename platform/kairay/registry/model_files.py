"""The config and the weights' sizes of a model that is in a folder, an OCI artifact, the hub's cache or on the hub.

Weights are not read: headers of safetensors files, an index or a listing say how many bytes there are. The hub is
asked only for what is not on this machine, with plain HTTP, so that planning needs none of the hub's packages.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kairay.errors import InputError, TransientError
from kairay.model_config import Published
from kairay.registry.model_folder import (
    CONFIG,
    INDEX,
    folder_config,
    loaded_sizes,
    model_config,
    parse_json,
    read_header,
    read_json,
    weight_files,
)

if TYPE_CHECKING:
    from kairay.registry.store import RemoteOptions

HUB = "https://huggingface.co"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_CARD = "README.md"
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.-]+)[\"']?\s*$", re.M)
_TIMEOUT = (10.0, 30.0)
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_LARGEST_CONFIG = 4 * 2**20
_LARGEST_LISTING = 8 * 2**20
"""Bytes. A repository of a thousand files has a listing of less than one MiB."""
_MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What to do about a hub that refuses or is away, to be read after "; ": that depends on who asks it."""

    token: str = "set HF_TOKEN"  # noqa: S105  a sentence
    unreachable: str = "try again, or give a folder that holds the model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """What a model's files say about it."""

    config: Mapping[str, Any]
    published: Published
    folder: Path | None = None
    """Where the files are on this machine."""


def read_folder(folder: Path, model_id: str, *, revision: str | None = None) -> ModelFiles:
    """From a model folder, or from one that has only config.json and the index; InputError says what is missing."""
    config = folder_config(folder)
    size, formats = _weights(folder)
    card = folder / _CARD
    published = Published(
        id=model_id,
        revision=revision,
        weight_bytes=size,
        formats=formats,
        license=_licence_in(card.read_text("utf-8", "replace")) if card.is_file() else None,
    )
    return ModelFiles(config=config, published=published, folder=folder)


def read_artifact(reference: str, options: RemoteOptions | None = None) -> ModelFiles:
    """From an OCI artifact: its manifest, and its config.json alone of the files. Errors as for a pull."""
    from kairay.registry.reference import ArtifactReference
    from kairay.registry.store import Action, RemoteOptions, open_store

    place = ArtifactReference.parse(reference)
    with open_store(place, Action.PULL, None, options or RemoteOptions()) as store:
        manifest = store.resolve()
        if manifest is None:
            raise InputError(f"{place} does not exist; check its name and tag", reason="NotFound")
        files = {layer.title: layer for layer in manifest.layers if layer.title}
        weights = loaded_sizes({title: layer.size for title, layer in files.items()}, str(place))
        if CONFIG not in files:
            raise InputError(f"{place} holds no {CONFIG}, so it is no model; push a model folder")
        content = store.read(files[CONFIG], most=_LARGEST_CONFIG)
    config = model_config(parse_json(content, f"{place}: {CONFIG}"), f"{place}: {CONFIG}")
    return ModelFiles(config=config, published=Published(id=reference, weight_bytes=sum(weights.values())))


def cached_snapshot(model_id: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of the hub's own cache that holds this model's config; None when it is not on this machine."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    kept = cache / f"models--{model_id.replace('/', '--')}"
    main = kept / "refs" / "main"
    named = [kept / "snapshots" / main.read_text("utf-8").strip()] if main.is_file() else []
    for snapshot in (*named, *sorted(kept.glob("snapshots/*"))):
        if (snapshot / CONFIG).is_file():
            return snapshot
    return None


def read_hub(
    model_id: str, environment: Mapping[str, str] = os.environ, remedies: Remedies | None = None
) -> ModelFiles:
    """From the hub's cache, else from the hub.

    InputError: no such model, a licence to accept, or no weights that would be loaded. TransientError: the hub cannot
    be reached.
    """
    snapshot = cached_snapshot(model_id, environment)
    if snapshot is not None:
        return read_folder(snapshot, model_id, revision=snapshot.name)
    if any(environment.get(name, "").casefold() in ("1", "true", "yes", "on") for name in _OFFLINE):
        raise TransientError(
            f"{model_id} is not in the hub's cache on this machine, and HF_HUB_OFFLINE forbids to ask; unset it,"
            " or give a folder",
            reason="HubUnreachable",
        )
    hub = _Hub(model_id, environment, remedies or Remedies())
    published = _listed(
        model_id, _mapping(hub.get(f"/api/models/{model_id}?blobs=true", most=_LARGEST_LISTING), model_id)
    )
    path = f"/{model_id}/resolve/{published.revision or 'main'}/{CONFIG}"
    config = hub.get(path, most=_LARGEST_CONFIG)
    return ModelFiles(config=model_config(config, f"{model_id}: {CONFIG}"), published=published)


def _listed(model_id: str, listing: Mapping[str, Any]) -> Published:
    """What the hub's listing of a repository says; InputError for one whose weights would not be loaded."""
    try:
        sizes = {
            str(file.get("rfilename")): int(file.get("size") or 0) for file in listing.get("siblings") or ()
        }
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{model_id}: the hub's listing of its files makes no sense ({error})") from error
    where = f"{model_id} on the hub"
    weights = loaded_sizes(sizes, where)
    if CONFIG not in sizes:
        raise InputError(f"{where}: no {CONFIG} in it; take a model that transformers knows")
    card = listing.get("cardData")
    licence = card.get("license_name") or card.get("license") if isinstance(card, Mapping) else None
    named, commit = str(listing.get("id") or ""), str(listing.get("sha") or "")
    return Published(
        id=named if HUB_ID.fullmatch(named) else model_id,
        revision=commit if _COMMIT.fullmatch(commit) else None,
        weight_bytes=sum(weights.values()),
        license=str(licence) if licence else None,
        gated=bool(listing.get("gated")),
    )


@dataclass(frozen=True, slots=True)
class _Hub:
    """The hub, asked about one model."""

    model_id: str
    environment: Mapping[str, str]
    remedies: Remedies

    def get(self, path: str, *, most: int) -> object:
        """One JSON answer of at most so many bytes."""
        import requests

        from kairay.registry.small_body import PLAIN, read_small

        token = (self.environment.get("HF_TOKEN") or "").strip()
        login = {"Authorization": f"Bearer {token}"} if token else {}
        address = (self.environment.get("HF_ENDPOINT") or HUB).rstrip("/") + path
        try:
            with requests.Session() as session:
                session.max_redirects = _MOST_REDIRECTS
                with session.get(address, headers=PLAIN | login, timeout=_TIMEOUT, stream=True) as answer:
                    if answer.status_code in (401, 403, 404):
                        raise InputError(self._refusal(answer.status_code, has_token=bool(token)))
                    answer.raise_for_status()
                    content = read_small(answer, f"{self.model_id}: what the hub sends", most=most)
            return json.loads(content)
        except (requests.RequestException, ValueError, RecursionError) as error:
            raise TransientError(
                f"the hub cannot be reached for {self.model_id} ({type(error).__name__}); {self.remedies.unreachable}",
                reason="HubUnreachable",
            ) from error

    def _refusal(self, status: int, *, has_token: bool) -> str:
        remedy = self.remedies.token
        if status == 403:
            return f"{self.model_id}: the hub wants its licence accepted first; accept it there and {remedy}"
        reader = "the token may not read it" if has_token else f"it is private or gated: then {remedy}"
        return f"{self.model_id}: the hub knows no such model, or {reader}"


def _weights(folder: Path) -> tuple[int, dict[str, int]]:
    """Bytes of all tensors, and by number format; of an index alone only the former."""
    index = folder / INDEX
    if index.is_file() and not any(folder.glob("*.safetensors")):
        metadata = _mapping(read_json(index, ""), index).get("metadata")
        size = metadata.get("total_size") if isinstance(metadata, Mapping) else None
        if not isinstance(size, int | float) or size <= 0:
            raise InputError(
                f"{index}: no metadata.total_size in it, and no weights beside it; fetch the model again"
            )
        return int(size), {}
    formats: Counter[str] = Counter()
    for name in weight_files(folder):
        for tensor in read_header(folder / name).values():
            start, end = tensor["data_offsets"]
            formats[str(tensor.get("dtype"))] += end - start
    return formats.total(), dict(sorted(formats.items()))


def _licence_in(card: str) -> str | None:
    """The licence in a model card's front matter."""
    parts = card.split("---", 2)
    found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found[1] if found else None


def _mapping(read: object, where: object) -> Mapping[str, Any]:
    if not isinstance(read, dict):
        raise InputError(f"{where}: not a JSON object; fetch the model again")
    return read
