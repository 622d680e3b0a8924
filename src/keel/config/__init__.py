"""The recipe: typed, strict, one object tree for YAML, flags and Python.

recipe = load_recipe("recipe.yaml", {"ppo.kl.coef": 0.02})
recipe.ppo.kl.coef                                      0.02
print(dump_recipe(recipe))                              YAML that loads to the same recipe
"""

from keel.config.dump import dump_recipe
from keel.config.guards import Guards
from keel.config.load import load_recipe
from keel.config.parts import EMBEDDED, Critic, KLPenalty, Lora, Model, Optimizer, RewardTerm, Sampling
from keel.config.preferences import Columns, Labels, People, Preferences
from keel.config.recipe import (
    Checkpoints,
    Evaluation,
    Log,
    Ppo,
    Recipe,
    Reward,
    Sft,
    Supervised,
)

__all__ = [
    "EMBEDDED",
    "Checkpoints",
    "Columns",
    "Critic",
    "Evaluation",
    "Guards",
    "KLPenalty",
    "Labels",
    "Log",
    "Lora",
    "Model",
    "Optimizer",
    "People",
    "Ppo",
    "Preferences",
    "Recipe",
    "Reward",
    "RewardTerm",
    "Sampling",
    "Sft",
    "Supervised",
    "dump_recipe",
    "load_recipe",
]
