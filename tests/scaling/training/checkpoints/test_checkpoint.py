"""A checkpoint is complete and unchanged, or it is not used; a kill at any moment leaves one that can be."""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import scaling.training.checkpoints.checkpoint
from scaling.specs.base import InputError
from scaling.training.checkpoints.checkpoint import Checkpoints, CheckpointWriteError, CorruptCheckpointError
from tests.places import ROOT

IDENTITY = {"job": "a1b2", "code": "7"}
WORKER = Path(__file__).with_name("checkpoint_worker.py")


def open_folder(folder, **options):
    return Checkpoints(epath.Path(folder), **{"identity": IDENTITY, **options})


def state(step):
    return {"weights": jnp.full((64, 128), step, jnp.float32), "counts": jnp.arange(5) + step}


def save_steps(folder, *steps, **options):
    with open_folder(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"step": step})


def restore(folder, like=None, **options):
    with open_folder(folder, **options) as checkpoints:
        return checkpoints.restore(state(0) if like is None else like)


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_good(restored, step):
    assert restored.step == step and restored.facts == {"step": step}
    assert_equal_trees(restored.arrays, state(step))


def files_of(folder, step):
    return sorted(path for path in (Path(folder) / f"{step:010d}").rglob("*") if path.is_file())


# --- what goes in comes out -----------------------------------------------------------------------------------------


class State(NamedTuple):
    """As trainers have them."""

    step: jax.Array
    variables: dict
    optimizer: tuple


def test_every_kind_of_leaf_and_tree_comes_back_as_it_was(tmp_path):
    params = {"a/b": {"": jnp.ones((2, 3), jnp.bfloat16) / 3}, "..": [jnp.uint32(7), jnp.float32(0.1)], "none": None}
    optimizer = optax.adamw(1e-3).init(params)
    tree = {
        "state": State(jnp.int32(5), {"params": params, "state": {}}, optimizer),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 3),
        "empty": jnp.zeros((0, 3)),
        "flags": jnp.array([True, False]),
        "numpy": np.arange(3, dtype=np.int64),
        "number": 3,
        "rate": 0.25,
    }
    with open_folder(tmp_path) as checkpoints:
        checkpoints.save(5, tree, {"losses": [0.1, None], "position": 2**60})
        restored = checkpoints.restore(tree)
    plain = jax.tree.map(lambda x: jax.random.key_data(x) if x is tree["key"] or x is tree["keys"] else x, tree)
    found = {**restored.arrays, "key": jax.random.key_data(restored.arrays["key"])}
    found["keys"] = jax.random.key_data(found["keys"])
    assert_equal_trees(found, plain)
    jax.tree.map(
        lambda one, other: np.testing.assert_equal(np.asarray(one).dtype, np.asarray(other).dtype), found, plain
    )
    assert restored.arrays["keys"].dtype == tree["keys"].dtype
    assert type(restored.arrays["number"]) is int and type(restored.arrays["numpy"]) is np.ndarray
    assert restored.facts == {"losses": [0.1, None], "position": 2**60} and restored.passed_over == ()


def test_the_files_depend_on_no_python_class(tmp_path):
    with open_folder(tmp_path) as checkpoints:
        checkpoints.save(1, State(jnp.int32(5), {"w": jnp.ones(2)}, (jnp.zeros(1),)), {})
        like = {"step": jnp.int32(0), "variables": {"w": jnp.zeros(2)}, "optimizer": [jnp.ones(1)]}
        restored = checkpoints.restore(like)
    assert_equal_trees(
        restored.arrays, {"step": np.int32(5), "variables": {"w": np.ones(2)}, "optimizer": [np.zeros(1)]}
    )


def test_arrays_come_back_on_the_devices_that_are_asked_for(tmp_path):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    save_steps(tmp_path, 1)
    shapes = jax.eval_shape(lambda: state(0))
    rows = NamedSharding(mesh, P("data"))
    like = {**shapes, "weights": jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=rows)}
    restored = restore(tmp_path, like)
    assert restored.arrays["weights"].sharding == rows
    assert restored.arrays["counts"].devices() == {jax.devices()[0]}
    assert_good(restored, 1)


