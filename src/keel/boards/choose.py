"""From the names in a recipe to boards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from keel.boards.board import Board, Title
from keel.errors import UserError

NEEDS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "alembic"),
    "trackio": ("trackio",),
}
"""The packages that a board imports, as they are imported."""
_INSTALL: Mapping[str, str] = {
    "tensorboard": "pip install tensorboard",
    "wandb": "pip install wandb",
    "mlflow": "pip install mlflow-skinny",
    "trackio": "pip install trackio",
}


def require(names: Iterable[str]) -> None:
    """UserError where what a board needs is not installed."""
    for name in names:
        missing = [module for module in NEEDS[name] if not _is_there(module)]
        if missing:
            raise UserError(f"log.to names {name}, but {' and '.join(missing)} cannot be found; {_INSTALL[name]}")


def boards_of(names: Iterable[str], home: Path, folder: Path, title: Title, note: Callable[[str], None]) -> list[Board]:
    """The boards of a stage, each once. `home` is the run's folder and `folder` the stage's; `note` tells the user."""
    wanted = tuple(dict.fromkeys(names))
    require(wanted)
    return [_board(name, home, folder, title, note) for name in wanted]


def _board(name: str, home: Path, folder: Path, title: Title, note: Callable[[str], None]) -> Board:
    match name:
        case "tensorboard":
            from keel.boards.tensorboard import TensorBoard

            return TensorBoard(folder / "events")
        case "wandb":
            from keel.boards.wandb import WandB

            return WandB(home, folder, title, note)
        case "mlflow":
            from keel.boards.mlflow import MLflow

            return MLflow(home, folder, title, note)
        case "trackio":
            from keel.boards.trackio import Trackio

            return Trackio(folder, title)
        case _:
            raise ValueError(f"there is no board {name}")


def _is_there(module: str) -> bool:
    """A folder of that name in the working directory, such as W&B leaves, is no package."""
    found = find_spec(module)
    return found is not None and found.origin is not None
