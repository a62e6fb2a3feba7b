"""How a job is run: what a mesh divides, and choices that are closed."""

import pytest

from scaling.specs.base import InputError, parse
from scaling.specs.execution import DEFAULT, Execution, MeshSpec


def test_a_mesh_has_the_devices_of_all_axes_and_divides_a_batch_along_two():
    mesh = MeshSpec(population=2, data=3, fsdp=5, tensor=7)
    assert mesh.num_devices == 2 * 3 * 5 * 7
    assert mesh.batch_shards == 3 * 5


def test_by_default_one_device_runs_one_cell():
    assert (DEFAULT, DEFAULT.mesh.num_devices, DEFAULT.population) == (Execution(), 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"remat": "some"}', 'remat="some"'),
        ('{"mesh": {"data": 0}}', "mesh.data=0: Input should be greater than 0"),
        ('{"mesh": {"fsdb": 2}}', "no field 'mesh.fsdb'; did you mean 'fsdp'"),
    ],
)
def test_what_a_job_cannot_be_run_with_is_named(text, message):
    with pytest.raises(InputError) as caught:
        parse(Execution, text, "execution.json")
    assert message in str(caught.value)
