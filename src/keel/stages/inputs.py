"""Models as inputs of a stage."""

from __future__ import annotations

from pathlib import Path

from keel.data.place import place
from keel.stages.fingerprints import of_file, of_folder
from keel.stages.lineage import Input
from keel.stages.workspace import Workspace


def model_read(space: Workspace, path: Path, name: str) -> dict[str, Input]:
    """The model under this name, and the file of the chat template where the recipe names one."""
    folder = place(path)
    found = {name: Input(space.name(path), of_folder(folder) if folder.is_dir() else str(path))}
    template = space.recipe.model.template
    if template not in ("auto", "plain"):
        found["template"] = Input(template, of_file(place(template)))
    return found
