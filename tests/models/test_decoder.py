"""A model is taken apart at its last hidden state only where the parts give back its own logits."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    GraniteConfig,
    HyperCLOVAXConfig,
    JambaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    Qwen2MoeConfig,
    StableLmConfig,
)

from keel.data.forest import Branch, Tree, grow
from keel.errors import UserError
from keel.models.backbone import Backbone
from keel.models.decoder import Decoder
from keel.models.passes import Passes

from .small import CONFIGS, VOCABULARY, build

SHAPE: dict[str, Any] = {
    key: CONFIGS["llama"].to_dict()[key]
    for key in (
        "vocab_size",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    )
}


@pytest.mark.parametrize(
    "config",
    [
        CONFIGS["gemma2"],  # a soft cap
        CohereConfig(**SHAPE, logit_scale=0.25),
        GraniteConfig(**SHAPE, logits_scaling=4.0),  # divides by it
        HyperCLOVAXConfig(**SHAPE, logits_scaling=4.0),  # multiplies by it
    ],
    ids=lambda config: config.model_type,
)
def test_logits_are_the_models_own(config: PreTrainedConfig) -> None:
    decoder = Decoder(build(config))
    tree = Tree((), (Branch((5, 9, 13, 7, 30), (False,) * 5),))
    with torch.no_grad():
        ours = decoder.logits(decoder.hidden(grow([tree])))
        theirs = decoder.model(torch.tensor([tree.branches[0].tokens])).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    plain = decoder.model.get_output_embeddings()(decoder.hidden(grow([tree])))
    assert (plain - ours).abs().max() > 0.01  # the scale or cap does something


class Odd(LlamaForCausalLM):
    """Does something to its logits that no configuration tells."""

    def forward(self, *args: Any, **kwargs: Any) -> SimpleNamespace:
        output = super().forward(*args, **kwargs)
        return SimpleNamespace(logits=output.logits + output.logits.square())


def test_logits_that_cannot_be_reproduced_are_an_error() -> None:
    with pytest.raises(UserError, match="the logits of Odd"):
        Decoder(Odd(CONFIGS["llama"]))


def test_a_model_that_reads_ahead_is_an_error() -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(UserError, match="reads tokens ahead"):
        Decoder(BertLMHeadModel(config))


def test_a_model_without_a_head_is_an_error() -> None:
    with pytest.raises(UserError, match="not a decoder stack with a head"):
        Decoder(build(CONFIGS["llama"]).model)


LAYERS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (StableLmConfig(**SHAPE), "its numbers differ"),
        (JambaConfig(**SHAPE, num_experts=2, mamba_dt_rank=4), "layers of kind linear_attention"),
        (
            Qwen2MoeConfig(**SHAPE, **LAYERS, use_sliding_window=True, sliding_window=5, max_window_layers=1),
            "does not say how far",
        ),
    ],
    ids=["attention of its own", "recurrent layers", "a window that is not told"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forests_are_packed_only_where_they_come_out_right(
    config: PreTrainedConfig, reason: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    assert Backbone(build(config, dtype)).layout == "causal"
    if dtype == torch.float32:
        assert reason in caplog.text


def test_the_probe_reaches_past_a_window(caplog: pytest.LogCaptureFixture) -> None:
    config = copy.deepcopy(CONFIGS["gemma2"])
    config.sliding_window = 20
    model = build(config)
    model.model.layers[0].self_attn.sliding_window = 40  # the layer says one thing, the library's mask does another
    assert Backbone(model).layout == "causal"
    assert "its numbers differ" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weak_leak_between_neighbours_is_seen_in_half_precision_too(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(CONFIGS["llama"], dtype)
    forward = model.model.forward

    def recurrent(**given: Any) -> SimpleNamespace:
        hidden = forward(**given).last_hidden_state
        before = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1)
        return SimpleNamespace(last_hidden_state=hidden + 0.01 * before)

    monkeypatch.setattr(model.model, "forward", recurrent)
    assert Backbone(model).layout == "causal"
    assert ("numbers differ" if dtype == torch.float32 else "sees its neighbour") in caplog.text


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads an old name
def test_a_peft_model_is_read_through_its_adapter() -> None:
    base = build(CONFIGS["llama"])
    tree = Tree((5, 6), (Branch((7, 8), (False,) * 2), Branch((9,), (False,))))
    plain = Decoder(base).hidden(grow([tree])).detach()
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    decoder = Decoder(model)
    assert decoder.layout == "forest"

    def alone(tokens: tuple[int, ...]) -> Tensor:
        return model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0, -1]

    with torch.no_grad():
        hidden = decoder.hidden(grow([tree]))
        torch.testing.assert_close(hidden[3], alone((5, 6, 7, 8)), rtol=0, atol=1e-5)
        torch.testing.assert_close(hidden[4], alone((5, 6, 9)), rtol=0, atol=1e-5)
    assert (hidden - plain).abs().max() > 0.01


def test_the_head_is_not_rounded_with_the_other_products() -> None:
    model = build(CONFIGS["llama"])
    hidden = torch.randn(5, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    exact = hidden @ model.lm_head.weight.T
    for products in (torch.float32, torch.bfloat16):
        logits = Decoder(model, Passes(products)).logits(hidden)
        assert logits.dtype == torch.float32
        assert torch.allclose(logits, exact, rtol=0, atol=1e-5)
