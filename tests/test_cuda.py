"""What runs on a GPU gives what it gives on a processor: skipped, with the reason, where there is no CUDA device."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch

from keel.cli import run
from keel.data.forest import grow
from keel.errors import UserError
from keel.models.attention import attend
from keel.models.passes import Passes
from keel.models.roles import LanguageRole, language_role
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator
from models.small import CAUSAL_CONFIGS, CONFIGS, EOS, build, gradients, random_trees, some, words

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CUDA = torch.device("cuda")
FAMILIES = CONFIGS | {"bloom": CAUSAL_CONFIGS["bloom"]}
SMOKE = Path(__file__).parent.parent / "recipes" / "smoke.yaml"


def role_on(family: str, device: torch.device, passes: Passes) -> LanguageRole:
    return language_role(build(FAMILIES[family]).to(device), None, 0, passes)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_are_those_of_a_processor(family: str) -> None:
    trees = random_trees(random.Random(1), 6)
    found = []
    for device in (torch.device("cpu"), CUDA):
        role = role_on(family, device, Passes())
        forest = grow(trees, role.layout).to(device)
        logprobs = role.logprobs(forest, 0.7)
        (logprobs * torch.linspace(0.5, 1.5, len(logprobs), device=device)).sum().backward()
        found.append((logprobs.detach().cpu(), gradients(role.select())))
    (ours, slopes), (theirs, others) = found
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-5)
    for name, slope in slopes.items():
        bound = 1e-4 * max(1.0, slope.abs().max().item())
        torch.testing.assert_close(
            others[name].cpu(), slope, rtol=0, atol=bound, msg=lambda text, at=name: f"{at}: {text}"
        )


@pytest.mark.parametrize("head", [8, 64, 12])  # the kernel that takes all sequences at once asks for a multiple of 8
@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_in_half_precision_is_that_of_a_processor(groups: int, window: int | None, head: int) -> None:
    draw = torch.Generator().manual_seed(0)
    for seed in range(3):
        forest = grow(random_trees(random.Random(seed), 6))
        shapes = [(heads, len(forest.tokens), head) for heads in (4, 4 // groups, 4 // groups)]
        exact = [torch.randn(shape, generator=draw).bfloat16().float().requires_grad_() for shape in shapes]
        half = [one.detach().to(CUDA, torch.bfloat16).requires_grad_() for one in exact]
        ours = attend(*half, forest.to(CUDA).blocks, head**-0.5, None, window)
        theirs = attend(*exact, forest.blocks, head**-0.5, None, window)
        weights = torch.randn(theirs.shape, generator=draw).bfloat16().float()
        slopes = torch.autograd.grad((ours * weights.to(CUDA, torch.bfloat16)).sum(), half)
        others = torch.autograd.grad((theirs * weights).sum(), exact)
        for mine, other in zip((ours, *slopes), (theirs, *others), strict=True):
            # a row that sees itself alone has slopes of 0, which nothing is small beside
            bound = 0.01 * max(other.detach().norm(), weights.norm())
            assert (mine.detach().cpu().float() - other.detach()).norm() < bound


@pytest.mark.parametrize("sampling", [Sampling(24), Sampling(24, 0.7, top_k=20, top_p=0.9), Sampling(24, 0.0)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_trainer_reads_what_the_sampler_recorded(family: str, sampling: Sampling) -> None:
    role = role_on(family, CUDA, Passes())
    draw = random.Random(2)
    prompts = [some(draw, draw.randrange(2, 12)) for _ in range(5)]
    asked = [Request(prompts[place % 5], place, sampling) for place in range(20)]
    generator = LocalGenerator(role.select(), words(), eos_ids=(EOS,))
    completions = generator.generate(asked)
    assert generator.generate(asked) == completions  # a function of the model and the request
    for request, completion in zip(asked, completions, strict=True):
        text = torch.tensor([request.prompt + completion.tokens], device=CUDA)
        with torch.no_grad():
            logits = role.select()(input_ids=text, attention_mask=torch.ones_like(text)).logits[0]
        read = (logits / (sampling.temperature or 1.0)).log_softmax(-1)[len(request.prompt) - 1 : -1]
        theirs = read.gather(-1, text[0, len(request.prompt) :, None]).squeeze(-1).cpu()
        torch.testing.assert_close(torch.tensor(completion.logprobs), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_half_precision_moves_log_probs_by_its_own_rounding_only(family: str) -> None:
    trees = random_trees(random.Random(3), 6)
    exact = role_on(family, torch.device("cpu"), Passes())
    half = role_on(family, CUDA, Passes(torch.bfloat16))
    forest = grow(trees, "forest")
    with torch.no_grad():
        ours = exact.logprobs(forest, 1.0)
        theirs = half.logprobs(forest.to(CUDA), 1.0).cpu()
    assert 0 < (ours - theirs).abs().mean() < 0.02


def test_a_model_that_has_diverged_is_named() -> None:
    model = build(FAMILIES["llama"]).to(CUDA)
    with torch.no_grad():
        model.lm_head.weight[7].fill_(torch.nan)
    for sampling in (Sampling(20), Sampling(20, top_k=5), Sampling(20, temperature=0.0)):
        with pytest.raises(UserError, match="weights have diverged"):
            LocalGenerator(model, words(), eos_ids=()).generate([Request((5, 6), 0, sampling)])


def test_a_run_of_all_stages(tmp_path: Path) -> None:
    assert run(["run", str(SMOKE), "--dir", str(tmp_path / "run"), "--device", "cuda"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(summary[name]) for name in ("win_rate", "gold_base", "gold_ppo", "kl"))
