"""Claims about TensorBoard's files: scalars of both forms and hyper-parameters are read; torn ends are passed over."""

import os
import struct

import pytest

from launch.imports.tensorboard import TensorBoardRuns, read_events
from scaling.specs.base import InputError

pytest.importorskip("tensorboardX")

from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.record_writer import masked_crc32c


def scalar(tag, step, value, form="simple"):
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    tensors = {
        "floats": TensorProto(dtype=1, float_val=[value]),
        "bytes": TensorProto(dtype=1, tensor_content=struct.pack("<f", value)),
        "doubles": TensorProto(dtype=2, double_val=[value]),
    }
    if form == "simple":
        held = Summary.Value(tag=tag, simple_value=value)
    else:
        held = Summary.Value(tag=tag, tensor=tensors[form], metadata=plugin)
    return Event(wall_time=1000.0 + step, step=step, summary=Summary(value=[held]))


def hparams(**values):
    data = HParamsPluginData()
    for name, value in values.items():
        kind = "string_value" if isinstance(value, str) else "number_value"
        setattr(data.session_start_info.hparams[name], kind, value)
    return plugin_event(data)


def ended(status):
    data = HParamsPluginData()
    data.session_end_info.status = status
    return plugin_event(data)


def plugin_event(data):
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    value = Summary.Value(tag="_hparams_/x", metadata=SummaryMetadata(plugin_data=plugin))
    return Event(wall_time=1000.0, summary=Summary(value=[value]))


