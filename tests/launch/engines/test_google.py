"""What Google's engines share: labels in the letters that labels may have, and variables that are never guessed."""

import pytest

from launch.engines.google import LAUNCH, STORE, STUDY, USER, check_variables, label, make_labels, read_variables
from scaling.specs.base import InputError
from scaling.store.store import Store


@pytest.mark.parametrize(
    ("text", "said"), [("My Study", "my-study"), ("-ä.b_", "b"), ("x" * 80, "x" * 63), ("gs://b/s", "gs---b-s")]
)
def test_any_text_becomes_a_label(text, said):
    assert label(text) == said


def test_labels_say_which_launch_study_user_and_store(bare_store, tmp_path):
    labels = make_labels("20250101-120000-abcdef", bare_store)
    assert labels.keys() == {LAUNCH, STUDY, USER, STORE}
    assert (labels[LAUNCH], labels[STUDY]) == ("20250101-120000-abcdef", "bare")
    other = make_labels("20250101-120000-abcdef", Store(tmp_path / "other"))
    assert (other[STUDY], other[STORE] != labels[STORE]) == ("", True)


def test_variables_are_passed_on_by_name_and_only_where_they_are_set(monkeypatch):
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("NOT_HERE", raising=False)
    check_variables(["HERE", "NOT_HERE"])
    assert read_variables(["HERE"]) == {"HERE": "value"}
    with pytest.raises(InputError, match="env='NOT_HERE' is not set here"):
        read_variables(["HERE", "NOT_HERE"])
    with pytest.raises(InputError, match="env='KEY=value' is no name of a variable"):
        check_variables(["KEY=value"])
