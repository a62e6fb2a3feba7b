"""Networks and estimators of any size: families, layers as data and as Flax modules, counts of parameters and FLOPs."""
