"""`kairay plan --explain`: every term of a plan's memory as a bar, with what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from kairay.memory import GIB, MemoryUse
from kairay.plan_candidates import Candidate
from kairay.skus import Device

_CELLS = 36
_TERMS = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "activations": "activations",
    "logits": "logits",
    "adapter": "adapter",
    "optimizer": "optimiser",
    "overhead": "overhead",
}
_TUNING = {
    "weights": "the base model, frozen; in 4 bits with qlora",
    "activations": "what one micro-batch keeps for the backward pass",
    "logits": "scores of the whole vocabulary and their gradient",
    "adapter": "LoRA's parameters and their gradients",
    "optimizer": "Adam's two moments of each of them",
    "overhead": "CUDA, buffers between GPUs, lost space",
}
_SERVING = {
    "weights": "the model as it computes",
    "kv_cache": "the context of running requests: what is left",
    "activations": "of the tokens that are computed at once",
    "overhead": "CUDA, its graphs, the engine's buffers",
}


def memory_terms(use: MemoryUse) -> dict[str, int]:
    """Bytes by term, in the order of the type; a term that is not used is 0."""
    names = [field.name for field in fields(use) if field.name not in ("capacity", "limit")]
    return {name: getattr(use, name) for name in names}


def term_word(name: str) -> str:
    """A term as people call it."""
    return _TERMS.get(name, name.replace("_", " "))


def explain_memory(candidate: Candidate) -> Iterator[str]:
    """The bars of what this candidate does, tuning first; each full bar is the whole device."""
    for what, shape, meanings in (
        ("tuning", candidate.tuning, _TUNING),
        ("serving", candidate.serving, _SERVING),
    ):
        if shape is not None:
            device = "the machine" if shape.device is Device.CPU else f"one GPU of {candidate.sku.name}"
            used = f"{shape.memory.total / GIB:.2f} of {shape.memory.capacity / GIB:.1f} GiB"
            yield f"{what} on {device}: {used} are used, {shape.memory.limit / GIB:.2f} may be"
            yield from _bars(shape.memory, meanings)


def _bars(use: MemoryUse, meanings: dict[str, str]) -> Iterator[str]:
    rows = [
        (term_word(name), size, meanings.get(name, "")) for name, size in memory_terms(use).items() if size
    ]
    if use.fits:
        rows.append(("free", use.limit - use.total, "may be used, is not needed"))
        rows.append(("kept back", use.capacity - use.limit, "driver, fragmentation, estimate"))
    for word, size, meaning in rows:
        yield f"  {word:<12}{size / GIB:7.2f}  {_bar(size, use.capacity)}  {meaning}".rstrip()


def _bar(size: int, capacity: int) -> str:
    """`size` of `capacity` in cells; a term that is there has at least a half."""
    halves = min(2 * _CELLS, max(1, round(2 * _CELLS * size / capacity))) if capacity and size else 0
    return ("█" * (halves // 2) + "▌" * (halves % 2)).ljust(_CELLS, "·")
