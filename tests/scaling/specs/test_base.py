"""Specifications: identity, exactness, and errors that tell the remedy."""

import copy
import itertools
import json
import os
import pickle
import subprocess

import pytest
from pydantic import Field

from scaling.specs.base import InputError, Spec, canonical_json, fingerprint_text, override, parse
from scaling.specs.cell import Cell
from scaling.specs.data import AugmentationSpec, FileDocuments, TableSource, TextSource
from scaling.specs.models import MLPSpec
from scaling.specs.schedules import CosineSchedule
from scaling.specs.training import AdamWSpec, LayerwiseSpec, SGDSpec, TrainingSpec
from tests.scaling.specs.cells import FOREST, MLP


def test_fingerprints_agree_in_processes_with_other_hash_seeds(python):
    code = (
        "from scaling.specs.cell import Cell; from scaling.specs.base import parse; "
        f"print(parse(Cell, {MLP.canonical_json()!r}, 'here').fingerprint())"
    )
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == MLP.fingerprint()


def test_fingerprints_do_not_depend_on_the_order_of_fields():
    document = json.loads(MLP.canonical_json())
    for names in itertools.permutations(document):
        shuffled = json.dumps({name: document[name] for name in names})
        assert parse(Cell, shuffled, "here").fingerprint() == MLP.fingerprint()


def test_the_canonical_json_itself_hashes_to_the_fingerprint():
    assert fingerprint_text(MLP.canonical_json()) == MLP.fingerprint()


@pytest.mark.parametrize("value", [1e-8, 0.1, 1 / 3, 3e-3, 1.7976931348623157e308, 5e-324])
def test_json_round_trips_exactly(value):
    optimizer = AdamWSpec(peak_lr=value, eps=value)
    cell = MLP.model_copy(update={"training": TrainingSpec(optimizer=optimizer, num_steps=1)})
    assert parse(Cell, cell.canonical_json(), "here") == cell


def test_loading_json_executes_nothing():
    hostile = json.loads(MLP.canonical_json())
    hostile["model"] = {"kind": "os.system", "command": "true"}
    with pytest.raises(InputError, match=r"model.kind='os.system' is unknown; choose one of 'convnet', .*'linear_svm'"):
        parse(Cell, json.dumps(hostile), "cell.json")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPSpec(num_param=1000), "MLPSpec: there is no field 'num_param'; did you mean 'num_params'?"),
        (MLPSpec, "MLPSpec: model.num_params and model.width: neither is set"),
        (lambda: MLPSpec(num_params=0.5), "MLPSpec: num_params=0.5: Input should be a valid integer"),
        (AdamWSpec, "AdamWSpec: peak_lr is missing; give it a value"),
        (lambda: Cell(**{**dict(MLP), "model": {"kind": "mlq"}}), "Cell: model.kind='mlq' is unknown; did you mean"),
        (
            lambda: Cell(**{**dict(MLP), "model": {"kind": "mlp", "num_param": 3}}),
            "Cell: there is no field 'model.num_param'; did you mean 'num_params'?",
        ),
    ],
)
def test_what_python_constructs_is_refused_in_the_words_of_what_is_read(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_parts_of_a_specification_that_is_read_are_not_constructed_one_by_one(monkeypatch):
    monkeypatch.setattr(Spec, "__init__", None)  # what nobody calls
    assert parse(Cell, MLP.canonical_json(), "here") == MLP
    assert Cell.model_validate(MLP.model_dump()) == MLP


def test_specifications_are_pickled_and_copied():
    assert pickle.loads(pickle.dumps(MLP)) == copy.deepcopy(MLP) == MLP  # noqa: S301  (our own bytes)


def test_specifications_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        MLP.seed = 4


def test_strings_and_floats_do_not_pass_for_integers():
    for size in ('"100"', "100.0", "true"):
        text = MLP.canonical_json().replace('"size":100', f'"size":{size}')
        with pytest.raises(InputError, match=r"data\.size="):
            parse(Cell, text, "cell.json")


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["dta.size=3"], "there is no 'dta'; did you mean 'data'"),
        (["data.sise=3"], "there is no 'data.sise'; did you mean 'size'"),
        (["model.normalisation=batch"], "there is no 'model.normalisation'; did you mean 'normalization'"),
        (["model.width=8"], "model.num_params and model.width: both are set; set the one"),
        (["training.optimizer.kind=adam", "training.optimizer.weight_decay=1"], "no field 'training.optimizer.weight"),
        (["data.size=many"], 'data.size="many": Input should be a valid integer'),
        (["data.size=0"], "data.size=0: Input should be greater than 0"),
        (["data.size"], "has no value; write --set PATH=VALUE"),
        (["data.size.unit=3"], "data.size is 100, which has no fields"),
        (["data.source.kind=stdlob"], "data.source.kind='stdlob' is unknown; did you mean 'stdlib'"),
        (["data.source.kind=idx"], "data.source.folder is missing"),
        (["data.source.kind=idx", "data.source.foldr=x"], "no field 'data.source.foldr'; did you mean 'folder'"),
        (
            ["data.source.kind=text", "data.source.documnts.path=x"],
            "no 'data.source.documnts'; did you mean 'documents'",
        ),
        (
            ["data.source.kind=text", "data.source.evaluation_documents.path=x"],
            "is not set; choose one first, --set data.source.evaluation_documents.kind=files|hugging_face|stdlib|tfds",
        ),
        (["training.pretraining.num_step=3"], "no field 'training.pretraining.num_step'; did you mean 'num_steps'"),
        (["model.num_params=1.2345k"], 'model.num_params="1.2345k": Input should be a valid integer'),
        (["model.num_params=1.5"], "model.num_params=1.5: Input should be a valid integer"),
        (["training.optimizer.peak_lr=NaN"], "peak_lr"),
        (["seed=-1"], "seed=-1"),
        (["training.num_steps=33554432"], "choose fewer than 2**32"),
        (["model.kind=random_forest"], "training is set, but random_forest has its own solver"),
    ],
)
def test_override_errors_name_field_value_and_remedy(assignments, message):
    with pytest.raises(InputError) as caught:
        override([MLP], assignments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_override_sets_nested_fields_and_leaves_the_original():
    (changed,) = override([MLP], ["data.size=200", "training.schedule.final_fraction=0.1", "data.order=stratified"])
    assert (changed.data.size, changed.data.order) == (200, "stratified")
    assert changed.training is not None
    assert changed.training.schedule == CosineSchedule(final_fraction=0.1)
    assert MLP.data.size == 100


def test_fields_added_later_leave_the_json_of_their_default_alone():
    assert SGDSpec(peak_lr=0.5).canonical_json() == '{"kind":"sgd","momentum":0.9,"peak_lr":0.5,"weight_decay":0.0}'
    (changed,) = override([MLP], ["seed=4"])
    assert changed.canonical_json() == MLP.canonical_json().replace('"seed":3', '"seed":4')


def test_override_sets_fields_that_the_json_leaves_out_at_their_default():
    (changed,) = override([MLP], ["model.normalization=batch", "model.width=8", "model.num_params=null"])
    assert changed.model == MLPSpec(width=8, normalization="batch")
    (again,) = override([changed], ["model.proportions=[2,1]", "model.normalization=none"])
    assert again.model == MLPSpec(width=8, proportions=(2, 1))


def test_override_of_a_kind_starts_that_part_from_its_defaults():
    (changed,) = override([MLP], ["data.source.kind=table", "data.source.path=x.csv"])
    assert json.loads(canonical_json(changed.data.source.model_dump()))["path"] == "x.csv"


def test_override_descends_into_parts_that_the_new_kind_has_by_default():
    (changed,) = override(
        [MLP],
        ["data.source.kind=text", "data.source.documents.kind=files", "data.source.documents.path=x",
         "data.source.evaluation_documents.kind=files", "data.source.evaluation_documents.path=y"],
    )  # fmt: skip
    files = FileDocuments(path="x"), FileDocuments(path="y")
    assert changed.data.source == TextSource(documents=files[0], evaluation_documents=files[1])


def test_override_begins_a_part_that_is_none_by_naming_its_fields():
    assignments = [
        "training.pretraining.num_steps=100",
        "training.pretraining.peak_lr=0.1",
        "data.augmentation.flip=true",
    ]
    network, forest = override([MLP, FOREST], assignments)
    assert network.training is not None
    assert network.training.pretraining == LayerwiseSpec(num_steps=100, peak_lr=0.1)
    assert network.data.augmentation == forest.data.augmentation == AugmentationSpec(flip=True)
    assert forest.training is None


class Open(Spec):
    """A part with a mapping of anybody's names."""

    settings: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


def test_override_gives_a_mapping_new_keys():
    assert override([Open()], ["settings.depth=3", "settings.form=10k"]) == [Open(settings={"depth": 3, "form": "10k"})]


@pytest.mark.parametrize("text", ["1.5M", "1500k", "1.5e6", "1_500_000", "1500000.0"])
def test_override_reads_counts_where_an_integer_is_asked_for(text):
    assert override([MLP], [f"model.num_params={text}"])[0].model == MLPSpec(num_params=1_500_000)


def test_override_reads_no_count_where_a_text_is_asked_for():
    (changed,) = override([MLP], ["data.source.kind=table", "data.source.path=10k", "data.source.label_column=1k"])
    assert changed.data.source == TableSource(path="10k", label_column="1k")
    (changed,) = override([MLP], ["model.proportions=[2e0,1]"])
    assert changed.model == MLPSpec(num_params=1_000, proportions=(2, 1))


def test_override_applies_where_the_path_exists_and_must_apply_somewhere():
    network, forest = override([MLP, FOREST], ["training.batch_size=7"])
    assert network.training is not None
    assert network.training.batch_size == 7
    assert forest == FOREST
    with pytest.raises(InputError, match="training"):
        override([FOREST], ["training.batch_size=7"])


def test_truncated_json_is_one_line():
    with pytest.raises(InputError, match=r"cell\.json: is not JSON"):
        parse(Cell, MLP.canonical_json()[:40], "cell.json")
