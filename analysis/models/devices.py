"""Devices and number formats by name, and how out-of-memory looks. torch is imported inside the functions."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from analysis.errors import BackboneError

if TYPE_CHECKING:
    import torch

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a number


def available_devices() -> list[str]:
    """Names of the devices of this machine, the best first: "cuda:0", ..., "mps", "cpu"."""
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(name: str) -> torch.device:
    """`name` as a device that exists; "auto" takes the best. Raises BackboneError naming the devices that exist."""
    import torch

    names = available_devices()
    if name == "auto":
        return torch.device(names[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in names:
        raise BackboneError(f"Device {name!r} does not exist here; expected auto or one of {', '.join(names)}.")
    return torch.device(wanted)


def cuda_or_cpu(name: str) -> str:
    """Where a build with this device does its plain arithmetic, SAE training and the products of retrieval: on the CUDA GPU
    that `name` means, else on the CPU (other accelerators lack float64)."""
    import torch

    if name == "auto" and torch.cuda.is_available():
        return "cuda"
    return name if name.startswith("cuda") else "cpu"


def choose_dtype(name: str | None, default: str, device: torch.device) -> torch.dtype:
    """`name`, or the backbone's own dtype on an accelerator and float32 on a CPU, which is slower in half precision.
    Raises BackboneError for an unknown name."""
    import torch

    chosen = name or ("float32" if device.type == "cpu" else default)
    check_dtype(chosen)
    return getattr(torch, chosen)


def check_dtype(name: str) -> str:
    """`name` if it is a known number format, else BackboneError."""
    if name not in DTYPES:
        raise BackboneError(f"Number format {name!r} is not known; expected one of {', '.join(DTYPES)}.")
    return name


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated now, or None where nobody can tell."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    import psutil

    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python means that memory ran out."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    signs = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def release_memory(device: torch.device) -> None:
    """Hand cached blocks back to the device after a model or a failed batch is gone."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
