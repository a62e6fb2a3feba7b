"""The W&B stand-in with exported histories: Parquet files that were written once, and rows that are still live."""

import io
import json
from typing import Any

from tests.wandb_server import ServedRun, WandbServer, _describe


class HistoryServer(WandbServer):
    """Serves histories as W&B does: what a run had when it was exported as Parquet, later rows by page.

    Attributes:
      asked: how often each run's history was asked for, by run.
      lost_rows: of each run's history: counted and never given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, int] = {}
        self.lost_rows = 0
        self._exports: dict[str, tuple[str, int]] = {}
        self._described: dict[str, tuple[int, dict[str, Any]]] = {}

    def export(self, run: ServedRun) -> None:
        """Writes the rows that a run has now to a Parquet file, as W&B does for runs that have ended."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = run.rows
        names = list(dict.fromkeys(name for row in rows for name in row))
        file = io.BytesIO()
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), file)
        place = f"export/{run.project}/{run.name}.parquet"
        self.uploads[place] = file.getvalue()
        self._exports[run.name] = (place, len(rows))

    def _list_runs(self, variables: dict[str, Any], query: str) -> dict[str, Any]:
        answer = super()._list_runs(variables, query)
        for edge in answer["project"]["runs"]["edges"] if answer["project"] else []:
            edge["node"]["historyLineCount"] += self.lost_rows
        return answer

    def _one_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = str(variables.get("runName") or variables.get("run") or variables.get("name"))
        run = self.runs.get((self._project_of(variables), name))
        if run is None:
            return {"project": {"run": None}}
        if "liveKeys" in variables:
            self.asked[name] = self.asked.get(name, 0) + 1
        place, exported = self._exports.get(name, ("", 0))
        lines = len(run.lines.get("wandb-history.jsonl", {}))
        live = [] if exported == lines else run.rows[exported:]
        urls = [self._upload_url(place)] if place else []
        low, high = variables.get("minStep") or 0, variables.get("maxStep") or 0
        page = [json.dumps(row) for row in live if low <= row["_step"] < high]
        history = {"parquetHistory": {"parquetUrls": urls, "liveData": live}, "history": page, "projectId": "1"}
        return {"project": {"internalId": "1", "run": self._describe_once(run, lines) | history}}

    def _describe_once(self, run: ServedRun, lines: int) -> dict[str, Any]:
        """Returns a run's description; reading all rows for it again would make long histories slow."""
        known = self._described.get(run.name)
        if known is None or known[0] != lines:
            known = self._described[run.name] = (lines, _describe(run))
        return known[1]
