"""What makes a folder a model: a configuration, and weights that are all there.

Looks at headers and sizes only: a torn copy is named in milliseconds, not by a stack trace after a GPU came.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kairay.errors import InputError

CONFIG: Final = "config.json"
"""What transformers makes the model from."""
WEIGHTS: Final = "model.safetensors"
"""All weights in one file."""
INDEX: Final = "model.safetensors.index.json"
"""Names the files of weights that lie in several."""

_HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit
_SHARD: Final = re.compile(r"model[^/]*\.safetensors")
_OTHER: Final = re.compile(r"(?!consolidated)[^/]*\.safetensors")
_MAKERS: Final = (
    f"its weights are in their maker's own format only ({{file}}), which is not loaded here: {WEIGHTS}, or {INDEX} with"
    " its files, is missing; take a copy of the model in Hugging Face's format, or convert it and push that folder"
)
_PICKLED: Final = (
    "its weights are {file}, a format that can run code and is not loaded here; take a copy of the model that has"
    " *.safetensors, or save the model as safetensors (transformers: save_pretrained) and push that folder"
)
_NOT_LOADED: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"adapter_model[^/]*\.(safetensors|bin)"),
        "it is an adapter and no model; name the model that it was made of as preset, and it under inference.adapters",
    ),
    (re.compile(r"consolidated[^/]*\.(safetensors|pth)"), _MAKERS),
    (
        _SHARD,
        f"{INDEX} is missing, which names the files of its weights ({{file}} …); fetch the whole model again",
    ),
    (
        _OTHER,
        f"its weights are called {{file}}; what is loaded is {WEIGHTS}, or the files that {INDEX} names",
    ),
    (re.compile(r"[^/]*\.(bin|pt|pth|ckpt|h5|msgpack)"), _PICKLED),
    (
        re.compile(r"[^/]*\.gguf"),
        "its weights are {file}, a format that is not loaded here; take the model that it was made of",
    ),
)
"""Names at the top of a model that has no weights to load -> what they are, and what to do."""


def check_model_folder(folder: Path) -> Path:
    """`folder`, when transformers could load it; otherwise an InputError says what is missing."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; give a folder with config.json and *.safetensors")
    folder_config(folder)
    for name in weight_files(folder):
        read_header(folder / name)
    return folder


def folder_config(folder: Path) -> Mapping[str, Any]:
    """The content of a model folder's config.json; InputError where it is missing or wrong.

    What needs none (an adapter, a GGUF file) is told by what it is.
    """
    file = folder / CONFIG
    if folder.is_dir() and not file.exists():
        names = {path.name for path in folder.iterdir()}
        if names.isdisjoint((WEIGHTS, INDEX)) and (said := _not_loaded(names)):
            raise InputError(f"{folder}: {said}")
    return model_config(read_json(file, f"a model folder has a {CONFIG}"), file)


def model_config(read: object, where: object) -> Mapping[str, Any]:
    """The content of a config.json that transformers could read; InputError names `where` when it could not."""
    if not isinstance(read, dict):
        raise InputError(f"{where}: not a JSON object; fetch the model again")
    if "model_type" not in read:
        raise InputError(f"{where}: no model_type in it; take the config.json that came with the model")
    return read


def weight_files(folder: Path) -> list[str]:
    """The safetensors files that transformers would load, whether they are there or not; InputError for none."""
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    index = folder / INDEX
    if index.exists():
        shards = read_json(index, "")
        if isinstance(shards, dict) and isinstance(shards.get("weight_map"), dict):
            return sorted(set(shards["weight_map"].values()))
        raise InputError(f"{index}: no weight_map in it; fetch the model again")
    raise InputError(f"{folder}: {_why_no_weights(path.name for path in folder.iterdir())}")


def loaded_sizes(sizes: Mapping[str, int], where: str) -> dict[str, int]:
    """Of the files of a model that is elsewhere, by name and bytes, those that transformers would load.

    InputError says what `where` lacks, or has instead. Which files an index names is not looked at.
    """
    if WEIGHTS in sizes:
        found = {WEIGHTS: sizes[WEIGHTS]}
    elif INDEX in sizes:
        ways = (_SHARD, _OTHER)
        found = next((each for way in ways if (each := _matching(sizes, way))), {})
    else:
        raise InputError(f"{where}: {_why_no_weights(sizes)}")
    if not sum(found.values()):
        raise InputError(f"{where}: its weights are empty or not there; take another copy of the model")
    return found


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file by name: dtype, shape, data_offsets; InputError for a torn file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < min(size, _HEADER_LIMIT) else {}
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [end for _, end in (entry["data_offsets"] for entry in tensors.values())]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fetch the model again") from error
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a safetensors file; fetch the model again") from error
    if not ends or size != 8 + length + max(ends):
        raise InputError(f"{path}: cut short or damaged ({size} bytes); fetch the model again")
    return tensors


def read_json(path: Path, remedy: str) -> object:
    """The content of a JSON file; InputError names the file, with `remedy` where it is not there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(content, str(path))


def parse_json(content: bytes, where: str) -> object:
    """InputError names `where` when it is no JSON."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); fetch the model again") from error


def _matching(sizes: Mapping[str, int], way: re.Pattern[str]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if way.fullmatch(name)}


def _why_no_weights(names: Iterable[str]) -> str:
    return _not_loaded(names) or (
        f"no {WEIGHTS} in it and no {INDEX}, so it is no model; fetch, take or push a whole model folder"
    )


def _not_loaded(names: Iterable[str]) -> str | None:
    """What files that are not loaded are, and what to do; None: there are none of those."""
    ordered = sorted(names)
    for way, said in _NOT_LOADED:
        for name in ordered:
            if way.fullmatch(name):
                return said.format(file=name)
    return None
