"""What makes a folder a model: a configuration, and weights that are all there.

Looks at headers and sizes only: a torn copy is named in milliseconds, not by a stack trace after a GPU came.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from kairay.errors import InputError

_HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit


def check_model_folder(folder: Path) -> Path:
    """`folder`, when transformers could load it; otherwise an InputError says what is missing."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; give a folder with config.json and *.safetensors")
    config = read_json(folder / "config.json", "a model folder has a config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(
            f"{folder / 'config.json'}: no model_type in it; take the config.json that came with the model"
        )
    for name in weight_files(folder):
        read_header(folder / name)
    return folder


def weight_files(folder: Path) -> list[str]:
    """The safetensors files that transformers would load, whether they are there or not; InputError for none."""
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = read_json(index, "")
        if isinstance(shards, dict) and isinstance(shards.get("weight_map"), dict):
            return sorted(set(shards["weight_map"].values()))
        raise InputError(f"{index}: no weight_map in it; fetch the model again")
    if any(folder.glob("*.bin")):
        raise InputError(
            f"{folder}: its weights are *.bin files; save the model as safetensors (they cannot run code)"
        )
    raise InputError(f"{folder}: no model.safetensors in it; fetch the model again")


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
