"""Four roles behind the same calls, in every layout: who learns, who never moves, and what is saved."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
)

from keel.data.forest import Branch, Forest, Tree, grow
from keel.errors import UserError
from keel.models.adapters import Adapters, Lora
from keel.models.decoder import Decoder
from keel.models.heads import ScalarHead
from keel.models.load import load_language_model, load_reward_model
from keel.models.passes import Passes
from keel.models.roles import (
    LanguageRole,
    Roles,
    ScalarRole,
    Weights,
    frozen_language_role,
    frozen_scalar_role,
    language_role,
    scalar_role,
    separate,
    shared,
)
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator

from .small import CAUSAL_CONFIGS, CONFIGS, EOS, PAD, build, random_trees, words

LORA = Lora(rank=3, alpha=6.0)
LAYOUTS = ["separate", "separate-lora", "shared"]
CPU = torch.device("cpu")


def head(seed: int = 0) -> ScalarHead:
    return ScalarHead.normal(24, torch.Generator().manual_seed(seed))


def stir(parameters: Sequence[Tensor], size: float = 0.2, seed: int = 5) -> None:
    """Move weights away from where they start, so that adapters do something."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=draw) * size)


def saved_reward(folder: Path, family: str, lora: Lora | None) -> Path:
    role = scalar_role(build(CONFIGS[family]), head(), lora, seed=3)
    stir(role.parameters(), 0.05)
    role.save(folder, words())
    return folder


def cast(layout: str, folder: Path, family: str = "llama") -> Roles:
    """The four roles in this layout; every layout has the same policy and reference at first."""
    base = build(CONFIGS[family])
    if layout == "shared":
        return shared(base, LORA, "reward", saved_reward(folder, family, LORA), seed=1)
    path = saved_reward(folder, family, None)
    critic, reward = (load_reward_model(path, torch.float32, CPU) for _ in range(2))
    lora = LORA if layout == "separate-lora" else None
    return separate(
        policy=base,
        reference=copy.deepcopy(base),
        critic=(critic, ScalarHead.of(critic)),
        reward=(reward, ScalarHead.of(reward)),
        lora=lora,
        seed=1,
    )


def forest_of(seed: int = 0, roles: Roles | None = None) -> Forest:
    return grow(random_trees(random.Random(seed)), roles.policy.layout if roles else "forest")


