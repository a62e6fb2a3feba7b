"""Tables of raw runs under a mapping, and histories to make them of."""

from launch.imports.mapping import TableMapping, build_table


def build(folder, columns, **parts):
    return build_table(folder, TableMapping(columns=columns, **parts), list(folder.runs()))


def curve(steps, **extra):
    return [{"_step": step, "eval/loss": 4.0 - step / 100, **extra} for step in steps]
