"""The user's files, each read once: at the check before the first stage, and then whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from keel.config import Labels as LabelSettings
from keel.data.formats import Rows, read_comparisons, read_demonstrations, read_prompts, read_rated
from keel.preferences.votes_file.columns import COUNTED, Named
from keel.preferences.votes_file.history import History, read_history
from keel.types import Demonstration, Preference, Prompt, Ranking, Rated

T = TypeVar("T")


class Sources:
    """Rows by where they come from. What was dropped in reading is said once, through `note`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._read: dict[tuple[Any, ...], Any] = {}

    def demonstrations(self, source: str, columns: Mapping[str, str]) -> Rows[Demonstration]:
        """See `keel.data.formats.read_demonstrations`."""
        return self._rows(read_demonstrations, source, columns)

    def comparisons(self, source: str, columns: Mapping[str, str]) -> Rows[Preference | Ranking]:
        """See `keel.data.formats.read_comparisons`."""
        return self._rows(read_comparisons, source, columns)

    def rated(self, source: str, columns: Mapping[str, str]) -> Rows[Rated]:
        """See `keel.data.formats.read_rated`."""
        return self._rows(read_rated, source, columns)

    def prompts(self, source: str, columns: Mapping[str, str]) -> Rows[Prompt]:
        """See `keel.data.formats.read_prompts`."""
        return self._rows(read_prompts, source, columns)

    def labels(self, settings: LabelSettings) -> History:
        """See `keel.preferences.votes_file.history.read_history`; `settings.data` must name a table."""
        given = Named(
            settings.prompt,
            settings.first,
            settings.second,
            settings.annotators,
            settings.id or COUNTED,
            values=dict(settings.values),
        )
        key = (read_history, settings.model_dump_json())
        if key not in self._read:
            self._read[key] = read_history(str(settings.data), given)
        labels: History = self._read[key]
        return labels

    def _rows(
        self, read: Callable[[str, Mapping[str, str]], Rows[T]], source: str, columns: Mapping[str, str]
    ) -> Rows[T]:
        key = (read, source, *sorted(columns.items()))
        if key not in self._read:
            self._read[key] = read(source, columns)
            self._note(self._read[key].summary())
        rows: Rows[T] = self._read[key]
        return rows
