"""What the reader's machine can do, and its memory.

from helpers import machine
machine.device()           # "cuda" or "cpu"
machine.bfloat16_pays()    # whether to train in bfloat16
machine.free_memory()      # after a large model was let go of
"""

import ctypes
import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device() -> str:
    """ "cuda" where there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def bfloat16_pays(device: "str | torch.device" = "cpu") -> bool:
    """Whether the device has instructions for bfloat16 (16 bits, 8 of them for the digits).

    True for a CUDA GPU and an x86 processor that have them (tests/benchmarks/test_training_speed.py
    measures what they bring); False for all others, where it would be imitated. Raises ValueError
    for a device that torch does not know.
    """
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise ValueError(f'torch knows no device {device!r}; say "cpu" or "cuda"') from e
    if kind != "cpu":
        return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def free_memory() -> None:
    """Give memory that was let go of back to the system; glibc keeps much of it otherwise."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
