"""Rows: the contract's columns in its order."""

from scaling.store.rows import record_rows
from tests.scaling.store.toy_study import CELLS, make_record


def test_rows_have_the_contracts_columns_in_order(store):
    store.publish(make_record(CELLS[0]))
    (first, last) = store.rows()
    head = (
        "study cell family label seed step is_final status trunk num_params params_head data_unit data_seen data_unique"
    )
    tail = "epochs train_flops train_flops_spent flops_logits loss error peak_lr batch_size wall_seconds device_kind"
    course = "num_devices mfu steps_to_target train_seconds data_per_second dollars loss_spikes num_resumes"
    assert list(first) == [*head.split(), *tail.split(), *course.split(), "data.size"]
    assert (first["is_final"], last["is_final"], last["loss"], last["epochs"]) == (False, True, 0.5, 1.6)
    assert (first["flops_logits"], last["flops_logits"]) == (80.0, 160.0)
    assert (last["study"], last["label"]) == ("toy", "linear")


def test_a_run_in_progress_has_its_share_of_the_counts_and_no_total_of_the_end():
    first, last = record_rows(make_record(CELLS[0], flops={"conv": 40.0, "logits": 160.0}))
    assert (first["flops_conv"], first["flops_logits"]) == (20.0, 80.0)
    assert (last["flops_conv"], last["flops_logits"]) == (40.0, 160.0)
    assert (first["wall_seconds"], last["wall_seconds"]) == (None, 1.0)


def test_a_table_says_how_n_is_counted_where_some_row_counts_less_than_all(store):
    store.publish(make_record(CELLS[0]))
    assert not {"num_params_convention", "num_params_total"} & set(store.rows()[0])
    store.publish(make_record(CELLS[1], num_params=6, num_params_convention="non_embedding"))
    names = ["num_params", "num_params_convention", "num_params_total"]
    rows = store.rows()
    assert [[row[name] for name in names] for row in rows[1::2]] == [[10, "total", 10], [6, "non_embedding", 10]]
    assert list(rows[0])[9:12] == names


def test_a_record_of_all_parameters_is_written_as_before():
    assert "num_params_convention" not in make_record(CELLS[0]).model_dump(mode="json")


def test_a_leaf_has_spent_what_it_added_and_a_step_before_its_own_count():
    first, last = record_rows(make_record(CELLS[0], trunk="f" * 12, train_flops_spent=50.0))
    assert (first["train_flops_spent"], last["train_flops_spent"]) == (80.0, 50.0)
    assert (last["train_flops"], last["trunk"]) == (160.0, "f" * 12)


def test_a_mixture_has_a_column_for_the_share_of_each_corpus():
    record = make_record(CELLS[0])
    facts = {"mixture_books": 0.7, "mixture_code": 0.3, "tokens_books": 70}
    mixed = record.model_copy(update={"data": record.data.model_copy(update={"facts": facts})})
    for row in record_rows(mixed):
        assert {name: row[name] for name in row if "books" in name or "code" in name} == {
            "mixture_books": 0.7,
            "mixture_code": 0.3,
        }


def test_the_course_of_a_run_is_in_its_final_row():
    record = make_record(
        CELLS[0], train_seconds=0.5, price_per_hour=7.2, steps_to_target=2, loss_spikes=1, num_resumes=3
    )
    first, last = record_rows(record)
    assert "dollars" not in first
    names = ("data_per_second", "dollars", "steps_to_target", "loss_spikes", "num_resumes")
    assert [last[name] for name in names] == [32.0, 0.002, 2, 1, 3]
    assert record_rows(make_record(CELLS[0])).send(None)["step"] == 1
    assert [*record_rows(make_record(CELLS[0]))][-1]["dollars"] is None


def test_fields_that_vary_are_columns_under_their_paths_and_all_of_them_on_request(store):
    store.publish(make_record(CELLS[0]))
    store.publish(make_record(CELLS[2]))
    rows = store.rows()
    assert [row["data.size"] for row in rows] == [10, 10, 20, 20]
    assert {name for name in rows[0] if "." in name} == {"data.size"}
    everything = store.rows(all_fields=True)[0]
    assert everything["model.kind"] == "logistic_regression"
    assert everything["data.duplication"] == 0.0  # a default, which the cell's JSON leaves out
    assert list(everything)[: len(rows[0]) - 1] == list(rows[0])[:-1]
