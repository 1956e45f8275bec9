"""The cards (GPUs, or MIG slices of them) that this process may see, as NVIDIA's driver tells it.

Called by devices. TensorFlow knows only what is free once it has taken a card, which is too late,
so the driver's own library (NVML) is asked, within a bound: a sick driver answers nobody.
"""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from serve.errors import RepositoryError

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU or a MIG slice: `total_bytes` can be had by programs, `free_bytes` are so now.

    `name` tells it from others of this machine, `product` is what the driver calls its kind.
    """

    name: str
    total_bytes: int
    free_bytes: int
    product: str = ""


def visible_cards(timeout_s: float = _TIMEOUT_S) -> list[Card]:
    """Return the cards in CUDA's order, those of CUDA_VISIBLE_DEVICES if it is set.

    Raises RepositoryError if the driver does not tell.
    """
    answer: list[list[Card] | Exception] = []
    asking = threading.Thread(
        target=lambda: answer.append(_answer(_read_cards)), name="nvml", daemon=True
    )
    asking.start()
    asking.join(timeout_s)
    told = answer[0] if answer else TimeoutError(f"no answer within {timeout_s:g} s")
    if isinstance(told, list):
        return told
    raise RepositoryError(
        f"the memory of the GPUs is unknown, NVIDIA's driver (NVML) does not tell it: {told}; "
        "mend the driver, or grant whole GPUs with num_gpus: 1"
    ) from told


def _answer(ask: Callable[[], list[Card]]) -> list[Card] | Exception:
    try:
        return ask()
    except Exception as err:  # NVML's many kinds, raised again by who waits for the answer
        return err


def _read_cards() -> list[Card]:
    import pynvml

    pynvml.nvmlInit()
    try:
        return [_card(pynvml, name, handle) for name, handle in _handles(pynvml)]
    finally:
        pynvml.nvmlShutdown()


def _card(nvml: Any, name: str, handle: Any) -> Card:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    product = nvml.nvmlDeviceGetName(handle)
    return Card(name, memory.total - memory.reserved, memory.free, product)


def _handles(nvml: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and handle of each card; as in CUDA, the first unknown one ends the list."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        wanted = ",".join(str(index) for index in range(nvml.nvmlDeviceGetCount()))
    for name in (part.strip() for part in wanted.split(",")):
        handle = _by_index(nvml, int(name)) if name.isdecimal() else _by_uuid(nvml, name)
        if handle is None:
            return
        yield f"GPU {name}" if name.isdecimal() else name, handle


def _by_index(nvml: Any, index: int) -> Any:
    """Return a card's handle, its first slice's if it is cut: programs get no more of it."""
    if index >= nvml.nvmlDeviceGetCount():
        return None
    card = nvml.nvmlDeviceGetHandleByIndex(index)
    return next(_slices(nvml, card), card)


def _slices(nvml: Any, card: Any) -> Iterator[Any]:
    """Yield the handles of a card's MIG slices, none if it is not cut."""
    try:
        mode, _ = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError_NotSupported:
        return
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)
        except nvml.NVMLError_NotFound:
            continue


def _by_uuid(nvml: Any, uuid: str) -> Any:
    """Return the handle of a card or slice by its UUID or the beginning of it, as CUDA does."""
    if not uuid.startswith(("GPU-", "MIG-")):
        return None
    cards = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if uuid.startswith("MIG-"):
        cards = [part for card in cards for part in _slices(nvml, card)]
    fitting = [card for card in cards if nvml.nvmlDeviceGetUUID(card).startswith(uuid)]
    return fitting[0] if len(fitting) == 1 else None
