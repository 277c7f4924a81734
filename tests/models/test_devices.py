from __future__ import annotations

import pytest
import torch

from analysis.errors import BackboneError
from analysis.models.devices import (
    available_devices,
    choose_device,
    choose_dtype,
    cuda_or_cpu,
    free_memory,
    is_out_of_memory,
)


def test_a_cpu_is_always_there_and_auto_takes_the_best():
    names = available_devices()
    assert names[-1] == "cpu"
    assert str(choose_device("auto")) == names[0]


def test_cuda_without_a_number_is_the_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert available_devices()[:2] == ["cuda:0", "cuda:1"]
    assert str(choose_device("cuda")) == str(choose_device("auto")) == "cuda:0"
    with pytest.raises(BackboneError, match="'cuda:2' does not exist here; expected auto or one of cuda:0, cuda:1"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cuda:1", True, "cuda:1"),
        ("mps", False, "cpu"),
        ("cpu", True, "cpu"),
    ],
)
def test_plain_arithmetic_is_done_on_cuda_or_the_cpu(monkeypatch, name, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert cuda_or_cpu(name) == expected


def test_a_cpu_computes_in_float32_unless_told_otherwise():
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert choose_dtype(None, "bfloat16", cpu) == torch.float32
    assert choose_dtype(None, "bfloat16", gpu) == torch.bfloat16
    assert choose_dtype("float16", "bfloat16", cpu) == torch.float16
    with pytest.raises(BackboneError, match="'fp16' is not known; expected one of float32"):
        choose_dtype("fp16", "bfloat16", cpu)


def test_free_memory_of_a_cpu_is_a_plausible_number():
    free = free_memory(torch.device("cpu"))
    assert free is None or 10**6 < free < 10**14


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected
