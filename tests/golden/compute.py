"""What the code says now of what is golden: `make.py` wrote it down once, and the test compares."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from analysis.fitting.fit import Fit, document_fits, load_fits
from analysis.fitting.fit_curves import predict_curve
from analysis.laws.law import LAWS
from analysis.laws.registry import get_law
from analysis.laws.schedules import Curve, make_rates, summarise_schedules
from analysis.laws.whole_curves import CurveLaw
from analysis.uncertainty.predictions import predict_interval
from launch.cli import main
from scaling.learning.step import horizon_of
from scaling.models.counting.flops import EVERY_TERM, count_flops
from scaling.models.counting.params import count_params
from scaling.models.description import describe_family, describe_preset
from scaling.models.layers.core import walk
from scaling.models.registry import FAMILIES, all_presets, find_preset, make_shape
from scaling.models.shape import Shape, make_layers
from scaling.specs.base import InputError
from scaling.specs.models import NetworkSpec
from scaling.specs.study import resolve_study
from scaling.specs.task import TaskShape, image_task, token_task
from tests.golden.cells import MODELS, SCHEDULES

GOLDEN = Path(__file__).parent
PEAK_LR = 0.01
DATASETS = {
    "images": ("mnist", "fashion_mnist", "cifar10", "cifar100", "caltech101", "imagenet"),
    "language": ("stdlib", "lm1b", "c4"),
}
STUDIES = {
    **{name: ["", *(f"dataset={one}" for one in known)] for name, known in DATASETS.items()},
    **{name: [""] for name in ("markov_language", "performance_vs_data", "teacher_student")},
}
SIZES = ("100k", "100M")
CLASSICAL = (
    "logistic_regression",
    "linear_svm",
    "rbf_svm",
    "random_forest",
    "gradient_boosting",
    "naive_bayes",
    "ridge",
)
TABLE_JSON = "table store --json --keep label==MLP --keep seed==1 --keep is_final==True"
COMMANDS = (
    "table store --keep status!=ok",
    "status store",
    "predict fits/chinchilla.json --at num_params=7e9,data_seen=1.4e12 --at num_params=1e8,data_seen=1e10",
    "predict fits/chinchilla.json --at num_params=7e9,data_seen=1.4e12 --new-run",
    "predict fits/by_optimizer.json --label lion --at data_seen=1e10",
    "predict fits/m4.json --at data_seen=1e5",
    "optimum fits/chinchilla.json --flops 1e21",
    "optimum fits/column.json --loss 2.5",
    "models --family classical",
    "models --preset gpt2 --set flops.attention=causal --set flops.remat=true",
)


def run_command(words: list[str]) -> str:
    """Returns what a command prints on standard output, in the folder of the golden files."""
    out = io.StringIO()
    with contextlib.chdir(GOLDEN), contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main(words)
    if status:
        raise RuntimeError(f"{words} ended with status {status}")
    return out.getvalue()


def run_commands() -> dict[str, Any]:
    """Returns the document that each command prints with --json; of a store's state, what no clock changes."""
    found = {line: json.loads(run_command([*line.split(), "--json"])) for line in COMMANDS}
    found["status store"] = found["status store"]["series"]
    return found


# --- specifications -------------------------------------------------------------------------------------------------


def fingerprint_studies() -> dict[str, dict[str, Any]]:
    """Returns the fingerprints of the studies in configs/ on every data that they know, and of their cells on one."""
    found = {}
    with contextlib.chdir(GOLDEN.parents[1]):
        for name, variants in STUDIES.items():
            studies = {variant: resolve_study(name, [variant] if variant else []) for variant in variants}
            prints = {variant: study.fingerprint() for variant, study in studies.items()}
            found[name] = {"studies": prints, "cells": list(studies[variants[0]].cells)}
    return found


# --- models ---------------------------------------------------------------------------------------------------------


def describe_models() -> dict[str, dict[str, Any]]:
    """Returns shape, counts and FLOPs of every preset, of every family at some sizes, and of many variants."""
    found = {}
    for name in all_presets():
        found[name] = _describe(describe_preset(name, []), make_shape(*find_preset(name)))
    for kind in FAMILIES:
        for size in SIZES:
            document = describe_family(
                kind, round(float(size.replace("k", "e3").replace("M", "e6").replace("B", "e9"))), []
            )
            spec = next(type(model) for model in MODELS if model.kind == kind)(
                num_params=document["request"]["num_params"]
            )
            found[f"{kind} {size}"] = _describe(document, make_shape(spec, FAMILIES[kind].TASK))
    for kind in CLASSICAL:
        found[kind] = describe_family(kind, None, [])
    for model in MODELS:
        if isinstance(model, NetworkSpec):
            shape = _fit_shape(model)
            sizes = {"width": shape.width, "depth": shape.depth, "num_params": sum(count_params(shape).values())}
            found[f"{model.kind} {model.fingerprint()}"] = {**sizes, **_hash(shape)}
    return found


def _fit_shape(model: NetworkSpec) -> Shape:
    """Returns a network's shape on its family's task, or on the first other one that it can learn."""
    packed = TaskShape(64, 1_000, 1_000, objective="next_token", boundary=999)
    for task in (FAMILIES[model.kind].TASK, image_task(224, 1_000), token_task(1_000, 64, "masked"), packed):
        with contextlib.suppress(InputError):
            return make_shape(model, task)
    raise ValueError(f"{model} fits no task")


def _describe(document: dict[str, Any], shape: Shape) -> dict[str, Any]:
    flops = {name: document["flops"][name] for name in ("forward", "train_terms", "six_n", "unit")}
    kept = ("shape", "num_params", "num_params_by_convention")
    return {**{name: document[name] for name in kept}, "flops": flops, **_hash(shape)}


def _hash(shape: Shape) -> dict[str, str]:
    """Returns hashes of all arrays, by path, shape, role and count, and of every term of FLOPs."""
    arrays = [
        [
            "/".join(visit.path),
            name,
            list(weight.shape),
            weight.group,
            weight.role,
            weight.fan_in,
            weight.fan_out,
            visit.copies,
        ]
        for visit in walk(make_layers(shape), shape.task.dims)
        for name, weight in visit.layer.weights(visit.dims).items()
    ]
    return {"arrays": _digest(arrays), "every_term": _digest(count_flops(shape, EVERY_TERM).train)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


# --- schedules ------------------------------------------------------------------------------------------------------


def trace_schedules() -> list[dict[str, Any]]:
    """Returns the learning rate of every step as training computes it, for runs of 20 and of 10 steps."""
    found = []
    for spec in SCHEDULES:
        factor = spec.factor
        for num_steps in (20, 10):
            horizon = horizon_of(spec, num_steps)
            times = [jnp.int32(step) + 0.5 for step in range(num_steps)]
            rates = [float(np.float32(jnp.float32(PEAK_LR) * factor(time, horizon))) for time in times]
            found.append({"schedule": spec.model_dump(mode="json"), "num_steps": num_steps, "rates": rates})
    return found


def trace_curves() -> dict[str, Any]:
    """Returns the rates that curve laws see, and what they sum up of each."""
    found = {}
    for decay, end in {
        "constant": 0.0,
        "cosine": 0.1,
        "linear": 0.0,
        "exponential": 0.1,
        "one_minus_sqrt": 0.0,
        "step": 0.1,
    }.items():
        rates = make_rates(decay, 20, peak=1.0, end=end, warmup_steps=4, stable_steps=10)
        sums = summarise_schedules([Curve(rates, np.array([19]))])
        fields = ("area", "first", "drop", "log_rate", "log_area", "age")
        found[decay] = {"rates": rates.tolist(), **{name: getattr(sums, name).tolist() for name in fields}}
    return found


# --- laws and fits --------------------------------------------------------------------------------------------------


def save_again(path: Path) -> str:
    """Returns a file of fits, read and written again as `scaling fit --to` writes it."""
    document = document_fits(load_fits(str(path)))
    return json.dumps(document["fits"][0] if len(document["fits"]) == 1 else document) + "\n"


def evaluate_laws() -> dict[str, Any]:
    """Returns every law's value at its example's parameters, over its design."""
    get_law("power")  # registers them all
    found = {}
    for name, law in LAWS.items():
        if isinstance(law, CurveLaw):
            columns: dict[str, Any] = {"schedule": _curve()}
        else:
            columns = {column: np.geomspace(*law.design[column], 4) for column in law.variables}
        values = law.predict(law.example, columns).tolist()
        found[name] = {
            "formula": law.formula,
            "params": dict(law.example),
            "variables": law.variables,
            "values": values,
        }
        if law.derived:
            found[name]["derived"] = {key: float(value) for key, value in law.derived(law.example).items()}
    return found


def predict_fits() -> dict[str, list[dict[str, Any]]]:
    """Returns what every golden fit predicts inside and beyond the sizes that it was fitted to."""
    return {path.name: [_predict(fit) for fit in load_fits(str(path))] for path in sorted(GOLDEN.glob("fits/*.json"))}


def _predict(fit: Fit) -> dict[str, Any]:
    if isinstance(fit.form, CurveLaw):
        curve = _curve()
        columns: dict[str, Any] = {fit.columns[0]: curve}
        found = {"curve": predict_curve(fit, curve.rates, curve.steps).tolist()}
    else:
        columns = {name: np.array([low, (low * high) ** 0.5, 10 * high]) for name, (low, high) in fit.ranges.items()}
        found = {name: values.tolist() for name, values in columns.items()}
    found["predict"] = fit.predict(columns).tolist()
    for new_run in (False, True):
        interval = predict_interval(fit, columns, new_run=new_run)
        found["new_run" if new_run else "interval"] = interval.to_numpy().tolist()
    return {"label": fit.label, **found}


def _curve() -> Curve:
    rates = make_rates("linear", 500, peak=1e-3, end=1e-5, warmup_steps=20, stable_steps=300)
    return Curve(rates, np.array([50, 299, 400, 499]))


# What is compared number by number, by file; JAX's arithmetic of 32 bits is not the same on every machine.
COMPUTED: dict[str, Callable[[], Any]] = {
    "studies.json": fingerprint_studies,
    "models.json": describe_models,
    "schedules.json": trace_schedules,
    "curves.json": trace_curves,
    "laws.json": evaluate_laws,
    "predictions.json": predict_fits,
    "commands.json": run_commands,
}
