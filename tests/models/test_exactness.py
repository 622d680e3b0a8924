"""A forest gives the numbers and gradients of separately padded sequences, and no branch feels its neighbours."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import keel.data.forest
import keel.models.roles
from keel.data.forest import Branch, Forest, Tree, grow, plan
from keel.errors import UserError
from keel.maths.logprobs import Hold, token_logprobs
from keel.models import attention, llama
from keel.models.adapters import Lora
from keel.models.backbone import Backbone
from keel.models.decoder import Decoder
from keel.models.heads import ScalarHead
from keel.models.passes import Passes
from keel.models.roles import language_role
from keel.training.batches import micro_batches

from .small import CAUSAL_CONFIGS, CONFIGS, WINDOW, Numbers, build, gradients, padded, random_trees, some, widen

Head = Tensor


def packed(decoder: Decoder, head: Tensor, trees: Sequence[Tree]) -> Numbers:
    forest = grow(trees, decoder.layout)
    hidden = decoder.hidden(forest)
    numbers = hidden @ head
    logprobs = token_logprobs(hidden[forest.sources], decoder.logits, forest.labels, hold=Hold(7))
    return Numbers(logprobs, numbers[forest.sources], numbers[forest.ends])


def check(ours: Numbers, theirs: Numbers, tolerance: float) -> None:
    for name in ("logprobs", "values", "scores"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=tolerance)


def check_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    scale = max(grad.abs().max() for grad in theirs.values())
    assert scale > 0.01
    for name, grad in theirs.items():
        assert (ours[name] - grad).abs().max() <= tolerance * max(1.0, scale), name


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", CONFIGS)
def test_numbers_and_gradients_equal_padded_batches(family: str, side: str) -> None:
    model = build(CONFIGS[family])
    head = torch.randn(24, generator=torch.Generator().manual_seed(1))
    decoder = Decoder(copy.deepcopy(model))
    assert decoder.layout == "forest"
    for seed in range(3):
        trees = random_trees(random.Random(seed))
        ours, theirs = packed(decoder, head, trees), padded(model, head, trees, side)
        check(ours, theirs, 1e-5)
        ours.loss().backward()
        theirs.loss().backward()
        check_gradients(gradients(decoder.model), gradients(model), 1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_in_double_precision_to_ten_digits(family: str) -> None:
    model = build(CONFIGS[family], torch.float64)
    head = torch.randn(24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    decoder = Decoder(widen(copy.deepcopy(model)))
    assert decoder.layout == "forest"
    widen(model)
    model.set_attn_implementation("by_the_book")
    trees = random_trees(random.Random(7))
    ours, theirs = packed(decoder, head, trees), padded(model, head, trees, "right")
    check(ours, theirs, 1e-10)
    ours.loss().backward()
    theirs.loss().backward()
    check_gradients(gradients(decoder.model), gradients(model), 1e-10)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_neighbours_token_changes_no_gradient_at_all(family: str) -> None:
    chance = random.Random(3)
    decoder = Decoder(build(CONFIGS[family]))
    head = torch.randn(24, generator=torch.Generator().manual_seed(1))

    def branch(length: int, trained: bool) -> Branch:
        return Branch(some(chance, length), (trained,) * length)

    # lengths such that blocks are padded: the slots beyond a short branch must not leak either
    mine = branch(7, True)
    trees = [
        Tree(some(chance, 6), (branch(8, False), mine, branch(7, False))),
        Tree(some(chance, 6), (branch(8, False), branch(7, False))),
        Tree(some(chance, 4), (branch(9, False),)),
    ]

    def gradient(trees: Sequence[Tree]) -> tuple[Tensor, dict[str, Tensor]]:
        forest = grow(trees)
        hidden = decoder.hidden(forest)
        logprobs = token_logprobs(hidden[forest.sources], decoder.logits, forest.labels)
        (logprobs.sum() + (hidden[forest.ends[1]] * head).sum()).backward()
        return logprobs.detach(), gradients(decoder.model)

    logprobs, before = gradient(trees)
    assert max(grad.abs().max() for grad in before.values()) > 0.1
    for tree, position in [(0, 0), (0, 2), (1, 0), (1, 1), (2, 0)]:
        other = trees[tree].branches[position]
        changed = Branch(tuple((token - 3 + 17) % 58 + 3 for token in other.tokens), other.mask)
        branches = list(trees[tree].branches)
        branches[position] = changed
        edited = list(trees)
        edited[tree] = Tree(trees[tree].trunk, tuple(branches))
        again, after = gradient(edited)
        assert torch.equal(logprobs, again)
        assert all(torch.equal(before[name], after[name]) for name in before)
    edited = [trees[0], Tree(some(chance, 6), trees[1].branches), trees[2]]
    assert all(torch.equal(before[name], grad) for name, grad in gradient(edited)[1].items())
    edited = [Tree(some(chance, 6), trees[0].branches), *trees[1:]]  # its own trunk does matter
    assert not all(torch.equal(before[name], grad) for name, grad in gradient(edited)[1].items())


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gradients_do_not_depend_on_the_split_into_micro_batches(family: str) -> None:
    decoder = Decoder(build(CONFIGS[family]))
    head = torch.randn(24, generator=torch.Generator().manual_seed(1))
    trees = random_trees(random.Random(5), count=6)
    count = sum(sum(branch.mask) for tree in trees for branch in tree.branches)

    def accumulate(budget: int) -> dict[str, Tensor]:
        for places in plan(trees, budget):
            numbers = packed(decoder, head, [trees[place] for place in places])
            ((numbers.logprobs.sum() + numbers.values.square().sum()) / count).backward()
        return gradients(decoder.model)

    whole = accumulate(10_000)
    for budget in (1, 40, 80):
        check_gradients(accumulate(budget), whole, 1e-6)


def test_the_window_is_shorter_than_the_sequences_and_matters() -> None:
    tree = Tree(some(random.Random(0), 2 * WINDOW), (Branch((4, 5, 6), (True,) * 3), Branch((7, 8), (True,) * 2)))
    decoder = Decoder(build(CONFIGS["mistral"]))
    near, far = (*tree.trunk[:-1], 9), (9, *tree.trunk[1:])
    assert near != tree.trunk
    assert far != tree.trunk
    with torch.no_grad():
        end = int(grow([tree]).ends[0])
        hidden = [decoder.hidden(grow([Tree(trunk, tree.branches)]))[end] for trunk in (tree.trunk, near, far)]
    assert not torch.equal(hidden[0], hidden[1])
    assert torch.equal(hidden[0], hidden[2])  # two layers reach 2·(window − 1) back: not as far as the first token


@pytest.mark.parametrize("family", CAUSAL_CONFIGS)
def test_models_that_cannot_take_the_mask_read_one_sequence_per_branch(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = build(CAUSAL_CONFIGS[family])
    own = model.config._attn_implementation
    head = torch.randn(24, generator=torch.Generator().manual_seed(1))
    with caplog.at_level(logging.WARNING, logger="keel.models.backbone"):
        decoder = Decoder(copy.deepcopy(model))
    assert decoder.layout == "causal"
    assert type(model).__name__ in caplog.text
    assert "one padded sequence per branch" in caplog.text
    assert decoder.model.config._attn_implementation == own
    trees = random_trees(random.Random(2))
    # a recurrent model reads left padding as well as it can be told to; its own right-padded batch is the reference
    ours, theirs = packed(decoder, head, trees), padded(model, head, trees, "right")
    check(ours, theirs, 1e-5)
    ours.loss().backward()
    theirs.loss().backward()
    check_gradients(gradients(decoder.model), gradients(model), 1e-5)
    with pytest.raises(ValueError, match="causal"):
        decoder.hidden(grow(trees, "forest"))


def test_which_layout_was_chosen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="keel.models.backbone"):
        Decoder(build(CONFIGS["llama"]))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "LlamaForCausalLM: packed forests" in caplog.text


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_forest_grown_causal_gives_the_same_numbers(family: str) -> None:
    decoder = Decoder(build(CONFIGS[family]))
    trees = random_trees(random.Random(4))
    with torch.no_grad():
        one, other = (decoder.hidden(forest)[forest.sources] for forest in (grow(trees), grow(trees, "causal")))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3"])
def test_a_forward_without_blocks_is_the_librarys(family: str) -> None:
    """Decoding with a cache, left-padded prompts: nothing of the forest's attention may show."""
    model = build(CONFIGS[family])
    ids = torch.tensor([[0, 0, 5, 9, 7, 8, 4, 12], [6, 7, 8, 9, 10, 11, 12, 13]])
    mask = (ids != 0).long()

    def decode() -> Tensor:
        with torch.no_grad():
            first = model(input_ids=ids, attention_mask=mask, use_cache=True)
            longer = torch.cat([mask, mask.new_ones(2, 1)], 1)
            position = longer.sum(1, keepdim=True) - 1
            token = torch.tensor([[20], [30]])
            second = model(token, attention_mask=longer, past_key_values=first.past_key_values, position_ids=position)
        return torch.cat([first.logits[:, -1], second.logits[:, -1]])

    before = decode()
    assert Decoder(model).layout == "forest"
    assert model.config._attn_implementation == attention.NAME
    torch.testing.assert_close(decode(), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", next(iter(CAUSAL_CONFIGS))])
def test_no_forest_is_read_before_it_was_moved_to_the_models_device(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Tensor] = []
    read: list[str] = []
    real = Forest.to

    def to(self: Forest, device: torch.device) -> Forest:
        there = replace(real(self, device), positions=self.positions.clone())
        moved.append(there.positions)
        return there

    def watch(owner: object, name: str, place: int) -> None:
        function = getattr(owner, name)

        def watched(*given: Any) -> Tensor:
            assert any(given[place].positions is one for one in moved), name
            read.append(name)
            result: Tensor = function(*given)
            return result

        monkeypatch.setattr(owner, name, watched)

    monkeypatch.setattr(Forest, "to", to)
    for owner, name in ((Backbone, "_packed"), (Backbone, "_padded"), (llama, "hidden")):
        watch(owner, name, 1)
    model = build((CONFIGS | CAUSAL_CONFIGS)[family])
    role = language_role(model, None, 0)
    for micro in micro_batches(random_trees(random.Random(0), 3), None, role):
        role.logprobs(micro.forest, 1.0)
    assert {"_padded", {"llama": "hidden", "gemma2": "_packed"}.get(family, "_padded")} <= set(read)


def test_dropout_is_off() -> None:
    config = copy.deepcopy(CONFIGS["gpt2"])
    assert config.attn_pdrop > 0
    model = build(config).train()
    decoder = Decoder(model)
    forest = grow(random_trees(random.Random(0)))
    assert torch.equal(decoder.hidden(forest), decoder.hidden(forest))
    model.train()
    with pytest.raises(ValueError, match="dropout"):
        decoder.hidden(forest)


def test_bfloat16_products_keep_weights_and_gradients_in_float32() -> None:
    model = build(CONFIGS["llama"])
    head = ScalarHead(torch.randn(24, generator=torch.Generator().manual_seed(1)))
    exact, rounded = Decoder(copy.deepcopy(model)), Decoder(model, Passes(torch.bfloat16))
    forest = grow(random_trees(random.Random(0)))

    def logprobs(decoder: Decoder) -> Tensor:
        hidden = decoder.hidden(forest)
        assert head(hidden).dtype == torch.float32
        return token_logprobs(hidden[forest.sources], decoder.logits, forest.labels)

    ours = logprobs(rounded)
    distance = (ours - logprobs(exact)).abs().max()
    assert 0 < distance < 0.1
    ours.sum().backward()
    assert all(parameter.dtype == parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_recomputed_layers_give_the_same_numbers_and_gradients_and_keep_less(lora: Lora | None, family: str) -> None:
    model = build(CONFIGS[family])
    forest = grow(random_trees(random.Random(1), 6))
    found, kept = [], []
    for passes in (Passes(), Passes(recompute=True)):
        role = language_role(copy.deepcopy(model), lora, 0, passes)
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logprobs = role.logprobs(forest, 0.7)
        logprobs.square().sum().backward()
        found.append([logprobs.detach(), *(one.grad for one in role.parameters())])
        kept.append(sum(sizes))
        assert all("forward" not in vars(module) for module in model.modules())
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)
    assert kept[1] < kept[0] / 2


def test_recomputed_layers_read_the_weights_that_the_forward_pass_read() -> None:
    role = language_role(build(CONFIGS["llama"]), Lora(rank=2), 0, Passes(recompute=True))
    forest = grow(random_trees(random.Random(1), 3))
    with torch.no_grad():
        for one in role.parameters():
            one.normal_()
    wanted = torch.autograd.grad(role.logprobs(forest, 1.0).sum(), role.parameters())
    logprobs = role.logprobs(forest, 1.0).sum()
    adapters = role._weights.adapters
    assert adapters is not None
    adapters.read(None)
    for ours, theirs in zip(torch.autograd.grad(logprobs, role.parameters()), wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_layers_that_cannot_be_told_apart_are_not_recomputed_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keel.models.backbone.GradientCheckpointingLayer", torch.nn.Bilinear)
    role = language_role(build(CONFIGS["gpt2"]), None, 0, Passes(recompute=True))
    with pytest.raises(UserError, match=r"use --model\.recompute false"):
        role.logprobs(grow(random_trees(random.Random(1), 2)), 1.0)


def test_longer_than_a_learned_position_table_is_said_in_one_sentence() -> None:
    long = Branch((5,) * 70, (True,) * 70)
    with pytest.raises(UserError, match="72 tokens is longer than the 64 positions"):
        Decoder(build(CONFIGS["gpt2"])).hidden(grow([Tree((3, 4), (long,))]))
    assert Decoder(build(CONFIGS["llama"])).hidden(grow([Tree((3, 4), (long,))])).shape == (72, 24)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_filler_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forest long enough for filler, beside the same one without: the same numbers and gradients."""
    chance = random.Random(0)
    trees = [tree for _ in range(10) for tree in random_trees(chance)]
    found = []
    for length in (keel.data.forest.filled, lambda rows: rows):
        monkeypatch.setattr(keel.data.forest, "filled", length)
        monkeypatch.setattr(keel.models.roles, "filled", length)
        role = language_role(build(CONFIGS[family]), None, 0)
        forest = grow(trees)
        logprobs = role.logprobs(forest, 0.7)
        (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
        found.append((len(forest.tokens), logprobs.detach(), [one.grad for one in role.parameters()]))
    (with_filler, ours, mine), (without, plain, theirs) = found
    assert with_filler > without > 256
    assert torch.allclose(ours, plain, rtol=0, atol=1e-5)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-4 * other.abs().max())
