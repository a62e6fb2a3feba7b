"""Claims about expressions of mappings: products of names and numbers, nothing else, and no code."""

import pytest

from analysis.tables.expressions import read_expression
from scaling.specs.base import InputError

NAMES = (
    "config.a*b",
    "config.batch size",
    "config.lr",
    "history._step",
    "history.eval/loss",
    "history.loss (nats)",
    "history.loss",
    "summary.loss",
)


@pytest.mark.parametrize(
    ("text", "rendered", "kinds"),
    [
        ("config.lr", "config.lr", ["name"]),
        ("lr", "config.lr", ["name"]),
        ("_step*512", "history._step*512", ["name", "number"]),
        ("history._step * batch size*2", "history._step*config.batch size*2", ["name", "name", "number"]),
        ("history.eval/loss / 2", "history.eval/loss / 2", ["name", "number"]),
        ("history.loss (nats)", "history.loss (nats)", ["name"]),
        ("config.a*b", "`config.a*b`", ["name"]),
        ("`config.a*b`*3", "`config.a*b`*3", ["name", "number"]),
        ("last(history._step)*count(lr)", "last(history._step)*count(config.lr)", ["name", "name"]),
        ("'a * b'", "'a * b'", ["text"]),
        ("1e9", "1e9", ["number"]),
    ],
)
def test_an_expression_is_read_and_its_full_text_reads_the_same(text, rendered, kinds):
    expression = read_expression(text, NAMES, "--column x")
    assert expression.render() == rendered
    assert [factor.kind for factor in expression.factors] == kinds
    assert read_expression(rendered, NAMES, "--column x") == expression


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("history.eval/los", r"the runs have no 'history\.eval/los'; did you mean 'history\.eval/loss'\?"),
        ("loss", r"is summary\.loss and history\.loss; say which"),
        ("config.lr**2", "a factor is empty"),
        ("*", "a factor is empty"),
        ("config.lr / ", "a factor is empty"),
        ("'a'*3", "a text cannot be multiplied"),
        ("__import__('os').system('true')", "the runs have no"),
        ("(config.lr)", r"the runs have no '\(config\.lr\)'; did you mean 'config\.lr'"),
    ],
)
def test_what_is_no_product_of_known_names_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_expression(text, NAMES, "--column x")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--column x=")