def everything(roles: Roles) -> dict[str, Tensor]:
    """A copy of every weight of every role, by role and name."""
    assert roles.reward is not None
    found = {}
    for name in ("policy", "reference", "critic", "reward"):
        role = getattr(roles, name)
        for key, tensor in role._weights.model.state_dict().items():
            found[f"{name}/{key}"] = tensor.clone()
    for name, scalar in (("critic", roles.critic), ("reward", roles.reward)):
        found[f"{name}/score"] = scalar.head.weight.detach().clone()
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_policy_starts_as_the_reference_and_critic_as_the_reward_model(layout: str, tmp_path: Path) -> None:
    roles = cast(layout, tmp_path / "reward")
    forest = forest_of()
    plain = language_role(build(CONFIGS["llama"]), None, 0).logprobs(forest, 0.7)
    with torch.no_grad():
        policy, reference = roles.policy.logprobs(forest, 0.7), roles.reference.logprobs(forest, 0.7)
        assert torch.equal(policy, reference)
        assert torch.equal(policy, plain)
        assert roles.reward is not None
        assert torch.equal(roles.critic.scores(forest), roles.reward.scores(forest))
        assert roles.critic.values(forest).shape == forest.targets.shape
        assert roles.critic.scores(forest).abs().max() > 0.01


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_value_is_the_score_of_what_stands_before_the_token(family: str) -> None:
    role = scalar_role(build({**CONFIGS, **CAUSAL_CONFIGS}[family]), head(), None, seed=0)
    trees = [tree for tree in random_trees(random.Random(3)) if tree.trunk]
    before = []
    for tree in trees:
        for branch in tree.branches:
            for place, masked in enumerate(branch.mask):
                if masked:
                    so_far = tree.trunk + branch.tokens[:place]
                    before.append(Tree((), (Branch(so_far, (False,) * len(so_far)),)))
    with torch.no_grad():
        values, scores = role.values(grow(trees, role.layout)), role.scores(grow(before, role.layout))
    assert len(values) > 10
    torch.testing.assert_close(values, scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_policy_and_critic_learn_in_one_step_and_nothing_else_moves(layout: str, tmp_path: Path) -> None:
    roles = cast(layout, tmp_path / "reward")
    assert roles.reward is not None
    forest = forest_of()
    trained = roles.policy.parameters() + roles.critic.parameters()
    assert len({id(parameter) for parameter in trained}) == len(trained)
    assert roles.reference.parameters() == roles.reward.parameters() == []
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    before, frozen = everything(roles), (roles.reference.logprobs(forest, 1.0), roles.reward.scores(forest))
    for _ in range(2):
        # both graphs are built before either runs backward, and frozen roles read in between
        policy = roles.policy.logprobs(forest, 1.0).mean()
        critic = roles.critic.values(forest).square().mean() + roles.critic.scores(forest).mean()
        roles.reference.logprobs(forest, 1.0)
        roles.reward.scores(forest)
        (policy + critic).backward()
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    after = everything(roles)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    if layout == "separate":
        assert all(key.split("/")[0] in ("policy", "critic") for key in moved)
        assert any(key.startswith("policy") for key in moved)
    else:
        assert all(".policy." in key or ".critic." in key or key == "critic/score" for key in moved)
        assert {key.split(".")[-2] for key in moved if "score" not in key} == {"policy", "critic"}
    assert "critic/score" in moved
    assert torch.equal(roles.reference.logprobs(forest, 1.0), frozen[0])
    assert torch.equal(roles.reward.scores(forest), frozen[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_gathered_together_are_those_taken_alone(layout: str, tmp_path: Path) -> None:
    roles = cast(layout, tmp_path / "reward")
    stir(roles.policy.parameters() + roles.critic.parameters(), 0.05)
    forest = forest_of()

    def gradients(*losses: Callable[[], Tensor]) -> list[Tensor]:
        for loss in losses:
            loss().backward()
        parameters = roles.policy.parameters() + roles.critic.parameters()
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        return found

    def policy() -> Tensor:
        return roles.policy.logprobs(forest, 1.0).sum()

    def critic() -> Tensor:
        return roles.critic.values(forest).square().sum()

    alone = [one + other for one, other in zip(gradients(policy), gradients(critic), strict=True)]
    assert all(grad.abs().max() > 0 for grad in alone)
    for together in (gradients(policy, critic), gradients(critic, policy), gradients(lambda: policy() + critic())):
        assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_frozen_roles_may_share_a_model_and_trained_ones_may_not() -> None:
    frozen, policy, critic = build(CONFIGS["llama"]), build(CONFIGS["llama"]), build(CONFIGS["llama"], seed=1)
    roles = separate(policy, frozen, (critic, head()), (frozen, head(1)), None, seed=0)
    assert roles.reward is not None
    assert roles.reference.parameters() == roles.reward.parameters() == []
    with pytest.raises(ValueError, match="one model"):
        separate(policy, frozen, (policy, head()), None, None, seed=0)
    with pytest.raises(ValueError, match="frozen role"):
        separate(policy, policy, (critic, head()), None, None, seed=0)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_a_frozen_role_is_kept_as_narrow_as_its_products_and_gives_the_same_numbers(family: str) -> None:
    passes, forest = Passes(torch.bfloat16), forest_of()
    wide, narrow = build(CONFIGS[family]), build(CONFIGS[family])
    plain = LanguageRole(Decoder(wide.requires_grad_(False), passes), Weights(wide))
    frozen = frozen_language_role(narrow, passes)
    judge, other = (scalar_role(build(CONFIGS[family]), head(), None, 0, passes) for _ in range(2))
    score = frozen_scalar_role(other._weights.model, head(), passes)
    with torch.no_grad():
        assert torch.equal(frozen.logprobs(forest, 0.7), plain.logprobs(forest, 0.7))
        assert torch.equal(score.scores(forest), judge.scores(forest))
    sampled = [
        LocalGenerator(role.select(), words(), eos_ids=(EOS,), products=torch.bfloat16).generate(
            [Request((5, 6, 7), seed, Sampling(6)) for seed in range(3)]
        )
        for role in (plain, frozen)
    ]
    assert sampled[0] == sampled[1]
    narrowed = {name for name, one in narrow.named_parameters() if one.dtype == torch.bfloat16}
    own = (
        {f"{name}.weight" for name, one in narrow.model.named_modules() if isinstance(one, nn.Linear)}
        if family != "gpt2"
        else set()
    )
    assert {name.removeprefix("model.") for name in narrowed} == own
    assert not any(one.requires_grad for one in narrow.parameters())


def test_only_frozen_roles_are_narrow(tmp_path: Path) -> None:
    passes = Passes(torch.bfloat16)
    path = saved_reward(tmp_path / "reward", "llama", None)
    critic, reward = (load_reward_model(path, torch.float32, CPU) for _ in range(2))
    policy, reference = (build(CONFIGS["llama"]) for _ in range(2))
    given = (critic, ScalarHead.of(critic)), (reward, ScalarHead.of(reward))
    separate(policy, reference, *given, None, 1, passes)
    formats = [one.model.layers[0].mlp.up_proj.weight.dtype for one in (policy, critic, reference, reward)]
    assert formats == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
    base, critic = build(CONFIGS["llama"]), load_reward_model(path, torch.float32, CPU)
    roles = separate(base, base, (critic, ScalarHead.of(critic)), None, LORA, 1, passes)
    assert base.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.float32
    one = build(CONFIGS["llama"])
    both = separate(build(CONFIGS["llama"]), one, None, (one, head()), None, 1, passes)
    assert one.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert both.reward is not None
    forest = forest_of()
    with torch.no_grad():
        assert torch.equal(roles.reference.logprobs(forest, 1.0), both.reference.logprobs(forest, 1.0))
        assert both.reward.scores(forest).isfinite().all()


def test_with_adapters_the_reference_may_be_the_policys_own_base() -> None:
    policy, critic = build(CONFIGS["llama"]), build(CONFIGS["llama"])
    roles = separate(policy, policy, (critic, head()), None, LORA, seed=0)
    forest = forest_of()
    before = roles.policy.logprobs(forest, 1.0).detach()
    stir(roles.policy.parameters())
    with torch.no_grad():
        assert not torch.allclose(roles.policy.logprobs(forest, 1.0), before, atol=1e-3)
        assert torch.equal(roles.reference.logprobs(forest, 1.0), before)


def test_a_critic_from_zero_predicts_zero_and_learns(tmp_path: Path) -> None:
    roles = shared(build(CONFIGS["llama"]), LORA, "zero", None, seed=0)
    assert roles.reward is None
    values = roles.critic.values(forest_of())
    assert (values == 0).all()
    values.sum().backward()
    assert roles.critic.head.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="no reward model"):
        shared(build(CONFIGS["llama"]), LORA, "reward", None, seed=0)


def test_the_sampler_reads_what_the_role_reads(tmp_path: Path) -> None:
    roles = cast("shared", tmp_path / "reward")
    stir(roles.policy.parameters())
    tree = Tree((5, 6, 7), (Branch((8, 9, 10), (True,) * 3),))
    ours = roles.policy.logprobs(grow([tree]), 1.0)
    roles.critic.scores(grow([tree]))  # leaves another adapter on
    with torch.no_grad():
        logits = roles.policy.select()(torch.tensor([tree.trunk + tree.branches[0].tokens])).logits[0, 2:5]
        torch.testing.assert_close(ours, logits.log_softmax(-1)[range(3), list(tree.branches[0].tokens)])
        base = roles.reference.select()(torch.tensor([[5, 6]])).logits
        assert torch.equal(base, build(CONFIGS["llama"])(torch.tensor([[5, 6]])).logits)


def right_padded(trees: Sequence[Tree]) -> tuple[Tensor, Tensor]:
    sequences = [tree.trunk + branch.tokens for tree in trees for branch in tree.branches]
    width = max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[PAD] * (width - len(sequence))] for sequence in sequences])
    return ids, (ids != PAD).long()


