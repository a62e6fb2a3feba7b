"""The tiny language of mappings: products and quotients of names, numbers and texts, read without evaluating code."""

import re
from collections.abc import Collection
from typing import Literal

from scaling.specs.base import InputError, Spec, suggest

SECTIONS = ("config", "summary", "history", "run", "tags")  # what full names of imported runs begin with
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
PLAIN = re.compile(r"[A-Za-z_][\w./:-]*")
FUNCTIONS = ("last", "count", "number")
CALL = re.compile(rf"({'|'.join(FUNCTIONS)})\((.*)\)", re.DOTALL)
# Quoted text is one token, so that names and texts may hold the signs of products.
TOKEN = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|\*| / |.", re.DOTALL)


class Factor(Spec):
    """One part of a product.

    Attributes:
      kind: a `name` of theirs, a `number`, or a constant `text`.
      value: the full name, the number as typed, or the text.
      function: `last` takes the latest value at or before a row; `count` reads 124M as 124e6, and `number` reads
        1.234,5 and 85.3%, as `analysis.tables.numbers` does.
      divides: whether the product is divided by it.
    """

    kind: Literal["name", "number", "text"]
    value: str
    function: Literal["last", "count", "number"] | None = None
    divides: bool = False

    def is_history(self) -> bool:
        """Returns whether the value differs between rows of one run, unless `last` makes it one."""
        return self.kind == "name" and self.value.startswith("history.")

    def is_plain_history(self) -> bool:
        """Returns whether only rows that have this value themselves can be used."""
        return self.is_history() and self.function != "last"


class Expression(Spec):
    """A product of factors; one text by itself is a text."""

    factors: tuple[Factor, ...]

    def names(self) -> list[str]:
        """Returns the full names that it reads."""
        return [factor.value for factor in self.factors if factor.kind == "name"]

    def render(self) -> str:
        """Returns the text that reads as this expression, with full names."""
        parts = []
        for i, factor in enumerate(self.factors):
            text = factor.value
            if factor.kind == "text":
                text = f"'{text}'" if "'" not in text else f'"{text}"'
            elif factor.kind == "name" and _needs_quotes(text):
                text = f"`{text}`"
            text = f"{factor.function}({text})" if factor.function else text
            parts.append((" / " if factor.divides else "*" if i else "") + text)
        return "".join(parts)


def _needs_quotes(name: str) -> bool:
    """Returns whether a name by itself would be read as something else."""
    is_other = NUMBER.fullmatch(name) or CALL.fullmatch(name) or name != name.strip()
    return bool(is_other) or any(sign in name for sign in "*'\"") or " / " in name


def quote(name: str) -> str:
    """Returns a name as one types it in an expression: in backquotes where it holds signs that may mean something.

    >>> quote("train/loss"), quote("Tokens (B)")
    ('train/loss', '`Tokens (B)`')
    """
    return name if PLAIN.fullmatch(name) else f"`{name}`"


def read_expression(text: str, names: Collection[str], where: str, *, holder: str = "the runs") -> Expression:
    """Returns what a mapping's text means.

    Factors are joined by `*`, or by ` / ` between spaces, since names may hold slashes. A name in backquotes is taken
    as it stands. A name is found exactly, else without the spaces around it, else where one section only has it.

    Args:
      text: for instance `history._step*config.batch_size*1024`.
      names: all full names of the imported runs, or of a table's columns.
      where: what to call the text in errors, say `--column loss`.
      holder: what has the names, in errors: `the runs` or `the table`.

    Raises:
      InputError: a name is unknown or in several sections, texts are multiplied, or the text is empty.

    >>> read_expression("_step*512", ["history._step", "config.lr"], "--column data_seen").render()
    'history._step*512'
    >>> read_expression("`Tokens (T)`*1e9", [" Tokens (T)"], "--column data_seen", holder="the table").names()
    [' Tokens (T)']
    """
    for name in (text, text.strip()):
        if name in names:
            return Expression(factors=(Factor(kind="name", value=name),))
    factors = []
    for divides, part in _split(text, where):
        factors.append(_read_factor(part, names, where, holder).model_copy(update={"divides": divides}))
    if len(factors) > 1 and any(factor.kind == "text" for factor in factors):
        raise InputError(f"{where}={text}: a text cannot be multiplied; write it alone, or a number without quotes")
    return Expression(factors=tuple(factors))


def _split(text: str, where: str) -> list[tuple[bool, str]]:
    """Returns the factors' texts, each with whether the product is divided by it."""
    parts, divides = [(False, "")], False
    for piece in TOKEN.findall(text):
        if piece in ("*", " / "):
            divides = piece != "*"
            parts.append((divides, ""))
        else:
            parts[-1] = (divides, parts[-1][1] + piece)
    if not all(part.strip() for _, part in parts):
        raise InputError(f"{where}={text}: a factor is empty; write NAME, NAME*NAME or NAME / NUMBER")
    return [(is_divisor, part.strip()) for is_divisor, part in parts]


def _read_factor(part: str, names: Collection[str], where: str, holder: str) -> Factor:
    if NUMBER.fullmatch(part):
        return Factor(kind="number", value=part)
    if part[0] in "'\"":
        return Factor(kind="text", value=part[1:-1])
    if part not in names and (call := CALL.fullmatch(part)):
        name = _find_name(call[2].strip().strip("`"), names, where, holder)
        return Factor.model_validate({"kind": "name", "value": name, "function": call[1]})
    return Factor(kind="name", value=_find_name(part.strip("`"), names, where, holder))


def _find_name(name: str, names: Collection[str], where: str, holder: str) -> str:
    if name in names:
        return name
    spaced = [full for full in names if full.strip() == name.strip()]
    if len(spaced) > 1:
        listed = " and ".join(map(repr, spaced))
        raise InputError(f"{where}={name}: is {listed}, but for spaces; write one as it stands, in backquotes")
    if spaced:
        return spaced[0]
    if name.partition(".")[0] not in SECTIONS:
        found = [f"{section}.{name}" for section in SECTIONS if f"{section}.{name}" in names]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{where}={name}: is {' and '.join(found)}; say which")
    is_sectioned = all(full.partition(".")[0] in SECTIONS for full in names)
    bare = {full.partition(".")[2] if is_sectioned else full: full for full in names}
    remedy = suggest(name, names) if len(names) <= 12 or "." in name else suggest(name, bare)
    if len(remedy) > 200:
        remedy = f"leave out --column to see the {len(names)} names"
    have = "have" if holder.endswith("s") else "has"
    raise InputError(f"{where}={name}: {holder} {have} no {name!r}; {remedy}")
