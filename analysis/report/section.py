"""A section of a report: what it says, shows and warns of, for the page, the terminal and programs alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From what matters most to a reader, for the answer at the top.
LEAD, OPTIMUM, SETTING, SAVING, SLOPE, OPEN = range(6)


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; what is aside stands smaller, and commands stand as they are typed."""

    text: str
    is_aside: bool = False
    is_code: bool = False


@dataclasses.dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
      name: for programs.
      title: above it.
      rows: its rows, of the same columns.
      note: below the title.
      wrap: columns whose text may be broken.
      is_folded: whether a reader unfolds it first.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""
    wrap: tuple[str, ...] = ()
    is_folded: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with what it shows in words."""

    name: str
    figure: Figure
    caption: str


Block = Text | Rows | Picture


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the answer, and its place among others."""

    rank: int
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
      name: for programs, and of the place in the page.
      title: above it.
      blocks: what it shows, in order.
      claims: what it adds to the answer.
      notices: every warning of every step behind it.
      missing: why it, or a part of it, could not be made.
    """

    name: str
    title: str
    blocks: tuple[Block, ...] = ()
    claims: tuple[Claim, ...] = ()
    notices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def tables(self) -> list[Rows]:
        """Returns its tables."""
        return [block for block in self.blocks if isinstance(block, Rows)]

    def pictures(self) -> list[Picture]:
        """Returns its figures."""
        return [block for block in self.blocks if isinstance(block, Picture)]


def tell(notices: Iterable[Any], what: str = "") -> list[str]:
    """Returns notices as text, each once, under the name of what they are of."""
    return list(dict.fromkeys(f"{what}: {notice}" if what else str(notice) for notice in notices))
