"""A store's table, printed and written."""


def test_the_table_is_printed_and_written(finished, here):
    for name in ("table.csv", "table.parquet", "table.jsonl"):
        assert here("table", "store", "--to", name).returncode == 0
        assert (here.folder / name).stat().st_size > 1000
    printed = here("table", "store").stdout.splitlines()
    assert printed[0].startswith("study,cell,family,label,seed,step,is_final,status,trunk,num_params,params_")
    assert printed == (here.folder / "table.csv").read_text().splitlines()
    assert len(here.json("table", "store")) == len(printed) - 1
