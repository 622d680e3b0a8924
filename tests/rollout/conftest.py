"""Small models of every family that the sampler must serve, and a byte-level tokenizer trained on three sentences."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 320


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    tokens = Tokenizer(BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<|user|>", "<|end|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = ["The bake sale is on Friday at the park.", "Bring a plate to the sale, and a friend.", "Observation: none"]
    tokens.train_from_iterator(text * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>")


def small(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model whose next-token distributions are far from flat."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.6 / parameter.shape[-1] ** 0.5)
    return model.eval()


SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 8}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
ENDS = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, **HEADS, **ENDS),
    "qwen3": Qwen3Config(**SHAPE, **HEADS, **ENDS),
    "llama3": LlamaConfig(
        **SHAPE,
        **HEADS,
        **ENDS,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "qwen2": Qwen2Config(**{name: SHAPE[name] for name in SHAPE if name != "head_dim"}, **HEADS, **ENDS),
    "mistral": MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=None),
    "mistral with a window": MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=6),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, **ENDS),
    # Windows shorter than the prompts, so that sliding layers forget and left padding leaves the window.
    "gemma2": Gemma2Config(**SHAPE, **HEADS, **ENDS, query_pre_attn_scalar=8, sliding_window=6),
    "gemma3": Gemma3TextConfig(
        **SHAPE,
        **HEADS,
        **ENDS,
        query_pre_attn_scalar=8,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    return small(CONFIGS["llama"])