def test_buffers_may_be_donated_or_changed_as_soon_as_save_returns(tmp_path):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    make = jax.jit(lambda step: {str(i): jnp.full((256, 1024), step + i, jnp.float32) for i in range(8)})
    host = np.zeros(2**18)
    with open_folder(tmp_path) as checkpoints:
        for step in range(1, 6):
            arrays = make(step)
            host[:] = step
            checkpoints.save(step, {"device": arrays, "host": host}, {})
            arrays = spoil(arrays)
            host[:] = -1
            restored = checkpoints.restore({"device": arrays, "host": host})
            assert_equal_trees(restored.arrays, {"device": make(step), "host": np.full(2**18, float(step))})


def test_facts_are_those_of_the_moment_of_the_save(tmp_path):
    history = [1]
    with open_folder(tmp_path) as checkpoints:
        checkpoints.save(1, state(1), {"history": history})
        history.append(2)
        assert checkpoints.restore(state(0)).facts == {"history": [1]}


def test_a_folder_without_checkpoints_gives_none(tmp_path):
    assert restore(tmp_path / "missing") is None


# --- saving in the background ---------------------------------------------------------------------------------------


def test_save_returns_before_the_files_are_hashed_and_the_next_one_waits(tmp_path, monkeypatch):
    may_go, hashing = threading.Event(), scaling.training.checkpoints.checkpoint.prove_files

    def hash_later(folder):
        assert may_go.wait(30)
        return hashing(folder)

    monkeypatch.setattr(scaling.training.checkpoints.checkpoint, "prove_files", hash_later)
    with open_folder(tmp_path) as checkpoints:
        checkpoints.save(1, state(1), {"step": 1})
        assert not (tmp_path / "0000000001" / "manifest.json").exists()
        threading.Timer(0.2, may_go.set).start()
        checkpoints.save(2, state(2), {"step": 2})
        assert (tmp_path / "0000000001" / "manifest.json").exists()
    assert_good(restore(tmp_path), 2)


