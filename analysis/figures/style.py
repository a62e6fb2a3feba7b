"""Colours, markers, names and axes that all figures share; figures as files and as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from analysis.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from analysis.fitting.fit import Fit


# One hue a family (Okabe and Ito's colours, safe for colour-blind readers), one shade a size within it.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#555555")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
SHADES = ("#A6D0EC", "#0072B2", "#00263D")  # from light to dark through the first hue, for sizes

DPI = 150  # of figures that are pixels

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "scaling",  # equal figures become equal files
}

NAMES_OF_PARAMETRIZATIONS = {"standard": "standard", "mup": "μP", "completep": "CompleteP"}
NAMES = {
    "num_params": "model size N",
    "data_seen": "training data D",
    "data_unique": "unique data m",
    "train_flops": "training compute C (FLOPs)",
    "bits_per_byte": "bits per byte",
    "error": "error rate",
    "r2": "R²",
}


WIDTH = 100  # letters of a title's line


def name_axis(fit: Fit, name: str) -> str:
    """Returns what stands beside an axis: the column in words, with its unit where the law tells one."""
    unit = fit.form.units.get(name)
    return f"{NAMES.get(name, name)} ({unit})" if unit else NAMES.get(name, name)


def make_shades() -> Colormap:
    """Returns the colours of sizes, from light for the smallest to dark."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sizes", SHADES)


def tidy_log_axis(axis: Any, low: float, high: float) -> None:
    """Gives a logarithmic axis few labels that people can read, also where it spans less than a decade."""
    from matplotlib import ticker

    from analysis.figures.ticks import SeenMinors

    decades = np.log10(high / low)
    narrow = decades < 0.45
    subs = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0) if decades > 1 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(
        ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]) if narrow else ticker.LogLocator(subs=subs, numticks=12)
    )
    axis.set_minor_locator(ticker.NullLocator() if narrow else SeenMinors())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: format_size(value)))
    axis.set_minor_formatter(ticker.NullFormatter())


def format_size(value: float) -> str:
    """Returns a number for an axis.

    >>> [format_size(value) for value in (0.25, 3.5, 20000, 1e9, 2.5e18)]
    ['0.25', '3.5', '20,000', '10⁹', '2.5·10¹⁸']
    """
    if 1e-3 <= abs(value) < 1e7 or value == 0:
        return f"{value:,.7g}"
    mantissa, _, power = f"{value:.3e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    front = f"{float(mantissa):g}"
    return f"10{raised}" if front == "1" else f"{front}·10{raised}"


def render_svg(figure: Figure) -> str:
    """Returns a figure as an SVG element to stand in a page; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, path: str) -> None:
    """Writes a figure; the suffix chooses the format.

    Raises:
      AnalysisError: the suffix is no figure format, or the file cannot be written.
    """
    try:
        with mpl.rc_context(STYLE):
            figure.savefig(path, dpi=DPI)
    except ValueError:
        raise AnalysisError(f"--figure {path!r} is no figure file; end it in .svg, .pdf or .png") from None
    except OSError as error:
        raise AnalysisError(f"--figure {path!r} cannot be written ({error.strerror}); choose another file") from None
