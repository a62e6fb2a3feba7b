# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A study in a notebook
#
# Two sizes of network on handwritten digits: how fast does the error fall with the number of labelled examples, and
# does the larger one pay? Half a minute on two CPU cores. `jupytext --to ipynb notebook.py` makes a notebook of this
# file; Jupyter with jupytext opens it as it is.

# %%
from analysis import plot_fit
from launch import run
from scaling import AdamWSpec, Cell, DataSpec, DigitsSource, MLPSpec, Series, Study, TrainingSpec, ladder

# %% [markdown]
# A study is a value: labelled series of cells, one cell a training run. `ladder` gives subset
# sizes, each a part of the next.


# %%
def cells(num_params):
    """Returns the cells of one size of network, two seeds each."""
    return tuple(
        Cell(
            model=MLPSpec(num_params=num_params),
            data=DataSpec(source=DigitsSource(), size=m, evaluation_size=400),
            training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=100),
            seed=seed,
        )
        for m in ladder(50, 800)
        for seed in range(2)
    )


study = Study(
    name="digits_by_size",
    question="How fast does the error fall with labelled examples, and does the larger network pay?",
    metric="error",
    series=(Series(label="3k", cells=cells(3_000)), Series(label="30k", cells=cells(30_000))),
)
len(study.cells)

# %% [markdown]
# `run` trains what the store lacks, and shows a bar. It is safe to interrupt and to run again: complete cells are kept.

# %%
result = run(study, store="runs/digits_by_size")
result

# %% [markdown]
# Every evaluation is a row of one table. Its first columns are the same for all studies; fields that vary follow them.

# %%
table = result.table()
table[table["is_final"]].pivot_table(index="data_unique", columns="label", values="error").round(3)

# %% [markdown]
# The law that the study declares, here the default, with 95 % intervals over resampled seeds.

# %%
fits = result.fit(resamples=200)
fits["30k"]

# %%
plot_fit(fits["30k"], table[table["label"] == "30k"])

# %% [markdown]
# The page has all of this, the crossings, and who is ahead at which size.

# %%
result.report()