@contextlib.contextmanager
def files_limited_to(size):
    """Files cannot grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# After a write failed, TensorStore may answer for another one to an event loop that Orbax has closed.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_in_one_line_and_costs_no_earlier_checkpoint(tmp_path, capfd):
    large = {**state(2), "noise": jax.random.normal(jax.random.key(0), (2**20,))}
    with open_folder(tmp_path) as checkpoints:
        checkpoints.save(1, state(1), {"step": 1})
        checkpoints.wait()
        with files_limited_to(2**20):
            checkpoints.save(2, large, {"step": 2})
            with pytest.raises(CheckpointWriteError, match=r"of step 2 in .* could not be written .*free some space"):
                checkpoints.wait()
        # What TensorStore still writes after the failure may stay in the folder; it is no checkpoint.
        assert not (tmp_path / "0000000002" / "manifest.json").exists()
        assert_good(checkpoints.restore(state(0)), 1)
        checkpoints.save(2, state(2), {"step": 2})
        assert_good(checkpoints.restore(state(0)), 2)
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointWriteError, match="could not be written"),
        open_folder(tmp_path / "file" / "x") as opened,
    ):
        opened.save(1, state(1), {})


def test_only_the_newest_are_kept_and_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "12").mkdir()
    save_steps(tmp_path, 1, 2, 3, 10, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("0000000002", "0000000003", "0000000010", "12", "notes.txt"),
    ]


@pytest.mark.parametrize("left", ["0000000009", "0000000009/arrays.orbax-checkpoint-tmp"])
def test_what_a_kill_left_is_no_checkpoint_and_is_removed_at_the_next_opening(tmp_path, left):
    save_steps(tmp_path, 1)
    (tmp_path / left).mkdir(parents=True)
    (tmp_path / left / ".manifest.json.1234.tmp").write_text("{")
    assert_good(restore(tmp_path), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]


def test_a_kill_within_a_deletion_leaves_nothing_that_looks_like_a_checkpoint(tmp_path, monkeypatch):
    removed = []
    with open_folder(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state(1), {"step": 1})
        checkpoints.wait()
        monkeypatch.setattr(type(epath.Path(tmp_path)), "rmtree", lambda path: removed.append(path.name))
        checkpoints.save(2, state(2), {"step": 2})
    assert removed == ["0000000001"] and len(files_of(tmp_path, 1)) > 3
    monkeypatch.undo()
    for path in files_of(tmp_path, 2):
        path.unlink()
    assert restore(tmp_path) is None


# --- damage ---------------------------------------------------------------------------------------------------------


def test_one_flipped_bit_in_any_file_is_seen_and_the_one_before_is_used(tmp_path):
    save_steps(tmp_path, 1, 2)
    chance = random.Random(0)
    files = files_of(tmp_path, 2)
    assert len(files) > 5
    for path in files:
        good = path.read_bytes()
        bit = chance.randrange(8 * len(good))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        restored = restore(tmp_path)
        assert_good(restored, 1)
        name = path.relative_to(tmp_path / "0000000002").as_posix().removeprefix("arrays/")
        assert restored.passed_over == (f"step 2 is damaged: {name} has other bytes than were written",)
        path.write_bytes(good)
    assert_good(restore(tmp_path), 2)


def test_a_file_cut_off_or_missing_is_seen(tmp_path):
    save_steps(tmp_path, 1, 2)
    for path in files_of(tmp_path, 2):
        good = path.read_bytes()
        path.write_bytes(good[:-1])
        restored = restore(tmp_path)
        assert_good(restored, 1)
        assert len(restored.passed_over) == 1
        if path.name != "manifest.json":  # without, it is no checkpoint
            path.unlink()
            restored = restore(tmp_path)
            assert_good(restored, 1)
            assert "is missing" in restored.passed_over[0]
        path.write_bytes(good)
    assert_good(restore(tmp_path), 2)


def test_a_checkpoint_under_another_steps_name_is_seen(tmp_path):
    save_steps(tmp_path, 1)
    (tmp_path / "0000000001").rename(tmp_path / "0000000004")
    with pytest.raises(CorruptCheckpointError, match=r"step 4: manifest\.json is of step 1"):
        restore(tmp_path)


def test_training_never_starts_anew_without_a_word_when_all_checkpoints_are_damaged(tmp_path):
    save_steps(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"{step:010d}" / "arrays" / "_METADATA").write_text("x")
    with pytest.raises(
        CorruptCheckpointError, match=r"step 2: _METADATA has 1 bytes.*step 1: .*delete it to train from"
    ):
        restore(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_fell_back_saves_the_damaged_steps_anew(tmp_path):
    save_steps(tmp_path, 1, 2, 3, keep=3)
    for step in (2, 3):
        (tmp_path / f"{step:010d}" / "manifest.json").write_text("{}")
    with open_folder(tmp_path) as checkpoints:
        restored = checkpoints.restore(state(0))
        assert_good(restored, 1)
        assert [line[:17] for line in restored.passed_over] == ["step 3 is damaged", "step 2 is damaged"]
        assert len(list(tmp_path.iterdir())) == 3, "reading removes nothing"
        checkpoints.save(2, state(2), {"step": 2})
        assert_good(checkpoints.restore(state(0)), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000001", "0000000002"]


# --- refused --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_identity_is_refused(tmp_path):
    save_steps(tmp_path, 1)
    with pytest.raises(InputError, match=r"is of code='7', not '8'; .*delete the folder"):
        restore(tmp_path, identity={**IDENTITY, "code": "8"})
    with pytest.raises(InputError, match=r"is of mesh=None, not '2x2'"):
        restore(tmp_path, identity={**IDENTITY, "mesh": "2x2"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": jnp.zeros(2)}, r"holds nothing as 'more', where float32\[2\] is wanted"),
        ({"counts": None}, r"holds int32\[5\] as 'counts', where nothing is wanted"),
        (
            {"weights": jnp.zeros((64, 127))},
            r"holds float32\[64, 128\] as 'weights', where float32\[64, 127\] is wanted",
        ),
        ({"counts": jnp.zeros(5)}, r"holds int32\[5\] as 'counts', where float32\[5\] is wanted"),
    ],
)
def test_a_leaf_that_differs_is_named(tmp_path, change, message):
    save_steps(tmp_path, 1)
    with pytest.raises(InputError, match=message):
        restore(tmp_path, {**state(0), **change})


def test_a_step_that_is_not_new_is_refused(tmp_path):
    save_steps(tmp_path, 5)
    with (
        open_folder(tmp_path) as checkpoints,
        pytest.raises(InputError, match=r"step=5 is not beyond the newest checkpoint .* of step 5; restore it first"),
    ):
        checkpoints.save(5, state(5), {})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"loss": float("nan")}, "cannot be kept as JSON"),
        ({"a": (1, 2)}, "lists for tuples"),
        ({1: 2}, "keys as texts"),
    ],
)
def test_facts_that_json_would_change_are_refused(tmp_path, facts, message):
    with open_folder(tmp_path) as checkpoints, pytest.raises(InputError, match=message):
        checkpoints.save(1, state(1), facts)


def test_leaves_that_are_no_arrays_and_paths_that_meet_are_refused(tmp_path):
    with open_folder(tmp_path) as checkpoints:
        with pytest.raises(InputError, match=r"arrays\['name'\]='x' is neither array nor number"):
            checkpoints.save(1, {"name": "x"}, {})
        with pytest.raises(InputError, match="two leaves at the path 'a/b'"):
            checkpoints.save(1, {"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)}, {})
    with pytest.raises(InputError, match="keep=0 must be at least 1"):
        open_folder(tmp_path, keep=0)


# --- other processes ------------------------------------------------------------------------------------------------


def start_worker(*words, devices=1):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", WORKER, *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_on_mesh(action, folder, mesh, num_processes, devices):
    """Returns what each of several processes with so many devices each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        start_worker(action, folder, mesh, *([address, num_processes, i] if num_processes > 1 else []), devices=devices)
        for i in range(num_processes)
    ]
    said = [process.communicate(timeout=180) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors
        assert not without_gloo(errors), "Orbax is quiet"
    return [without_gloo(out) for out, _ in said]


def without_gloo(text):
    """Returns a text without what JAX's CPU collectives say of their connections."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("[Gloo]"))


def kill_and_restore(folder, num_kills, seed):
    """Returns how many kills left an unfinished save; every one must leave a good checkpoint that is no older."""
    chance, newest, unfinished = random.Random(seed), 0, 0
    folder.mkdir(exist_ok=True)
    for _ in range(num_kills):
        with start_worker("endless", folder, chance.choice([0, 0, 0.05])) as process:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(chance.uniform(0.02, 0.7))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "it was still at work"
        unfinished += any(not (path / "manifest.json").exists() for path in folder.iterdir())
        like = {"weights": np.zeros((64, 4096), np.float32), "small": [np.zeros(3, np.float32) for _ in range(5)]}
        with open_folder(folder, identity={"job": "kill", "code": "1"}) as checkpoints:
            restored = checkpoints.restore(like)
        if restored is None:
            assert newest == 0
            continue
        assert restored.step >= newest and restored.passed_over == () and restored.facts == {"step": restored.step}
        newest = restored.step
        assert (restored.arrays["weights"] == newest).all()
        assert all((small == newest + i).all() for i, small in enumerate(restored.arrays["small"]))
        assert len(list(folder.iterdir())) <= 3  # the new one may be published and the oldest not yet removed
    assert newest > 0
    return unfinished


def test_a_kill_at_any_moment_leaves_a_good_checkpoint(tmp_path):
    kill_and_restore(tmp_path, num_kills=3, seed=0)


@pytest.mark.slow
def test_35_kills_leave_35_good_checkpoints(tmp_path):
    assert kill_and_restore(tmp_path, num_kills=35, seed=1) >= 5, "kills hit saves"


def test_two_processes_save_and_another_mesh_restores(tmp_path):
    run_on_mesh("save", tmp_path, "2x2", num_processes=2, devices=2)
    damaged = sorted((tmp_path / "0000000002" / "arrays" / "ocdbt.process_1" / "d").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    (said,) = run_on_mesh("restore", tmp_path, "1x2", num_processes=1, devices=2)
    assert said.startswith("restored 1 {'mesh': [2, 2]} ('step 2 is damaged: ocdbt.process_1/")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saved", "restored"),
    [
        (("2x2", 2, 2), ("4x1", 4, 1)),
        (("2x2", 2, 2), ("1x4", 1, 4)),
        (("1x4", 4, 1), ("2x2", 2, 2)),
        (("4x1", 1, 4), ("2x2", 2, 2)),
        (("1x1", 1, 1), ("4x1", 4, 1)),
    ],
)
def test_a_checkpoint_moves_between_numbers_of_processes_and_meshes(tmp_path, saved, restored):
    run_on_mesh("save", tmp_path, *saved)
    (tmp_path / "0000000002" / "arrays" / "manifest.ocdbt").unlink()
    said = run_on_mesh("restore", tmp_path, *restored)
    assert len(said) == restored[1] and len(set(said)) == 1, "all processes take the same"
    assert said[0].startswith("restored 1 ") and "manifest.ocdbt is missing" in said[0]


def test_the_manifest_is_for_people_too(tmp_path):
    save_steps(tmp_path, 1)
    content = json.loads((tmp_path / "0000000001" / "manifest.json").read_text())["content"]
    assert content["leaves"]["weights"] == {"shape": [64, 128], "dtype": "float32", "key_kind": None}
    assert content["identity"] == IDENTITY and content["step"] == 1
