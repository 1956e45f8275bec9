"""The kind of hardware that engines compute on: what a verdict holds for, and what it does not.

Libraries choose their kernels by the processor's instructions, so numbers and figures of one
processor say little about another that has others. Called by trials and loading.
"""

import hashlib
import platform
from functools import cache
from pathlib import Path

from serve.engines.cards import visible_cards
from serve.errors import RepositoryError

_CPUINFO = Path("/proc/cpuinfo")

# The instructions by which oneDNN, OpenVINO and ONNX Runtime choose kernels; later ones go with
# earlier ones, so the name has the last of each family.
_FAMILIES = (
    ("sse4_1", "sse4_2"),
    ("avx", "avx2"),
    ("fma",),
    ("avx512f", "avx512bw", "avx512_vnni"),
    ("avx_vnni",),
    ("avx512_bf16",),
    ("avx512_fp16",),
    ("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),  # ARM's
)


def hardware(num_gpus: float) -> str:
    """Return a name for what a replica computes on: its processor's instructions, and its cards."""
    if not num_gpus:
        return _processor()
    try:
        cards = sorted({card.product for card in visible_cards()})
    except RepositoryError:
        cards = []
    return f"{_processor()} with {', '.join(cards) or 'an unknown GPU'}"


def folder_of(name: str) -> str:
    """Return a folder's name for a kind of hardware."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


@cache
def _processor() -> str:
    known = _flags()
    found = [[flag for flag in family if flag in known] for family in _FAMILIES]
    instructions = "+".join(flags[-1] for flags in found if flags)
    return f"{platform.machine()} {instructions}".strip()


def _flags() -> set[str]:
    """Return the instructions of the first processor, none where the system does not tell."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())
