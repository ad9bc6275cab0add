"""What this machine is: cores, memory and GPUs, measured without torch.

Limits of the control group that we run in count, so that a container is planned for what it may use. NVIDIA
GPUs are seen through `nvidia-smi` when the driver's program is there; anything odd it says means no GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MIB = 2**20
_QUERY = "--query-gpu=name,memory.total,memory.free,compute_cap"
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedGpu:
    """One NVIDIA GPU as its driver reports it."""

    name: str
    total_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProbe:
    """What was found on a machine."""

    cores: int
    """Logical processors that this process may use."""
    ram_bytes: int
    available_bytes: int
    """Memory that can be taken without swapping."""
    bf16: bool = False
    """The processor has bfloat16 units; without them bfloat16 is 9 to 27 times slower than float32."""
    gpus: tuple[ProbedGpu, ...] = ()


def probe_machine() -> MachineProbe:
    """Look at this machine (a few milliseconds; with an NVIDIA driver, as long as `nvidia-smi` takes)."""
    import psutil

    memory = psutil.virtual_memory()
    limit, used = _group_memory(Path("/sys/fs/cgroup"))
    total = min(memory.total, limit)
    return MachineProbe(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ram_bytes=total,
        available_bytes=max(0, min(memory.available, total - used if limit <= memory.total else total)),
        bf16=not _BF16_FLAGS.isdisjoint(_processor_flags()),
        gpus=parse_gpus(_ask_driver()),
    )


def parse_gpus(text: str) -> tuple[ProbedGpu, ...]:
    """GPUs from `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`; lines that say no numbers are
    left out."""
    gpus: list[ProbedGpu] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        numbers = ".".join(fields[1:]).split(".")
        if len(fields) != 4 or len(numbers) != 4 or not all(number.isdigit() for number in numbers):
            continue
        total, free, major, minor = (int(number) for number in numbers)
        gpu = ProbedGpu(
            name=fields[0].removeprefix("NVIDIA "),
            total_bytes=total * _MIB,
            free_bytes=free * _MIB,
            compute_capability=(major, minor),
        )
        gpus.append(gpu)
    return tuple(gpus)


def _ask_driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, _QUERY, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _group_memory(root: Path) -> tuple[int, int]:
    """Limit and use of our control group in bytes, version 2 then 1; a limit too large to matter when there
    is none."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return int((root / limit).read_text("ascii")), int((root / used).read_text("ascii"))
        except (OSError, ValueError):
            continue
    return 2**62, 0
