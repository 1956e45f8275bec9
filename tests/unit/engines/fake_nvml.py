"""NVIDIA's driver library with made-up cards, in place of pynvml."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml

GIB = 2**30


@dataclass
class FakeCard:
    """A card, or a slice of one; `slices` makes it a card that is cut by MIG."""

    uuid: str
    total: int
    free: int | None = None
    reserved: int = 0
    slices: list["FakeCard | None"] = field(default_factory=list)
    product: str = ""


class FakeNvml:
    """What serve asks of pynvml; a `None` among the slices is a place without one."""

    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, *cards):
        self.cards = cards
        self.open = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetName(self, card):
        return card.product

    def nvmlDeviceGetUUID(self, card):
        return card.uuid

    def nvmlDeviceGetMigMode(self, card):
        if not card.slices:
            raise self.NVMLError_NotSupported()
        return (self.NVML_DEVICE_MIG_ENABLE, self.NVML_DEVICE_MIG_ENABLE)

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        return len(card.slices)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):
        if card.slices[index] is None:
            raise self.NVMLError_NotFound()
        return card.slices[index]

    def nvmlDeviceGetMemoryInfo(self, card, version):
        assert version == self.nvmlMemory_v2
        free = card.total - card.reserved if card.free is None else card.free
        return SimpleNamespace(total=card.total, reserved=card.reserved, free=free)
