"""The study's workspace at W&B: its views of loss, budgets, progress and fits, made by code.

Uses the `wandb-workspaces` package (the extra `wandb`). The panels show what `scaling.tracking.wandb_runs` and
`scaling sync` log.
"""

import hashlib
from typing import Any

from scaling.specs.base import InputError
from scaling.store.store import Store

# Panels fit an axis to what they show; more lines than this in one are no longer told apart.
MOST_LINES = 100


def make_workspace(store: Store, project: str, entity: str) -> Any:
    """Returns a study's workspace, not yet saved: a `wandb_workspaces.workspaces.Workspace`.

    Args:
      store: the store of the study.
      project: where its runs are.
      entity: whose project it is.

    Raises:
      InputError: the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise InputError(
            "--workspace needs wandb-workspaces, which is not installed; pip install 'scaling[wandb]'"
        ) from None
    study = store.study
    metric, name = study["metric"], study["name"]
    final, family = wr.SummaryMetric(metric), wr.Config("family")

    def curve(title: str, x: str, y: str) -> Any:
        return wr.LinePlot(
            title=title, x=x, y=[y], log_x=True, log_y=True, max_runs_to_show=MOST_LINES,
            legend_template="${config:label} ${run:displayName}",
        )  # fmt: skip

    def final_against(title: str, x: Any, colour: Any) -> Any:
        return wr.ScatterPlot(
            title=title, x=x, y=final, z=colour, log_x=True, log_y=True,
            legend_template="${config:label} ${run:displayName}",
        )  # fmt: skip

    budget, num_params = wr.Config("log10_train_flops"), wr.SummaryMetric("num_params")
    sections = [
        ws.Section(
            name="Loss against FLOPs",
            is_open=True,
            panels=[
                curve("evaluation loss against training FLOPs", "train_flops", "eval/loss"),
                final_against(f"final {metric} against training FLOPs", wr.SummaryMetric("train_flops"), num_params),
                wr.LinePlot(
                    title="by family", x="train_flops", y=["eval/loss"], groupby=family, log_x=True, log_y=True,
                    groupby_aggfunc="min",
                ),
            ],
        ),
        ws.Section(
            name="IsoFLOP valleys",
            is_open=True,
            panels=[
                final_against(f"final {metric} against parameters, by log10 of the budget", num_params, budget),
                final_against(f"final {metric} against data", wr.SummaryMetric("data_unique"), num_params),
            ],
        ),
        ws.Section(
            name="Progress of the sweep",
            is_open=True,
            panels=[
                curve("training loss", "data_seen", "train/loss"),
                wr.LinePlot(title="steps a second", x="train_seconds", y=["train/steps_per_second"]),
                wr.BarPlot(title="seconds of wall time", metrics=["wall_seconds"], groupby=family),
                wr.ScatterPlot(title="MFU against size", x=num_params, y=wr.SummaryMetric("mfu"), log_x=True),
            ],
        ),
        ws.Section(
            name="Fits",
            is_open=True,
            panels=[
                wr.WeavePanelSummaryTable(table_name="report/fits"),
                wr.WeavePanelSummaryTable(table_name="report/crossings"),
                wr.MediaBrowser(title="the report's figure", media_keys=["report/figure"]),
            ],
        ),
    ]  # fmt: skip
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name}: scaling",
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=MOST_LINES),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == name],
            pinned_columns=["config:label", "config:num_params", f"summary:{metric}", "run:displayName"],
        ),
    )


def save_workspace(store: Store, project: str, entity: str | None = None) -> str:
    """Saves a study's workspace, in place of the one that this function saved before, and returns its address.

    Raises:
      InputError: the package is not installed.
      wandb.Error: the server does not answer, or refuses.
    """
    import wandb

    api = wandb.Api()
    owner = entity or str(api.default_entity)
    workspace = make_workspace(store, project, owner)
    import wandb_workspaces.workspaces as ws

    # A view's address holds its name; this one is always the same for a study.
    key = hashlib.sha256(f"{owner}/{project}/{store.study['name']}".encode()).hexdigest()[:11]
    workspace._internal_name = f"nw-{key}-v"
    try:
        workspace._internal_id = ws.Workspace.from_url(workspace.url)._internal_id
    except ValueError:  # there is none yet
        workspace._internal_id = ""
    return str(workspace.save().url)
