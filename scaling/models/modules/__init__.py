"""The layers as Flax modules: the same kinds, in the same order, in files of the same names."""
