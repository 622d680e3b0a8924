"""Inputs that are made in a second. (No `__init__.py` here: this folder must not hide the package `benchmarks`.)"""

from benchmarks.versus_trl.inputs import Size, Spec

SPEC = Spec(
    sizes={"dot": Size(16, 2, 2, 24)}, vocabulary=512, sources=6, demonstrations=8, pairs=8, prompts=8, prompt=16
)
