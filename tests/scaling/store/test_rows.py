"""Rows: the contract's columns in its order."""

from tests.scaling.store.toy_study import CELLS, make_record


def test_rows_have_the_contracts_columns_in_order(store):
    store.publish(make_record(CELLS[0]))
    (first, last) = store.rows()
    head = (
        "study cell family label seed step is_final status trunk num_params params_head data_unit data_seen data_unique"
    )
    tail = "epochs train_flops train_flops_spent flops_logits loss error peak_lr batch_size wall_seconds device_kind"
    assert list(first) == [*head.split(), *tail.split(), "num_devices", "mfu"]
    assert (first["is_final"], last["is_final"], last["loss"], last["epochs"]) == (False, True, 0.5, 1.6)
    assert (first["flops_logits"], last["flops_logits"]) == (80.0, 160.0)
    assert (last["study"], last["label"]) == ("toy", "linear")
