"""Where the numbers of a stage can be looked at beside metrics.jsonl: TensorBoard, Weights & Biases, MLflow, trackio.

Each has one module, which alone imports it, and only where a recipe names it. Nothing leaves the machine unless an
environment variable of the tracker itself says so; docs/boards.md lists them.
"""

from keel.boards.board import Board, Title
from keel.boards.choose import boards_of, require

__all__ = ["Board", "Title", "boards_of", "require"]
