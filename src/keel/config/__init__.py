"""The recipe: typed, strict, one object tree for YAML, flags and Python.

recipe = load_recipe("recipe.yaml", {"rl.kl.coef": 0.02})
recipe.rl.kl.coef                                      0.02
print(dump_recipe(recipe))                              YAML that loads to the same recipe
"""

from keel.config.dump import dump_recipe
from keel.config.guards import Guards
from keel.config.load import load_recipe
from keel.config.methods import OFFLINE, ONLINE, PRESETS, Method, Preset
from keel.config.online import Online
from keel.config.parts import EMBEDDED, Aggregated, Critic, KLPenalty, Lora, Model, Optimizer, RewardTerm, Sampling
from keel.config.preferences import Columns, Labels, People, Preferences
from keel.config.recipe import Checkpoints, Evaluation, Log, Recipe
from keel.config.supervised import Dpo, Reward, Sft, Supervised

__all__ = [
    "EMBEDDED",
    "OFFLINE",
    "ONLINE",
    "PRESETS",
    "Aggregated",
    "Checkpoints",
    "Columns",
    "Critic",
    "Dpo",
    "Evaluation",
    "Guards",
    "KLPenalty",
    "Labels",
    "Log",
    "Lora",
    "Method",
    "Model",
    "Online",
    "Optimizer",
    "People",
    "Preferences",
    "Preset",
    "Recipe",
    "Reward",
    "RewardTerm",
    "Sampling",
    "Sft",
    "Supervised",
    "dump_recipe",
    "load_recipe",
]
