"""What a machine is said to be able to do."""

import pytest
import torch

from helpers import machine


@pytest.mark.parametrize(
    "has, pays",
    [
        ({}, False),
        ({"avx512_bf16": False}, False),
        ({"bf16": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_bfloat16_pays_where_the_processor_has_its_instructions(monkeypatch, has, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert machine.bfloat16_pays() is pays
    assert not machine.bfloat16_pays("mps"), "another device is not judged by the processor"


def test_a_device_that_torch_does_not_know_is_said():
    with pytest.raises(ValueError, match='torch knows no device \'gpu0\'; say "cpu" or "cuda"'):
        machine.bfloat16_pays("gpu0")
