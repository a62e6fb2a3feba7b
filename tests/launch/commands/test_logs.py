"""What workers wrote while they were at a cell, and why cells have failed."""

from scaling.store import attempts
from scaling.store.store import Store
from tests.launch.commands.stores import names


def test_logs_show_what_a_worker_wrote_while_it_was_at_a_cell_and_nothing_else(here, trained):
    (here.folder / "store").symlink_to(trained)
    store = Store.open(trained)
    one, other = sorted(store.records())[:2]
    lines = here.json("logs", "store", one)["parts"][0]["lines"]
    assert lines[0].startswith("=== scaling job begins")
    assert one in lines[0].split()
    assert any(line == f"=== scaling job ends {one} ok" for line in lines)
    shown = here("logs", "store", one[:6]).stdout
    assert "attempt 1 on" in shown
    assert "no cell has failed" in here("logs", "store").stdout
    for wrong in ("zzz", ""):
        done = here("logs", "store", wrong)
        assert done.returncode == 2
        assert "begin so" in done.stderr
    assert other != one


def test_why_cells_failed_is_one_line_each(here, store):
    folder = store.cell_path(names(store)[0])
    attempts.end_attempt(folder, attempts.start_attempt(folder), "failed", "Traceback\n  …\nValueError: no luck")
    (row,) = here.json("logs", "store")["failures"]
    assert (row["cell"], row["error"]) == (names(store)[0], "ValueError: no luck")
