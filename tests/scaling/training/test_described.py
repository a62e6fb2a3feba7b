"""Claims about training steps compiled for devices that are not here."""

import json
from typing import Any

import jax
import pytest

from scaling.devices.topology import has_libtpu, parse_topology
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec
from scaling.specs.models import MLPSpec, TransformerSpec
from scaling.specs.task import image_task, token_task
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training.described import compile_training

needs_libtpu = pytest.mark.skipif(not has_libtpu(), reason="needs libtpu")
TRAINING = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), batch_size=16, num_steps=10)
MLP, IMAGES = MLPSpec(width=64, depth=2), image_task(8, 10)


@pytest.mark.slow  # `scaling plan` does so in its own tests
def test_a_step_compiles_for_more_devices_than_there_are() -> None:
    assert len(jax.devices()) < 4
    found = compile_training(parse_topology("h100-4"), MLP, IMAGES, TRAINING, Execution(mesh=MeshSpec(data=4)))
    num_params = 192 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert (found["num_devices"], found["compiler"], found["fits"]) == (4, "cpu", True)
    assert found["state_bytes"]["params"] == 4 * num_params
    assert found["left_whole"] == []
    (collective,) = found["collectives"]
    assert collective["kind"] == "all-reduce"
    assert 4 * num_params < collective["bytes"] < 4 * num_params + 64
    state = found["state_bytes"]["params"] + found["state_bytes"]["moments"]
    assert found["memory"]["alias"] == pytest.approx(state, abs=64)
    assert state < found["memory"]["argument"] < found["memory"]["peak"] < found["device_bytes"]
    json.dumps(found)


def test_a_batch_that_the_mesh_does_not_divide_is_refused_as_it_would_be_there() -> None:
    with pytest.raises(InputError, match=r"^training\.batch_size=16 cannot be divided by data \* fsdp = 3; choose 15"):
        compile_training(parse_topology("cpu-3"), MLP, IMAGES, TRAINING, Execution(mesh=MeshSpec(data=3)))


def compile_decoder(name: str, mesh: MeshSpec, **fields: Any) -> dict[str, Any]:
    model = TransformerSpec(**({"width": 128, "depth": 1} | fields))
    return compile_training(parse_topology(name), model, token_task(256, 64), TRAINING, Execution(mesh=mesh))


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(
    ("name", "kind"), [("v5e-4", "TPU v5 lite"), ("v4-8", "TPU v4"), ("v5p-8", "TPU v5"), ("v5e-1", "TPU v5 lite")]
)
def test_a_tpus_own_compiler_needs_no_tpu(name: str, kind: str) -> None:
    devices = parse_topology(name).num_devices
    found = compile_decoder(name, MeshSpec(data=devices))
    assert (found["compiler"], found["device_kind"], found["num_devices"]) == ("tpu", kind, devices)
    assert {each["kind"] for each in found["collectives"]} == ({"all-reduce"} if devices > 1 else set())


@pytest.mark.slow
@needs_libtpu
def test_a_program_too_large_for_a_tpu_is_refused_with_its_memory() -> None:
    with pytest.raises(InputError, match=r"the program does not fit on its devices: .*15\.75G.*; choose more devices"):
        compile_decoder("v5e-4", MeshSpec(data=4), width=16384, depth=2)
