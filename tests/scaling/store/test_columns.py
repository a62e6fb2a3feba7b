"""Claims about the table's columns: one order, for rows of records and for imported tables alike."""

from scaling.store.columns import CONTRACT, TABLE_HEAD, order_columns


def test_the_order_of_columns_is_the_contracts():
    names = ["peak_lr", "accuracy", "loss", "params_head", "flops_matmul", "train_flops", *reversed(TABLE_HEAD)]
    assert order_columns(names) == [
        *TABLE_HEAD, "params_head", "train_flops", "flops_matmul", "loss", "accuracy", "peak_lr"
    ]  # fmt: skip


def test_parts_of_counts_follow_their_totals_by_name_wherever_they_came_from():
    parts = ["params_b", "flops_b", "params_a", "flops_a", "params_b"]
    ordered = order_columns([*parts, *CONTRACT])
    after_total, after_spent = ordered.index("num_params") + 1, ordered.index("train_flops_spent") + 1
    assert ordered[after_total : after_total + 2] == ["params_a", "params_b"]
    assert ordered[after_spent : after_spent + 3] == ["flops_a", "flops_b", "loss"]


def test_the_order_does_not_depend_on_the_order_in_which_names_are_met():
    names = ["params_b", "top1", "zeta", "num_params", "flops_b", "params_a", "flops_a", "loss", "error", "loss"]
    columns = order_columns(names)
    assert columns == order_columns(names[::-1])
    assert columns == ["num_params", "params_a", "params_b", "flops_a", "flops_b", "loss", "error", "top1", "zeta"]
