"""A report of any table: its sections, each made from what varies, and the answer that they add up to."""

from __future__ import annotations

import collections
import dataclasses
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.laws.registry import get_law
from analysis.report.card import make_card
from analysis.report.cells import make_cells
from analysis.report.ideas import TITLE as IDEAS
from analysis.report.ideas import make_ideas
from analysis.report.performance import Performance, make_performance, study_performance
from analysis.report.section import Section
from analysis.report.settings import TITLE as SETTINGS
from analysis.report.settings import make_settings
from analysis.report.size_and_data import TITLE as SIZE_AND_DATA
from analysis.report.size_and_data import make_size_and_data
from analysis.report.subject import ReportOptions, Subject, study_table
from analysis.report.surfaces import no_surfaces, study_surfaces
from analysis.report.trust import gather, make_trust
from analysis.tables.table import read_table
from analysis.uncertainty.bootstrap import Bootstrap
from scaling.specs.base import InputError
from scaling.specs.fits import LAW
from scaling.store.outline import cell_labels
from scaling.store.record import CorruptStoreError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from scaling.specs.base import Json

MOST_SENTENCES = 5
Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
      subject: what it is about.
      answer: at most five sentences, and what they rest on.
      rests_on: which rows and which law that is.
      sections: in order.
      card: what papers leave out, for programs.
      faults: of this program, by which some section could not be made: what was being made, with the trace.
    """

    subject: Subject
    answer: tuple[str, ...]
    rests_on: str
    sections: tuple[Section, ...]
    card: Json
    faults: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Section:
        return next(section for section in self.sections if section.name == name)

    @property
    def figure(self) -> Figure | None:
        """The first figure; None where nothing could be drawn."""
        return next((picture.figure for section in self.sections for picture in section.pictures()), None)

    @property
    def notices(self) -> list[str]:
        """Every warning of every step."""
        return [*self.subject.notices, *(notice for section in self.sections for notice in section.notices)]


def make_report(source: str, table: pd.DataFrame | None = None, options: ReportOptions | None = None) -> Report:
    """Returns the report of a store, an import or a file; a section that cannot be made says why.

    Args:
      source: a store, a folder of imported runs, or a file.
      table: its rows in our column names; read from `source` where it is left out.
      options: what the caller asks.

    Raises:
      AnalysisError: there is no such source, no usable row, or an option names what the table does not have.
      CorruptStoreError: a record of the store cannot be read.

    >>> import tempfile, pandas as pd
    >>> file = tempfile.NamedTemporaryFile(suffix=".csv")
    >>> pd.DataFrame({"data_unique": [10, 20, 40, 80], "loss": [3.0, 2.0, 1.5, 1.3]}).to_csv(file.name, index=False)
    >>> [section.name for section in make_report(file.name).sections][:2]
    ['performance', 'size_and_data']
    """
    options = options or ReportOptions()
    subject = study_table(source, read_table(source) if table is None else table, options)
    faults: list[str] = []

    def attempt(what: str, make: Callable[[], Made], instead: Callable[[str], Made]) -> Made:
        """Returns what is made or, where that fails, what says why."""
        try:
            return make()
        except (AnalysisError, InputError, CorruptStoreError) as error:
            return instead(str(error))
        except Exception as error:  # noqa: BLE001  (a page that is there without one section is better than none)
            faults.append(f"{what}\n{traceback.format_exc()}")
            return instead(f"a fault of this program ({type(error).__name__}: {error}); please report it")

    no_fits: list[str] = []

    def without(why: str) -> Performance:
        no_fits.append(why)
        return Performance(None, Bootstrap(get_law(LAW), {}, {}, {}, seed=0), [], None, None, [], [])

    performance = attempt("performance", lambda: study_performance(subject), without)
    surfaces = attempt(
        "surfaces", lambda: study_surfaces(subject, performance.lines), lambda why: no_surfaces(subject, why)
    )
    builders: dict[str, tuple[str, Callable[[], Section]]] = {
        "performance": ("Performance", lambda: make_performance(subject, performance)),
        "size_and_data": (SIZE_AND_DATA, lambda: make_size_and_data(subject, surfaces)),
        "settings": (SETTINGS, lambda: make_settings(subject, surfaces)),
        "ideas": (IDEAS, lambda: make_ideas(subject, performance, surfaces)),
        "trust": ("How far to trust it", lambda: make_trust(subject, performance, surfaces)),
        "cells": ("Cells, and how to do it again", lambda: make_cells(subject)),
    }
    sections = tuple(
        attempt(name, make, lambda why, name=name, title=title: Section(name, title, missing=(why,)))  # type: ignore[misc]
        for name, (title, make) in builders.items()
    )
    fits = [fit for fit, _ in gather(subject, performance, surfaces).values()]
    return Report(
        subject=subject,
        answer=_answer(subject, sections),
        rests_on=_rests_on(subject, fits, no_fits),
        sections=sections,
        card=make_card(subject, fits),
        faults=tuple(faults),
    )


def _answer(subject: Subject, sections: Sequence[Section]) -> tuple[str, ...]:
    """Returns the sentences that matter most: one of each kind first, then others."""
    claims = sorted((claim for section in sections for claim in section.claims), key=lambda claim: claim.rank)
    sentences = [f"INCOMPLETE: {text}" for text in _count_missing(subject)]
    seen: collections.Counter[int] = collections.Counter()
    turns = []
    for claim in claims:
        turns.append((seen[claim.rank], claim))
        seen[claim.rank] += 1
    room = MOST_SENTENCES - len(sentences)
    chosen = [claim for _, claim in sorted(turns, key=lambda turn: (turn[0], turn[1].rank))][:room]
    sentences += [claim.text for claim in sorted(chosen, key=lambda claim: claim.rank)]
    if not claims:
        sentences.append(
            f"Nothing that varies here has a law or an order that these {len(subject.runs):,} runs could show."
        )
    return tuple(sentences)


def _count_missing(subject: Subject) -> list[str]:
    if subject.store is None:
        return []
    total = len(cell_labels(subject.store.study))
    done = len(subject.records)
    return [f"{done} of {total} cells have a record; what follows is of those alone."] if done < total else []


def _rests_on(subject: Subject, fits: Sequence[Fit], reasons: Sequence[str]) -> str:
    """Returns which rows and which laws the report rests on."""
    parts = [f"Rests on {len(subject.runs):,} runs with {subject.target}"]
    if subject.left_out:
        parts.append("left out: " + ", ".join(f"{count} where {reason}" for reason, count in subject.left_out.items()))
    laws = collections.Counter((fit.law, fit.objective.name, ", ".join(fit.columns)) for fit in fits)
    if laws:
        told = [
            f"{law} of {columns} ({name}; {count} fit{'s' * (count > 1)})"
            for (law, name, columns), count in laws.items()
        ]
        parts.append(f"laws: {', '.join(told)}")
    parts += [f"no law: {reason}" for reason in reasons]
    return "; ".join(parts) + ". Claims hold at 5 %, corrected for their number where there are several (Holm)."
