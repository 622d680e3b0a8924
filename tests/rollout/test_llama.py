"""The family's own decoding: which models it takes, what it reads, and what half precision costs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

import keel.rollout.llama
from keel.data.forest import Forest, Tree, grow
from keel.maths.kl import k3
from keel.models.backbone import bare
from keel.models.passes import Passes
from keel.models.roles import language_role
from keel.rollout.context import LibraryContext
from keel.rollout.generator import Request, Sampling
from keel.rollout.llama import Llama, LlamaContext
from keel.rollout.local import LocalGenerator
from keel.training.annotate import trees_of
from keel.types import Prompt, Rollout

from .conftest import CONFIGS, HEADS, SHAPE, small

NEVER: frozenset[int] = frozenset()
OURS = ("llama", "llama3", "qwen2", "qwen3", "mistral")


@pytest.mark.parametrize("family", CONFIGS)
def test_which_models_are_of_the_family(family: str) -> None:
    assert (Llama.of(small(CONFIGS[family]), torch.float32) is not None) == (family in OURS)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ],
)
def test_a_relative_that_does_something_else_is_left_to_the_library(change: dict[str, object]) -> None:
    config = LlamaConfig(**SHAPE, **HEADS, **change)
    assert Llama.of(small(config), torch.float32) is None


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(("dora", "ours"), [(False, True), (True, False)])
def test_adapters_of_the_plain_kind_are_read(dora: bool, ours: bool) -> None:
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, use_dora=dora)
    model = bare(get_peft_model(small(CONFIGS["llama"]), lora))
    assert (Llama.of(model, torch.float32) is not None) == ours


@pytest.mark.parametrize("family", OURS)
def test_steps_rows_and_selections_as_the_library_has_them(family: str) -> None:
    """Two contexts through the same story: prompts of several lengths, copies, some rows leave, others go on."""
    model = small(CONFIGS[family])
    own = Llama.of(model, torch.float32)
    assert own is not None
    asked = [(7, 8, 9, 10, 11), (5, 6), (9, 12, 30)]
    chance = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        contexts = LibraryContext(model, 0, 40), LlamaContext(own, 40)
        assert torch.allclose(*(context.read(asked) for context in contexts), rtol=0, atol=1e-4)
        for rows in ([0, 0, 1, 2, 2, 2], [1, 3, 5, 4], [2, 0]):
            for context in contexts:
                context.select(torch.tensor(rows))
            for _ in range(15):
                tokens = torch.randint(5, 300, (len(rows),), generator=chance)
                going = torch.rand(len(rows), generator=chance) < 0.9
                logits = [context.append(tokens, going)[going] for context in contexts]
                assert torch.allclose(*logits, rtol=0, atol=1e-4)


def test_a_prompt_is_read_once_for_all_its_samples(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def growing(trees: Sequence[Tree]) -> Forest:
        read.append(sum(len(branch.tokens) for tree in trees for branch in tree.branches))
        return grow(trees)

    monkeypatch.setattr(keel.rollout.llama, "grow", growing)
    asked = [Request(p, s, Sampling(6)) for s in range(8) for p in ((5, 6, 7, 8), (9, 10, 11), (13, 14, 15, 16, 17))]
    LocalGenerator(llama, tokenizer, NEVER).generate(asked)
    assert read == [4 + 3 + 5]  # no copies, no padding


@pytest.mark.parametrize("rows", [[2, 0, 1], [0, 0, 1, 2, 2]], ids=["a prompt each", "shared"])
def test_memory_is_taken_once(rows: list[int]) -> None:
    """A block for each layer's keys and one for its values, and one more, with which growing and leaving take turns."""
    family = Llama.of(small(CONFIGS["llama"]), torch.float32)
    assert family is not None
    sizes: set[int] = set()
    places: set[int] = set()
    with torch.inference_mode():
        context = LlamaContext(family, 40)
        context.read([(7, 8, 9, 10, 11), (5, 6), (9, 12, 30)])
        context.select(torch.tensor(rows))
        for step in range(40):
            if step == 30:
                context.select(torch.tensor([2, 0]))
            count = len(rows) if step < 30 else 2
            context.append(torch.full((count,), 7), torch.ones(count, dtype=torch.bool))
            blocks = [columns.untyped_storage() for pair in context._memory._own for columns in pair]
            sizes |= {block.nbytes() for block in blocks}
            places |= {block.data_ptr() for block in blocks}
    assert len(sizes) == 1
    assert len(places) == 2 * len(family.layers) + 1


def test_the_weights_of_the_moment_are_read(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model = copy.deepcopy(llama)
    generator = LocalGenerator(model, tokenizer, NEVER, products=torch.bfloat16)
    asked = [Request((5, 6, 7), seed, Sampling(12)) for seed in range(4)]
    before = generator.generate(asked)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(2)
    assert generator.generate(asked) != before


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_half_precision_products_keep_sampler_and_trainer_together(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """With products in bfloat16 on both sides the two differ by rounding, in fp32 by next to nothing."""
    asked = [Request((5, 6, 7 + i), seed, Sampling(24)) for i in range(4) for seed in range(4)]
    gaps = {}
    for products in (torch.float32, torch.bfloat16):
        model = small(CONFIGS[family])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)  # logits of a few nats, as trained models have them
        answers = LocalGenerator(model, tokenizer, NEVER, products=products).generate(asked)
        rollouts = [
            Rollout(
                Prompt(str(i), ()), one.prompt, said.tokens, (True,) * 24, said.logprobs, "", said.stop, one.seed, 0
            )
            for i, (one, said) in enumerate(zip(asked, answers, strict=True))
        ]
        role = language_role(model, None, 0, Passes(products))
        with torch.no_grad():
            trained = role.logprobs(grow(trees_of(rollouts)), 1.0)
        sampled = torch.tensor([x for one in rollouts for x in one.logprobs])
        gaps[products] = k3(sampled, trained).mean().item()
    assert gaps[torch.float32] < 1e-9
    assert gaps[torch.bfloat16] < 1e-3
