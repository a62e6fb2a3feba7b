"""`scaling report`: fits, crossing points and order as text, and with the figure as one HTML file."""

import argparse

from launch.commands.arguments import add_json
from launch.commands.sources import print_warnings
from launch.exits import DONE
from launch.text import print_json, render_table
from scaling.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--out", metavar="FILE.html", help="default STORE/report.html")
    parser.add_argument("--figure", metavar="FILE", help="write the figure by itself too, as .svg, .pdf or .png")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints fits, crossing points and order, and writes them with the figure as one HTML file."""
    from analysis.figures.style import save_figure
    from analysis.fit_table import fit_rows
    from analysis.report.findings import crossing_rows, find_all, order_rows
    from analysis.report.page import draw_figure, write_page

    store = Store.open(options.store)
    findings = find_all(store)
    path = options.out or str(store.path / "report.html")
    write_page(findings, str(store.path), path)
    if options.figure:
        save_figure(draw_figure(findings), options.figure)
    labels = list(dict.fromkeys(findings.points["label"]))
    fits = fit_rows(findings.bootstrap, labels)
    crossings = crossing_rows(findings.crossings)
    if options.json:
        says = {"says": findings.sentences + findings.slopes, "notices": findings.notices}
        order = order_rows(findings.order)
        print_json({"report": path, "fits": fits, "crossings": crossings, "order": order, **says})
        return DONE
    print(f"Fitted laws, {findings.metric} = {findings.bootstrap.law.formula.partition('=')[2].strip()}\n")
    print(render_table(fits))
    print_warnings(findings.notices, list(findings.bootstrap.fits.values()))
    print("\nCrossing points of the fitted laws\n")
    print(render_table(crossings))
    print("\n" + "\n".join(findings.sentences))
    print(f"\nreport: {path}")
    return DONE
