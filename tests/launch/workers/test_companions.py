"""Processes that train together: a process alone joins nobody, and each must have a part in the work."""

import jax
import pytest

from launch.workers import companions
from launch.workers.companions import ALONE, Companions, check_mesh, join_companions
from scaling.specs.base import InputError
from scaling.specs.execution import Execution, MeshSpec


@pytest.fixture
def joined(monkeypatch) -> list[tuple]:
    """What was asked of JAX in place of joining."""
    asked: list[tuple] = []
    monkeypatch.setattr(companions, "join", lambda *known: asked.append(known))
    return asked


def test_a_process_that_knows_of_no_other_joins_nobody_and_writes(joined):
    assert join_companions(Companions()) == ALONE == (True, 1)
    assert joined == []


@pytest.mark.parametrize(
    ("known", "words"),
    [(Companions("host:1", 1, 0), ""), (Companions(is_distributed=True), "JAX finds one process alone"),
     (Companions(process_id=0), "JAX finds one process alone")],
)  # fmt: skip
def test_a_process_that_knows_anything_joins_and_says_where_jax_finds_nobody(joined, capsys, known, words):
    assert join_companions(known) == (True, 1)
    assert joined == [known[:3]]
    assert words in capsys.readouterr().err


def test_a_mesh_that_leaves_devices_of_other_processes_idle_is_refused():
    there = jax.device_count()
    check_mesh(Execution(mesh=MeshSpec(data=there)), 2)
    check_mesh(Execution(), 1)  # alone, it may leave some
    with pytest.raises(InputError, match=f"mesh takes {2 * there} of the {there} .* for example mesh.data={there}"):
        check_mesh(Execution(mesh=MeshSpec(data=2 * there)), 2)