def model_logprobs(model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
    ids, mask = right_padded(trees)
    logprobs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    found, row = [], 0
    for tree in trees:
        for branch in tree.branches:
            for place, masked in enumerate(branch.mask):
                if masked:
                    found.append(logprobs[row, len(tree.trunk) + place - 1, branch.tokens[place]])
            row += 1
    return torch.stack(found)


TIED = LlamaConfig(**(CONFIGS["llama"].to_diff_dict() | {"tie_word_embeddings": True}))


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "tied", "gpt2", "gemma3", "bloom"])
def test_a_saved_policy_is_a_plain_causal_language_model(family: str, lora: Lora | None, tmp_path: Path) -> None:
    config = {"tied": TIED, **CONFIGS, **CAUSAL_CONFIGS}[family]
    role = language_role(build(config), lora, seed=2)
    stir(role.parameters(), 0.05)
    trees = random_trees(random.Random(1))
    ours = role.logprobs(grow(trees, role.layout), 1.0).detach()
    role.save(tmp_path / "model", words())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert loaded.config._attn_implementation in ("sdpa", "eager")
    assert loaded.config.pad_token_id == PAD
    with torch.no_grad():
        torch.testing.assert_close(ours, model_logprobs(loaded, trees), rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token_id == EOS
    again = language_role(load_language_model(tmp_path / "model", torch.float32, CPU), None, 0)
    torch.testing.assert_close(again.logprobs(grow(trees, again.layout), 1.0), ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "tied", "gpt2", "gemma3", "bloom"])
