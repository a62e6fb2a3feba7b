"""What can be asked of Ray, and what is refused by name."""

import importlib.util

import pytest

from launch.engines import connect as connect_engine
from launch.engines.ray.engine import Settings
from scaling.specs.base import InputError
from scaling.store.store import Store

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("hosts=0", "hosts"),
        ("topology=4x4", "topology and accelerator belong together"),
        ('resources={"CPU": 2}', "CPU"),
        ("num_cpu=2", "did you mean 'num_cpus'?"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(option, says, tmp_path):
    with pytest.raises(InputError, match=says):
        connect_engine("ray", [option], Store(tmp_path))


def test_the_hosts_of_a_slice_cannot_be_given_besides_its_topology():
    with pytest.raises(ValueError, match="leave hosts out"):
        Settings(topology="4x4", accelerator="v6e", hosts=4)
