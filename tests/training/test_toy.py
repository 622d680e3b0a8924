"""PPO through a real transformer reaches π* ∝ π_ref·exp(r/β), which an 8-armed choice lets one enumerate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from keel.data.chat import Chat
from keel.models.heads import ScalarHead
from keel.models.roles import separate
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward
from keel.stages.cast import RoleGenerator
from keel.training.online import practise
from keel.types import Message, Prompt, Rollout
from models.small import EOS, PAD

from .small import ppo, record, rows_of

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

REWARDS = (0.0, 0.2, 1.0, -0.5, 0.6, 0.3, 1.2, -1.0)
BETA = 0.5
OPTIMUM = (0.10051, 0.11268, 0.41942, 0.01569, 0.10642, 0.04389, 0.19954, 0.00184)
ARMS = 8
PROMPT = 5


def bandit() -> PreTrainedModel:
    """A transformer with a vocabulary of 8 tokens, each of which (EOS too) is an arm; log π_ref ∝ linspace(0, −2)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ARMS, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, pad_token_id=PAD, bos_token_id=None, eos_token_id=EOS, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([[PROMPT]])).last_hidden_state[0, 0]
        wrong = torch.linspace(0, -2, ARMS) - model.lm_head.weight @ hidden
        model.lm_head.weight += wrong[:, None] * hidden / hidden.square().sum()
    return model


@torch.no_grad()
def distribution(model: PreTrainedModel) -> Tensor:
    return model(input_ids=torch.tensor([[PROMPT]])).logits[0, 0].double().softmax(-1)


def arms() -> PreTrainedTokenizerFast:
    names = {"<pad>": PAD, "<bos>": 1, "<eos>": EOS} | {f"w{place}": place for place in range(3, ARMS)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="w3")


def arm_rewards(rollouts: Sequence[Rollout]) -> list[float]:
    return [REWARDS[one.tokens[0]] for one in rollouts]


def test_the_optimum_is_the_known_answer() -> None:
    tilted = distribution(bandit()) * (torch.tensor(REWARDS, dtype=torch.float64) / BETA).exp()
    assert (tilted / tilted.sum()).tolist() == pytest.approx(OPTIMUM, abs=1e-5)


@pytest.mark.parametrize(("whiten", "bound"), [("none", 0.01), ("advantages", 0.03)])
def test_ppo_reaches_the_optimum(whiten: str, bound: float, tmp_path: Path) -> None:
    """Whitening makes noise as loud as signal where all advantages are 0, so it comes less near."""
    policy, reference, body = bandit(), bandit(), bandit()
    roles = separate(policy, reference, (body, ScalarHead.zero(16)), None, None, seed=0)
    chat = Chat(arms(), template="plain")
    settings = ppo(
        updates=60, batch_size=64, samples_per_prompt=64, epochs=3, micro_tokens=8192, whiten=whiten,
        sampling={"max_tokens": 1, "temperature": 1.0}, kl={"coef": BETA}, optimizer={"lr": 1e-2}, critic={"lr": 2e-2},
    )  # fmt: skip
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), chat.tokenizer))
    asked = [Prompt("p", (Message("user", f"w{PROMPT}"),))]
    assert chat.prompt(asked[0].messages) == (PROMPT,)
    with record(tmp_path) as written:
        practise(
            roles, generator, FunctionReward("arm", arm_rewards), chat, asked, settings, 0, written, lambda update: None
        )
    found = distribution(policy)
    distance = 0.5 * sum(abs(p - q) for p, q in zip(found.tolist(), OPTIMUM, strict=True))
    assert distance <= bound
    assert 0.5 * (distribution(bandit()) - torch.tensor(OPTIMUM)).abs().sum() > 0.3  # it had a way to go
    assert distribution(reference).tolist() == distribution(bandit()).tolist()
    # at π* every arm's r − β·log(π*/π_ref) is β·log Z = .506247, so the last answers scatter no more, and V has it
    last = rows_of(tmp_path)[-1]
    assert last["objective"] == pytest.approx(0.506247, abs=bound)
    assert last["value/mean"] == pytest.approx(0.506247, abs=bound)
    assert last["truncated"] < 1  # EOS is an arm like the others
