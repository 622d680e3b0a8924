"""Weights & Biases. It writes into DIR/wandb and uploads nothing, unless WANDB_MODE says `online`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keel.boards.board import Known, Title, fresh, tame
from keel.errors import UserError


class WandB:
    """A run of Weights & Biases for each stage.

    The steps are those of the `step` metric: a run that goes on repeats the steps after its checkpoint, with the same
    numbers, and W&B's own count only goes up.
    """

    def __init__(self, home: Path, folder: Path, title: Title, note: Callable[[str], None]) -> None:
        self._home, self._title, self._note = home, title, note
        self._known = Known(folder / "wandb.run")
        self._run: Any = None
        self._table: Any = None

    def begin(self, done: int) -> None:
        """UserError where W&B refuses, such as without a login."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would be sent in offline mode, too
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        known = self._known.name(done)
        try:
            self._run = wandb.init(
                project=self._title.project,
                name=self._title.run,
                id=known or self._known.keep(fresh()),
                dir=os.environ.get("WANDB_DIR") or str(self._home),
                mode=mode,
                resume="allow" if known and mode == "online" else None,
                config=dict(self._title.settings),
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_git=True,
                    save_code=False,
                    x_disable_stats=True,
                    x_transaction_log_flush_interval=1.0,  # s; a process that is killed loses no more
                ),
            )
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"Weights & Biases refuses the run ({error}); mend that, or leave it out of log.to"
            ) from error
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self._table = wandb.Table
        if mode == "offline":
            kept = Path(self._run.dir).parent
            self._note(f"Weights & Biases: kept in {kept}; `wandb sync {kept}` uploads it, WANDB_MODE=online at once")

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"step": step, **metrics})

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """As cells of a table, which W&B shows as they are."""
        rows = [[step, name, tame(words)] for name, words in texts.items()]
        self._run.log({"step": step, "texts": self._table(columns=["step", "name", "text"], data=rows)})

    def end(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
