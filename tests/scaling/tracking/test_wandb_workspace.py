"""A study's workspace at W&B: one view, at one address, however often it is saved."""

import sys
from types import SimpleNamespace

import pytest

from scaling.specs.base import InputError
from scaling.tracking import wandb_workspace
from scaling.tracking.wandb_workspace import make_workspace, save_workspace


def test_a_missing_package_is_one_line_with_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(InputError, match=r"needs wandb-workspaces, which is not installed; pip install 'scaling\[wan"):
        make_workspace(store, "told", "me")


def test_a_study_is_saved_over_itself_and_not_over_another(store, monkeypatch):
    saved = {}

    class Workspace:
        """A workspace of which nobody knows yet; it notes where it is saved."""

        url = "https://wandb.ai/me/told"

        @classmethod
        def from_url(cls, url):
            """Finds what was saved last, if anything was."""
            if "id" not in saved:
                raise ValueError(url)
            return SimpleNamespace(_internal_id=saved["id"])

        def save(self):
            """Notes name and id."""
            saved.setdefault("names", []).append(self._internal_name)
            saved.setdefault("ids", []).append(self._internal_id)
            saved["id"] = "view-1"
            return self

    workspaces = SimpleNamespace(Workspace=Workspace)
    for name, module in {
        "wandb": SimpleNamespace(Api=lambda: SimpleNamespace(default_entity="me")),
        "wandb_workspaces": SimpleNamespace(workspaces=workspaces),
        "wandb_workspaces.workspaces": workspaces,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(wandb_workspace, "make_workspace", lambda *_: Workspace())
    for project, entity in (("told", None), ("told", "me"), ("other", None)):
        assert save_workspace(store, project, entity) == Workspace.url
    first, again, elsewhere = saved["names"]
    assert first == again != elsewhere
    assert saved["ids"] == ["", "view-1", "view-1"]
