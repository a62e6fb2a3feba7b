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
        ("number(lr)", "number(config.lr)", ["name"]),
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


HEADERS = (" Tokens (T)", "val loss ", "a", " a", "1e9", "count(x)", "x", "model's loss")


@pytest.mark.parametrize(
    "text", ["Tokens (T)", " Tokens (T) ", "`Tokens (T)`", "`Tokens (T)`*1e9", "count(Tokens (T))"]
)
def test_names_are_found_without_the_spaces_around_them(text):
    expression = read_expression(text, HEADERS, "--column x", holder="the table")
    assert expression.names() == [" Tokens (T)"]
    assert read_expression(expression.render(), HEADERS, "--column x") == expression


def test_names_that_differ_by_spaces_are_found_as_they_stand():
    assert read_expression("a", HEADERS, "").names() == ["a"]
    assert read_expression("` a`*2", HEADERS, "").names() == [" a"]
    with pytest.raises(InputError, match="is ' a' and 'a ', but for spaces; write one as it stands"):
        read_expression("a", (" a", "a "), "--column x")


@pytest.mark.parametrize("name", ["1e9", "count(x)", "model's loss", " a"])
def test_names_that_look_like_something_else_are_rendered_so_that_they_read_back(name):
    for factors in ("`{}`", "`{}`*2"):
        expression = read_expression(factors.format(name), HEADERS, "--column x")
        assert expression.names() == [name]
        assert read_expression(expression.render(), HEADERS, "--column x") == expression


def test_errors_say_what_has_the_names():
    with pytest.raises(InputError, match=r"--column x=los: the table has no 'los'; did you mean 'loss'\?"):
        read_expression("los", ["loss", "n"], "--column x", holder="the table")