def write(path, *events, head=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for event in [Event(file_version="brain.Event:2")] * head + list(events):
            content = event.SerializeToString()
            length = struct.pack("<Q", len(content))
            crcs = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
            file.write(length + crcs[0] + content + crcs[1])
    return path


def read(path):
    source = TensorBoardRuns(str(path))
    return {listed.id: source.fetch(listed) for listed in source.list_runs()}


@pytest.mark.parametrize("form", ["simple", "floats", "bytes", "doubles"])
def test_scalars_become_rows_by_step(tmp_path, form):
    events = [scalar("loss", step, 3.0 - step, form) for step in range(3)]
    write(tmp_path / "a" / "b" / "events.out.tfevents.1", *events, scalar("eval/loss", 2, 0.5, form))
    run, history = read(tmp_path)["a/b"]
    assert history.to_pydict() == {
        "_step": [0, 1, 2], "_timestamp": [1000, 1001, 1002], "_runtime": [0, 1, 2], "loss": [3, 2, 1],
        "eval/loss": [None, None, 0.5],
    }  # fmt: skip
    assert (run.summary, run.run["group"], run.state) == ({"loss": 1.0, "eval/loss": 0.5}, "a", None)


def test_hyper_parameters_and_the_end_are_the_runs(tmp_path):
    events = [hparams(lr=0.1, arch="mlp"), scalar("loss", 1, 2.0), ended(2)]
    write(tmp_path / "a" / "events.out.tfevents.1", *events)
    run, _ = read(tmp_path)["a"]
    assert (run.config, run.state) == ({"lr": 0.1, "arch": "mlp"}, "failure")


def test_hyper_parameters_that_pytorch_puts_in_a_folder_below_are_the_runs(tmp_path):
    write(tmp_path / "a" / "events.out.tfevents.1", scalar("loss", 1, 2.0))
    write(tmp_path / "a" / "1700000000.1" / "events.out.tfevents.2", hparams(lr=0.1), scalar("hparam/loss", 0, 1.5))
    write(tmp_path / "b" / "events.out.tfevents.1", scalar("loss", 1, 2.0))
    found = read(tmp_path)
    assert set(found) == {"a", "b"}
    run, history = found["a"]
    assert (run.config, run.summary) == ({"lr": 0.1}, {"loss": 2.0, "hparam/loss": 1.5})
    assert history["_step"].to_pylist() == [1]
    assert found["b"][0].config == {}


def test_a_resumed_run_has_no_doubled_steps(tmp_path):
    write(tmp_path / "events.out.tfevents.1", *[scalar("loss", step, 1.0) for step in range(5)])
    write(tmp_path / "events.out.tfevents.2", *[scalar("loss", step, 2.0) for step in range(3, 8)])
    ((run, history),) = read(tmp_path).values()
    assert history["_step"].to_pylist() == list(range(8))
    assert history["loss"].to_pylist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert run.notices == ("2 values were logged again at the same step; the later ones are kept",)


FIRST, AGAIN, WHOLE = range(0, 1001, 100), range(500, 801, 100), list(range(0, 801, 100))


def log(folder, steps, began, tags=("loss",), **more):
    """Writes a file as the real writer does; a value is what the writer's beginning was, a second is a row."""
    with SummaryWriter(str(folder), write_to_disk=True, filename_suffix=f".{began}", **more) as writer:
        for i, step in enumerate(steps):
            for tag in tags:
                writer.add_scalar(tag, float(began), step, walltime=1e9 + began + i)


@pytest.mark.parametrize("purge_step", [500, None])
def test_a_run_that_was_resumed_earlier_ends_where_it_ended(tmp_path, purge_step):
    log(tmp_path, FIRST, 0, ("loss", "lr"))
    log(tmp_path, AGAIN, 100, ("loss", "lr"), purge_step=purge_step)
    ((run, history),) = read(tmp_path).values()
    assert history["_step"].to_pylist() == WHOLE
    assert history["loss"].to_pylist() == history["lr"].to_pylist() == [0.0] * 5 + [100.0] * 4
    assert run.summary == {"loss": 100.0, "lr": 100.0}
    assert run.notices == (
        "8 values were logged again at the same step; the later ones are kept",
        "4 values of an abandoned attempt, at or after the step of a restart, are superseded and left out",
    )


@pytest.mark.parametrize("purge_step", [500, None])
def test_a_tag_that_the_resumed_run_has_not_logged_yet_ends_before_the_restart(tmp_path, purge_step):
    log(tmp_path, FIRST, 0, ("loss", "eval"))
    log(tmp_path, AGAIN, 100, purge_step=purge_step)
    ((_, history),) = read(tmp_path).values()
    assert history["eval"].to_pylist() == [0.0] * 5 + [None] * 4


def test_a_start_of_a_session_purges_in_one_file_too(tmp_path):
    start = Event(wall_time=3000, step=500, session_log=SessionLog(status=SessionLog.START))
    first, again = ([scalar("loss", step, value) for step in steps] for steps, value in ((FIRST, 1.0), ([600], 2.0)))
    write(tmp_path / "events.out.tfevents.1", *first, start, *again)
    ((run, history),) = read(tmp_path).values()
    assert history["_step"].to_pylist() == [0, 100, 200, 300, 400, 600]
    assert run.summary == {"loss": 2.0}


def test_a_later_file_restarts_its_tags_whatever_their_steps(tmp_path):
    write(tmp_path / "events.out.tfevents.9", *[scalar("loss", step, 1.0) for step in FIRST])
    write(tmp_path / "events.out.tfevents.10", *[scalar("loss", step, 2.0) for step in range(550, 2000, 100)])
    ((_, history),) = read(tmp_path).values()
    assert history["_step"].to_pylist() == [*range(0, 501, 100), *range(550, 2000, 100)]


def test_files_are_read_in_the_order_of_their_beginning_whatever_their_names(tmp_path):
    log(tmp_path, AGAIN, 100)
    log(tmp_path, FIRST, 0)
    later, first = sorted(tmp_path.iterdir(), key=lambda path: path.name.endswith(".0"))
    for path, began, name in ((first, 1e9, "events.out.tfevents.z"), (later, 2e9, "events.out.tfevents.a")):
        events = list(read_events(path, []))
        events[0].wall_time = began
        path.unlink()
        write(tmp_path / name, *events, head=False)
    ((run, history),) = read(tmp_path).values()
    assert (history["_step"].to_pylist(), run.summary) == (WHOLE, {"loss": 100.0})


def test_two_writers_at_once_and_tags_that_count_epochs_supersede_nothing(tmp_path):
    log(tmp_path, FIRST, 0)
    log(tmp_path, range(0, 1001, 500), 1, ("eval",))
    log(tmp_path, range(5), 2, ("epoch_loss",))
    ((run, history),) = read(tmp_path).values()
    assert run.notices == ()
    assert history["_step"].to_pylist() == [0, 1, 2, 3, 4, *range(100, 1001, 100)]
    assert run.summary == {"loss": 0.0, "eval": 1.0, "epoch_loss": 2.0}


def test_of_two_writers_at_once_that_share_a_tag_the_other_tags_are_left_alone(tmp_path):
    log(tmp_path, FIRST, 0, ("lr", "loss"))
    log(tmp_path, range(0, 701, 100), 3, ("lr",))
    ((run, history),) = read(tmp_path).values()
    assert history["loss"].to_pylist() == [0.0] * 11
    assert run.notices[0] == "8 values were logged again at the same step; the later ones are kept"


@pytest.mark.parametrize("damage", ["torn", "zeros"])
def test_a_torn_end_is_passed_over_and_said(tmp_path, damage):
    path = write(tmp_path / "events.out.tfevents.1", *[scalar("loss", step, 1.0) for step in range(5)])
    content = path.read_bytes()
    path.write_bytes(content[:-7] if damage == "torn" else content + b"\0" * 100)
    ((run, history),) = read(tmp_path).values()
    assert history.num_rows == (4 if damage == "torn" else 5)
    assert run.notices[0].endswith("bytes of events.out.tfevents.1 are torn and were passed over")
    assert damage == "torn" or "the last 100 bytes" in run.notices[0]


def test_only_changed_runs_are_read_again(tmp_path, import_runs):
    for name in "ab":
        write(tmp_path / "logs" / name / "events.out.tfevents.1", scalar("loss", 1, 2.0))
    words = ["tensorboard", tmp_path / "logs", "--store", tmp_path / "store", "--column", "loss=history.loss"]
    assert "2 runs fetched, 0 unchanged" in import_runs(*words).err
    os.utime(write(tmp_path / "logs" / "a" / "events.out.tfevents.1", scalar("loss", 1, 2.0), scalar("loss", 2, 1.0)))
    done = import_runs(*words)
    assert ("1 runs fetched, 1 unchanged" in done.err, "3 rows of 2 of 2 runs" in done.out) == (True, True)
    assert "does not say how runs ended" in done.err


def test_a_folder_without_event_files_is_one_line(tmp_path):
    for path, message in ((tmp_path / "none", "is no folder"), (tmp_path, "holds no event files")):
        with pytest.raises(InputError, match=message):
            TensorBoardRuns(str(path))


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX.proto.event_pb2", None)
    with pytest.raises(InputError, match="need the package tensorboardX"):
        TensorBoardRuns(str(tmp_path))
