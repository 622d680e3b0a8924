"""trackio. It writes where `trackio show` looks: into TRACKIO_DIR, or the folder of its own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from keel.boards.board import Known, Title, as_code, fresh
from keel.errors import UserError

_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""The variables by which a user sends runs to a Space or a server."""


class Trackio:
    """A run of trackio for each stage.

    Where a stage goes on, its later steps come again with the same numbers; trackio has no way to take some back.
    """

    def __init__(self, folder: Path, title: Title) -> None:
        self._title = title
        self._known = Known(folder / "trackio.run")
        self._trackio: Any = None
        self._markdown: Any = None

    def begin(self, done: int) -> None:
        """UserError where trackio refuses, such as for the name of the project."""
        known = self._known.name(done) or self._known.keep(f"{self._title.run} {fresh()}")
        with _quiet():
            import trackio

            try:
                trackio.init(
                    project=self._title.project,
                    name=known,
                    resume="allow",
                    config=dict(self._title.settings),
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                    embed=False,
                )
            except (ValueError, OSError) as error:
                raise UserError(f"trackio refuses the run ({error}); mend that, or leave it out of log.to") from None
        self._trackio = trackio

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        self._trackio.log(dict(metrics), step=step)

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """As code, for trackio reads Markdown."""
        shown = {name: self._trackio.Markdown(as_code(words)) for name, words in texts.items()}
        self._trackio.log(shown, step=step)

    def end(self) -> None:
        if self._trackio is not None:
            with _quiet():
                self._trackio.finish()
            self._trackio = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the user's screen, no random number of the run used up, and no user's name asked for where the run is
    a local one."""
    before, drawn = constants.HF_HUB_OFFLINE, random.getstate()
    constants.HF_HUB_OFFLINE = before or not any(os.environ.get(name) for name in _ELSEWHERE)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        constants.HF_HUB_OFFLINE = before
        random.setstate(drawn)
