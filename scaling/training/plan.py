"""What a cell will cost, before it runs."""

from scaling.data.loading import check_data, load_source
from scaling.data.source import task_shape
from scaling.learning.pretraining import check_pretraining, pretraining_flops
from scaling.learning.step import check_learner
from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_params
from scaling.models.families import classical
from scaling.models.registry import make_shape
from scaling.specs.base import Json
from scaling.specs.cell import Cell, is_network, narrow
from scaling.specs.data import count_unique


def describe_cell(cell: Cell) -> Json:
    """Returns a cell's `num_params`, `data_unique`, `data_seen` and `train_flops` before it runs.

    Those that are not counted are None. Examples or tokens are counted, whichever the record will have.

    Raises:
      InputError: the data is missing or does not allow this cell, or no model of the asked size exists.
    """
    source = load_source(cell.data)
    check_data(cell.data, source)
    task = task_shape(source)
    data_unique = count_unique(cell.data.size, cell.data.duplication) * source.example_tokens
    narrowed = narrow(cell)
    if not is_network(narrowed):
        params = classical.count_params(narrowed.model, task)
        return {
            "num_params": sum(params.values()) or None,
            "data_unique": data_unique,
            "data_seen": cell.data.size,
            "train_flops": None,
        }
    training = narrowed.training
    shape = make_shape(narrowed.model, task)
    seen = training.num_steps * training.batch_size * source.example_tokens
    check_learner(shape, training)
    if training.pretraining is not None:
        check_pretraining(shape)
    return {
        "num_params": sum(count_params(shape).values()),
        "data_unique": data_unique,
        "data_seen": seen,
        "train_flops": pretraining_flops(shape, training) + seen * sum(count_flops(shape).train.values()),
    }
