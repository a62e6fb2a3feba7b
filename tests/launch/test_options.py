"""Options of a run: typed, or written as words or JSON, they are the same; what is out of bounds is refused."""

import argparse
import json

import pytest

from launch.cli import make_parser
from launch.options import Options, add_options, parse_execution, read_options
from scaling.specs.base import InputError, parse
from scaling.specs.execution import Execution, MeshSpec
from tests.places import ROOT

# No field at its default.
OPTIONS = Options(
    execution=Execution(population=8, mesh=MeshSpec(data=2)),
    workers=3,
    spawn_workers=True,
    checkpoint_seconds=0.5,
    checkpoint_steps=7,
    num_checkpoints=4,
    keep_checkpoints=True,
    reader_workers=2,
    trackers=("wandb", "jsonl"),
    retries=1,
    interruptions=9,
    lease_seconds=30.0,
    code="ab" * 32,
)


def read(*words: str) -> Options:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args(words))


def test_the_example_has_no_field_at_its_default():
    assert not [name for name, value in OPTIONS if value == Options.model_fields[name].default]


@pytest.mark.parametrize("options", [OPTIONS, Options()])
def test_options_survive_as_words_and_as_json(options):
    assert read(*options.words()) == options
    assert parse(Options, options.canonical_json(), "--options") == options


def test_words_say_what_is_at_its_default_too_because_another_version_may_read_them():
    assert {"--checkpoint-seconds=600.0", "--num-checkpoints=2", "--retries=0"} <= set(Options().words())


def test_what_may_be_repeated_is_typed_in_the_singular():
    assert read("--tracker", "wandb", "--tracker=jsonl").trackers == ("wandb", "jsonl")


@pytest.mark.parametrize("command", ["run", "work", "cell"])
def test_every_option_is_one_of_every_command_that_trains(command):
    needed = {"run": ["study"], "work": ["store", "--launch=x"], "cell": ["cell.json", "--store=x"]}[command]
    left_out = {"run": "code", "work": None, "cell": "workers"}[command]  # `run` puts the code there itself
    words = [word for word in OPTIONS.words() if not word.startswith(f"--{left_out}=")]
    given = read_options(make_parser().parse_args([command, *needed, *words]))
    assert given == (OPTIONS if left_out is None else OPTIONS.model_copy(update={left_out: None}))


def test_the_words_of_an_old_launch_still_start_agents():
    (path,) = (ROOT / "tests" / "golden" / "store" / "launches").glob("*/launch.json")
    flags = json.loads(path.read_text())["flags"]
    given = make_parser().parse_args(["work", "store", "--launch=old", *flags])
    assert read_options(given) == Options()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers=0"], "--workers 0: must be at least 1 (processes on each machine"),
        (["--checkpoint-seconds=-1"], "--checkpoint-seconds -1.0: must be at least 0 (seconds between two"),
        (["--checkpoint-seconds=nan"], "--checkpoint-seconds nan: Input should be a finite number"),
        (["--checkpoint-steps=0"], "--checkpoint-steps 0: must be at least 1"),
        (["--retries=-1"], "--retries -1: must be at least 0"),
        (["--lease-seconds=0"], "--lease-seconds 0.0: must be at least 0.1"),
        (["--execution=loop=fast"], "--execution loop=fast: loop=\"fast\""),
        (["--execution=lop=scan"], "there is no 'lop'; did you mean 'loop'?"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_with_the_bound_and_what_it_means(words, message):
    with pytest.raises(InputError) as refusal:
        read(*words)
    assert message in str(refusal.value)


def test_a_cell_that_fails_may_be_tried_once_more_than_it_is_retried():
    assert not Options(retries=1, interruptions=5).budget.is_spent({"failed": 1, "interrupted": 4})
    assert Options(retries=1).budget.is_spent({"failed": 2})
    assert Options(interruptions=5).budget.is_spent({"interrupted": 5})


def test_an_execution_is_read_from_paths_or_json():
    assert parse_execution([]) is None
    assert parse_execution(["population=8", "mesh.data=2"]) == Execution(population=8, mesh=MeshSpec(data=2))
    assert parse_execution(['{"loop": "step"}', "remat=full"]) == Execution(loop="step", remat="full")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("populaton=8", "--execution populaton=8: there is no 'populaton'; did you mean 'population'"),
        ("population=0", "population=0: Input should be greater than 0"),
        ("loop=fast", "loop="),
        ("population", "--execution 'population' has no value"),
        ('{"lop": "step"}', "did you mean 'loop'"),
    ],
)
def test_a_wrong_execution_is_refused_in_one_line(given, message):
    with pytest.raises(InputError) as error:
        parse_execution([given])
    assert message in str(error.value)
    assert "--set" not in str(error.value)
