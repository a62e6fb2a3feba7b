"""The tracker that is asked for by name: the ledger, with any number of mirrors."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scaling.specs.base import InputError, suggest
from scaling.store.files import is_local
from scaling.store.store import Store
from scaling.tracking.curve_file import CurveFile
from scaling.tracking.tracker import Together, Tracker

# Mirrors by name, with the package that each needs and the extra that installs it.
MIRRORS: dict[str, tuple[str | None, str]] = {
    "jsonl": (None, ""),
    "tensorboard": ("tensorboardX", "tensorboard"),
    "wandb": ("wandb", "wandb"),
}


def make_tracker(
    names: Sequence[str],
    store: Store,
    *,
    project: str | None = None,
    entity: str | None = None,
    describe: Callable[[str], Mapping[str, Any]] = lambda cell: {},
    with_checkpoints: bool = False,
) -> Tracker:
    """Returns a tracker that writes a store's curves and, as mirrors of them, what is named.

    Args:
      names: the names of `jsonl`, `tensorboard` and `wandb`; none for the curves alone.
      store: where the cells' records go.
      project: at W&B; by default the study's name.
      entity: at W&B; by default the account's own.
      describe: from a cell's fingerprint to its `num_params`, `data_seen` and `train_flops` before it is trained.
      with_checkpoints: whether checkpoints are kept, so that mirrors can refer to them.

    Raises:
      InputError: a name is unknown, its package is not installed, or it cannot write into such a store.
    """
    for name in names:
        check_mirror(name, store)
    mirrors: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        if name == "jsonl":
            from scaling.tracking.jsonl import EventsFile

            mirrors[name] = EventsFile(store)
        elif name == "tensorboard":
            from scaling.tracking.tensorboard import TensorBoard

            mirrors[name] = TensorBoard(store)
        else:
            from scaling.tracking.weights_and_biases import WeightsAndBiases

            mirrors[name] = WeightsAndBiases(
                store, project, entity, describe=describe, with_checkpoints=with_checkpoints
            )
    curves = CurveFile(store.cell_path)
    return Together(curves, mirrors) if mirrors else curves


def check_mirror(name: str, store: Store) -> None:
    """Checks that a mirror can be made, without making it.

    Raises:
      InputError: the name is unknown, its package is not installed, or it cannot write into such a store.
    """
    if name not in MIRRORS:
        raise InputError(f"--tracker {name}: there is no such tracker; {suggest(name, MIRRORS)}")
    package, extra = MIRRORS[name]
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(f"--tracker {name} needs {package}, which is not installed; pip install 'scaling[{extra}]'")
    if name != "wandb" and not is_local(store.path):
        raise InputError(
            f"--tracker {name} appends to files, which {str(store.path)!r} does not allow; choose wandb, or a local "
            "--store"
        )