def test_a_saved_reward_model_is_a_plain_sequence_classifier(family: str, lora: Lora | None, tmp_path: Path) -> None:
    config = {"tied": TIED, **CONFIGS, **CAUSAL_CONFIGS}[family]
    untold = build(config)
    untold.config.pad_token_id = None  # as in many bases; the tokenizer knows
    role = scalar_role(untold, head(), lora, seed=2)
    stir(role.parameters(), 0.05)
    trees = random_trees(random.Random(1))
    ours = role.scores(grow(trees, role.layout)).detach()
    role.save(tmp_path / "model", words())
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert (loaded.config.num_labels, loaded.config.pad_token_id) == (1, PAD)
    ids, mask = right_padded(trees)
    with torch.no_grad():
        theirs = loaded(input_ids=ids, attention_mask=mask).logits[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    model = load_reward_model(tmp_path / "model", torch.float32, CPU)
    again = scalar_role(model, ScalarHead.of(model), None, 0)
    torch.testing.assert_close(again.scores(grow(trees, again.layout)), ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_role_can_be_saved_in_every_layout(layout: str, tmp_path: Path) -> None:
    roles = cast(layout, tmp_path / "reward")
    stir(roles.policy.parameters() + roles.critic.parameters(), 0.05)
    trees = random_trees(random.Random(1))
    forest = grow(trees)
    ids, mask = right_padded(trees)
    with torch.no_grad():
        for name, role in (("policy", roles.policy), ("reference", roles.reference)):
            role.save(tmp_path / name, words())
            loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
            ours = role.logprobs(forest, 1.0)
            torch.testing.assert_close(ours, model_logprobs(loaded, trees), rtol=0, atol=1e-5)
        for name, scalar in (("critic", roles.critic), ("again", roles.reward)):
            assert scalar is not None
            scalar.save(tmp_path / name, words())
            loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / name).eval()
            theirs = loaded(input_ids=ids, attention_mask=mask).logits[:, 0]
            torch.testing.assert_close(scalar.scores(forest), theirs, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads an old name
def test_a_saved_adapter_loads_with_plain_peft(tmp_path: Path) -> None:
    role = language_role(build(CONFIGS["llama"]), LORA, seed=2)
    stir(role.parameters(), 0.05)
    trees = random_trees(random.Random(1))
    role.save(tmp_path / "model", words())
    theirs = PeftModel.from_pretrained(build(CONFIGS["llama"]), tmp_path / "model" / "adapter").eval()
    with torch.no_grad():
        ours = role.logprobs(grow(trees), 1.0)
        torch.testing.assert_close(ours, model_logprobs(theirs, trees), rtol=0, atol=1e-5)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    path = saved_reward(tmp_path / "reward", "llama", LORA)
    with pytest.raises(UserError, match="another base"):
        shared(build(CONFIGS["llama"], seed=9), LORA, "reward", path, seed=0)
    plain = saved_reward(tmp_path / "plain", "llama", None)
    with pytest.raises(UserError, match="with LoRA"):
        shared(build(CONFIGS["llama"]), LORA, "reward", plain, seed=0)


def test_a_seed_decides_the_adapters_and_no_random_state_is_touched() -> None:
    def added(seed: int) -> list[Tensor]:
        adapters = Adapters(build(CONFIGS["llama"]))
        adapters.add("policy", LORA, seed)
        return [parameter for _, parameter in adapters.parameters("policy")]

    one, same, other = added(1), added(1), added(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    model = build(CONFIGS["llama"])
    state = torch.get_rng_state()
    Adapters(model).add("policy", LORA, 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_which_layers_get_adapters() -> None:
    def targets(lora: Lora, family: str) -> set[str]:
        adapters = Adapters(build(CONFIGS[family]))
        adapters.add("policy", lora, 0)
        return {name.split(".")[-3] for name, _ in adapters.parameters("policy")}

    base = build(CONFIGS["llama"])
    adapters = Adapters(base)
    adapters.add("policy", LORA, 0)
    adapters.add("critic", LORA, 1)
    for name, parameter in base.named_parameters():
        assert parameter.requires_grad == (".policy." in name or ".critic." in name), name
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert targets(LORA, "llama") == linear
    assert targets(LORA, "gpt2") == {"c_attn", "c_proj", "c_fc"}
    assert targets(replace(LORA, target_modules=("q_proj", "v_proj")), "llama") == {"q_proj", "v_proj"}


def test_an_architecture_without_a_classifier_is_refused_before_training() -> None:
    with pytest.raises(UserError, match="no sequence classifier"):
        scalar_role(build(CAUSAL_CONFIGS["mamba"]), head(), None, 0)


class InterruptionError(Exception):
    pass


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role: LanguageRole | ScalarRole = language_role(build(CONFIGS["llama"]), None, 0)
    folder = tmp_path / "runs" / "model"
    role.save(folder, words())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stir(role.parameters())
    tokenizer = words()

    def fail(*args: object, **kwargs: object) -> None:
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "save_pretrained", fail)  # the weights are written by then
        with pytest.raises(InterruptionError):
            role.save(folder, tokenizer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    role.save(folder, words())
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_head_starts() -> None:
    width = 4000
    weight = ScalarHead.normal(width, torch.Generator().manual_seed(0)).weight
    assert weight.std().item() == pytest.approx((width + 1) ** -0.5, rel=0.05)
    assert abs(weight.mean().item()) < 4 / width
    hidden = torch.randn(3, width).bfloat16()
    assert ScalarHead.zero(width)(hidden).tolist() == [0.0] * 3
    numbers = ScalarHead(weight)(hidden)
    assert numbers.dtype == torch.float32
    torch.testing.assert_close(numbers, hidden.float() @ weight)


def test_a_head_of_a_classifier_is_a_copy(tmp_path: Path) -> None:
    model = load_reward_model(saved_reward(tmp_path / "reward", "llama", None), torch.float32, CPU)
    taken = ScalarHead.of(model)
    assert torch.equal(taken.weight, model.score.weight[0])
    stir([taken.weight])
    assert not torch.equal(taken.weight, model.score.weight[0])


def test_reading_in_inference_mode_leaves_training_as_it_was(tmp_path: Path) -> None:
    roles = cast("shared", tmp_path / "reward")
    assert roles.reward is not None
    forest = forest_of()
    with torch.inference_mode():
        roles.reward.scores(forest)
        roles.policy.logprobs(forest, 1.0)
    roles.policy.logprobs(forest, 1.0).sum().backward()
    assert all(parameter.grad is not None for parameter in roles.policy.parameters())


def test_adapters_on_different_layers_of_one_base(tmp_path: Path) -> None:
    narrow = scalar_role(build(CONFIGS["llama"]), head(), replace(LORA, target_modules=("q_proj",)), seed=3)
    stir(narrow.parameters(), 0.05)
    narrow.save(tmp_path / "reward", words())
    roles = shared(build(CONFIGS["llama"]), LORA, "reward", tmp_path / "reward", seed=0)
    assert roles.reward is not None
    forest = forest_of()
    assert torch.equal(roles.reward.scores(forest), narrow.scores(forest))
    roles.critic.save(tmp_path / "critic", words())
    model = load_reward_model(tmp_path / "critic", torch.float32, CPU)
    again = scalar_role(model, ScalarHead.of(model), None, 0)
    torch.testing.assert_close(again.scores(forest), narrow.scores(forest), rtol=0, atol=1e-5)
