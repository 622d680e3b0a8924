"""Several reward models from one start: what each learns alone, what they say together, and where they are written."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from keel.data.forest import Forest, grow
from keel.errors import UserError
from keel.maths.ensembles import mean_score, uncertainty_weighted, worst_case
from keel.models.adapters import Lora
from keel.models.ensemble import Ensemble, Place, places
from keel.models.heads import ScalarHead
from keel.models.members import Members
from keel.models.roles import ScalarRole, adapted_judge, has_adapters, is_adapted, scalar_role, shared

from .small import CAUSAL_CONFIGS, CONFIGS, build, random_trees, words
from .test_roles import LORA, head, right_padded, stir

KINDS = ["apart", "adapted"]
FAMILIES = {**CONFIGS, **CAUSAL_CONFIGS}


def forest() -> Forest:
    return grow(random_trees(random.Random(1)))


def made(kind: str, count: int = 3, family: str = "llama", lora: Lora = LORA) -> Members:
    """Members with heads of their own, all of whose weights have moved from the start, each its own way."""
    heads = [head(seed) for seed in range(count)]
    if kind == "apart":
        members = Members.apart([build(FAMILIES[family]) for _ in heads], heads)
    else:
        members = Members.adapted(build(FAMILIES[family]), heads, lora, range(count))
    for seed, role in enumerate(members.roles):
        stir(role.parameters(), 0.05, seed)
    return members


def said(role: ScalarRole | Ensemble) -> Tensor:
    with torch.no_grad():
        return role.scores(forest())


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_moves_nothing_of_the_others(kind: str) -> None:
    members = made(kind)
    every = [parameter for role in members.roles for parameter in role.parameters()]
    assert len({id(parameter) for parameter in every}) == len(every)
    before = [said(role) for role in members.roles]
    assert (before[0] - before[1]).abs().max() > 0.01
    members.roles[1].scores(forest()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in members.roles[1].parameters())
    assert all(one.grad is None for place in (0, 2) for one in members.roles[place].parameters())
    stir(members.roles[1].parameters())
    after = [said(role) for role in members.roles]
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_adapters_are_on_one_copy_of_the_base() -> None:
    members = made("adapted")
    assert len({id(role._weights.model) for role in members.roles}) == 1
    trained = sum(one.numel() for role in members.roles for one in role.parameters())
    base = members.roles[0]._weights.model
    assert sum(one.numel() for one in base.parameters()) < build(CONFIGS["llama"]).num_parameters() + trained


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_member_is_the_model_that_learns_alone(kind: str) -> None:
    alone = scalar_role(build(CONFIGS["llama"]), head(0), LORA if kind == "adapted" else None, seed=0)
    stir(alone.parameters(), 0.05, 0)
    assert torch.equal(said(alone), said(made(kind).roles[0]))


def test_together_they_say_what_their_scores_come_to_from_their_zeros() -> None:
    members = made("apart")
    each = torch.stack([said(role) for role in members.roles])
    zeros = (0.5, -1.0, 2.0)
    centred = each - torch.tensor(zeros)[:, None]
    torch.testing.assert_close(said(Ensemble(members.roles, zeros)), centred.mean(0))
    torch.testing.assert_close(said(Ensemble(members.roles, zeros, worst_case)), centred.min(0).values)
    doubted = Ensemble(members.roles, zeros, partial(uncertainty_weighted, penalty=0.2))
    torch.testing.assert_close(said(doubted), centred.mean(0) - 0.2 * centred.var(0, correction=0))
    with torch.no_grad():
        torch.testing.assert_close(doubted.read(forest()), centred)
    for together in (mean_score, worst_case, partial(uncertainty_weighted, penalty=0.5)):
        assert torch.equal(said(Ensemble(members.roles[:1], (0.0,), together)), said(members.roles[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_member_is_written_as_a_plain_sequence_classifier(kind: str, family: str, tmp_path: Path) -> None:
    members = made(kind, family=family)
    path = tmp_path / "model"
    Ensemble(members.roles, (0.5, -1.0, 2.0)).save(path, words())
    found = places(path)
    expected = [path, path / "members" / "2", path / "members" / "3"]
    assert [(one.folder, one.zero) for one in found] == list(zip(expected, [0.5, -1.0, 2.0], strict=True))
    trees = random_trees(random.Random(1))
    ids, mask = right_padded(trees)
    for role, place in zip(members.roles, found, strict=True):
        loaded = AutoModelForSequenceClassification.from_pretrained(place.folder).eval()
        with torch.no_grad():
            theirs = loaded(input_ids=ids, attention_mask=mask).logits[:, 0]
            ours = role.scores(grow(trees, role.layout))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert not list(tmp_path.rglob(".*"))


def test_a_saved_ensemble_is_read_through_adapters_on_one_base(tmp_path: Path) -> None:
    members = made("adapted")
    ensemble = Ensemble(members.roles, (0.5, -1.0, 2.0))
    ensemble.save(tmp_path / "model", words())
    base = build(CONFIGS["llama"])
    assert is_adapted(base, tmp_path / "model")
    again = adapted_judge(base, tmp_path / "model")
    assert isinstance(again, Ensemble)
    assert torch.equal(said(again), said(ensemble))
    assert not any(parameter.requires_grad for parameter in base.parameters())
    roles = shared(build(CONFIGS["llama"]), LORA, "reward", tmp_path / "model", seed=0)
    assert isinstance(roles.reward, Ensemble)
    assert isinstance(roles.critic, ScalarRole)
    assert torch.equal(said(roles.reward), said(ensemble))
    assert torch.equal(said(roles.critic), said(members.roles[0]))
    assert not is_adapted(build(CONFIGS["llama"], seed=9), tmp_path / "model")
    assert has_adapters(tmp_path / "model")
    made("apart").roles[1].save(tmp_path / "model" / "members" / "2", words())
    assert not has_adapters(tmp_path / "model")
    assert not is_adapted(build(CONFIGS["llama"]), tmp_path / "model")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_the_weights_is_exact(kind: str, family: str, tmp_path: Path) -> None:
    """With adapters too, whose mean is that of the changes they make: each merged weight is the mean of the merged."""
    members = made(kind, family=family)
    states = []
    for place, role in enumerate(members.roles):
        role.save(tmp_path / str(place), words())
        states.append(AutoModelForSequenceClassification.from_pretrained(tmp_path / str(place)).state_dict())
    mean = members.averaged()
    mean.save(tmp_path / "mean", words())
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mean").state_dict()
    assert found.keys() == states[0].keys()
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, sum(one[key] for one in states) / 3, rtol=0, atol=2e-6)
    assert max((states[0][key] - states[1][key]).abs().max() for key in found) > 0.01
    if kind == "adapted":
        assert json.loads((tmp_path / "mean" / "adapter" / "adapter_config.json").read_text())["r"] == 3 * LORA.rank
        base = build(FAMILIES[family])
        assert torch.equal(said(adapted_judge(base, tmp_path / "mean")), said(mean))


def test_the_mean_of_alike_members_is_each_of_them() -> None:
    heads = [ScalarHead(head(0).weight) for _ in range(2)]
    members = Members.adapted(build(CONFIGS["llama"]), heads, LORA, [4, 4])
    for role in members.roles:
        stir(role.parameters(), 0.05, 3)
    expected = said(members.roles[0])
    assert torch.equal(said(members.roles[1]), expected)
    torch.testing.assert_close(said(members.averaged()), expected, rtol=0, atol=1e-6)


def test_one_model_has_one_place(tmp_path: Path) -> None:
    assert places(tmp_path) == (Place(tmp_path, 0.0),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("{}", "is damaged"),
        ("[]", "is damaged"),
        ('{"members": 1}', "'zeros'"),
        ('{"zeros": [0.0]}', "'members'"),
        ('{"members": 1, "zeros": ["a"]}', "finite numbers"),
        ('{"members": 2, "zeros": "12"}', "finite numbers"),
        ('{"members": 2, "zeros": [0.5, NaN]}', "finite numbers"),
        ('{"members": 2, "zeros": [0.5, true]}', "finite numbers"),
        ('{"members": 3, "zeros": [0.5, 0.5]}', "it names 3 members, and 2 zeros"),
        ('{"members": 0, "zeros": []}', "it names 0 members"),
        ('{"members": "2", "zeros": [0, 0]}', "it names 2 members"),
    ],
)
def test_a_folder_that_does_not_say_what_it_holds_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        places(tmp_path)
