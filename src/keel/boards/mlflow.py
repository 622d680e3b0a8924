"""MLflow. It writes into the database DIR/mlflow.db, or wherever MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keel.boards.board import Known, Title, tame
from keel.errors import UserError

_AT_ONCE = 100
"""Parameters that MLflow takes in one call, and metrics are fewer."""
_LONGEST = 500
"""Characters of a parameter; more is refused by some servers."""


class MLflow:
    """A run of MLflow for each stage, in the experiment of the project's name.

    Where a stage goes on, its later steps come again with the same numbers; MLflow has no way to take some back, and
    counts the latest.
    """

    def __init__(self, home: Path, folder: Path, title: Title, note: Callable[[str], None]) -> None:
        self._home, self._title, self._note = home, title, note
        self._known = Known(folder / "mlflow.run")
        self._client: Any = None
        self._run = ""
        self._metric: Any = None
        self._refused: type[Exception] = UserError

    def begin(self, done: int) -> None:
        """UserError where MLflow refuses, such as where its server is not there."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._metric, self._refused = Metric, MlflowException
        given = os.environ.get("MLFLOW_TRACKING_URI")
        try:
            client = MlflowClient(tracking_uri=given or f"sqlite:///{self._home.absolute() / 'mlflow.db'}")
            known = self._known.name(done)
            if known is None:
                own = None if given else (self._home.absolute() / "mlflow").as_uri()
                known = self._known.keep(self._new_run(client, own))
            else:
                client.update_run(known, status="RUNNING")
        except MlflowException as error:
            raise UserError(f"MLflow refuses the run ({error}); mend that, or leave it out of log.to") from error
        self._client, self._run = client, known

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        """Numbers beyond the range of a database, such as ∞, become the largest that it holds."""
        now = int(1000 * time.time())
        rows = [self._metric(name, float(value), now, step) for name, value in metrics.items()]
        self._send("log_batch", rows)

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """As plain-text files."""
        for name, words in texts.items():
            self._send("log_text", tame(words), f"texts/{step:06d}/{name}.txt")

    def end(self) -> None:
        self._send("set_terminated")
        self._client = None

    def _new_run(self, client: Any, artifacts: str | None) -> str:
        found = client.get_experiment_by_name(self._title.project)
        place = client.create_experiment(self._title.project, artifacts) if found is None else found.experiment_id
        run: str = client.create_run(place, run_name=self._title.run).info.run_id
        from mlflow.entities import Param

        params = [Param(name, str(value)[:_LONGEST]) for name, value in self._title.settings.items()]
        for start in range(0, len(params), _AT_ONCE):
            client.log_batch(run, params=params[start : start + _AT_ONCE])
        return run

    def _send(self, method: str, *given: Any) -> None:
        """A server that is gone is said once, and then left alone: metrics.jsonl has everything."""
        if self._client is None:
            return
        try:
            getattr(self._client, method)(self._run, *given)
        except self._refused as error:
            self._client = None
            self._note(f"MLflow took no more ({error}); metrics.jsonl has every number, and the run goes on")
