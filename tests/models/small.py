"""Small models of several families, random trees, and the same sequences as ordinary padded batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.masking_utils import eager_mask

from keel.data.forest import Branch, Tree

VOCABULARY = 61
PAD, BOS, EOS = 0, 1, 2
_IDS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
SHAPE = _IDS | {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
WINDOW = 5  # shorter than the sequences

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "gpt2": GPT2Config(**_IDS, n_embd=24, n_layer=2, n_head=4, n_positions=64),
    "gemma2": Gemma2Config(
        **SHAPE,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": Gemma3TextConfig(
        **SHAPE,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "mistral": MistralConfig(**SHAPE, sliding_window=WINDOW),
}
CAUSAL_CONFIGS: dict[str, PreTrainedConfig] = {
    "bloom": BloomConfig(**_IDS, hidden_size=24, n_layer=2, n_head=4),
    "mamba": MambaConfig(**_IDS, hidden_size=24, num_hidden_layers=2, state_size=4),
}


def build(config: PreTrainedConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """A model with weights so large that attention is far from uniform, and the numbers depend on every token."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if getattr(config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # some versions' "sdpa" leaves the cap out
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.2)
    return model


def widen(model: PreTrainedModel) -> PreTrainedModel:
    """RMS norms at full width: the library computes them in fp32 whatever the model's dtype."""
    plus = 1 if model.config.model_type.startswith("gemma") else 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            epsilon = module.eps if plus else module.variance_epsilon
            module.forward = lambda x, weight=module.weight, epsilon=epsilon: (
                x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * (plus + weight)
            )
    return model


def words() -> PreTrainedTokenizerFast:
    """A tokenizer for the vocabulary: every word is a token."""
    vocabulary = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="w3"
    )


def random_trees(chance: random.Random, count: int = 4) -> list[Tree]:
    """Trees with 1 to 4 branches of 1 to 14 tokens, some without a trunk, with random masks."""
    trees = []
    for index in range(count):
        trunk = 0 if index == 1 else chance.randrange(1, 10)
        branches = []
        for _ in range(chance.randrange(1, 5)):
            length = chance.randrange(1, 15)
            mask = [chance.random() < 0.6 for _ in range(length)]
            mask[0] = mask[0] and trunk > 0
            branches.append(Branch(some(chance, length), tuple(mask)))
        trees.append(Tree(some(chance, trunk), tuple(branches)))
    return trees


def some(chance: random.Random, count: int) -> tuple[int, ...]:
    return tuple(chance.randrange(3, VOCABULARY) for _ in range(count))


@dataclass(frozen=True)
class Numbers:
    """What the trainer reads: [M] log-probs and values, [B] scores."""

    logprobs: Tensor
    values: Tensor
    scores: Tensor

    def loss(self) -> Tensor:
        """A scalar on which every number has its own weight."""
        parts = (self.logprobs, self.values, self.scores)
        return sum((torch.linspace(0.5, 1.5, len(x), dtype=x.dtype) * x).sum() for x in parts) / len(self.logprobs)


def padded(model: PreTrainedModel, head: Tensor, trees: Sequence[Tree], side: str) -> Numbers:
    """The same numbers from the model's own forward on one batch of whole sequences, padded on one side."""
    whole = [(tree.trunk, branch) for tree in trees for branch in tree.branches]
    width = max(len(trunk) + len(branch.tokens) for trunk, branch in whole)
    ids = torch.full((len(whole), width), PAD)
    mask = torch.zeros_like(ids)
    firsts = []
    for row, (trunk, branch) in enumerate(whole):
        tokens = trunk + branch.tokens
        start = width - len(tokens) if side == "left" else 0
        ids[row, start : start + len(tokens)] = torch.tensor(tokens)
        mask[row, start : start + len(tokens)] = 1
        firsts.append(start + len(trunk))
    positions = {} if "mamba" in model.config.model_type else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    if model.config.model_type == "bloom":
        positions = {}
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False, **positions)
    logprobs = output.logits.log_softmax(-1)
    numbers = output.hidden_states[-1] @ head
    read: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for row, ((_, branch), first) in enumerate(zip(whole, firsts, strict=True)):
        for offset, masked in enumerate(branch.mask):
            if masked:
                read[0].append(logprobs[row, first + offset - 1, branch.tokens[offset]])
                read[1].append(numbers[row, first + offset - 1])
        read[2].append(numbers[row, first + len(branch.tokens) - 1])
    return Numbers(*(torch.stack(part) for part in read))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter's gradient (zeros where there is none); the gradients are cleared."""
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in module.named_parameters()
    }
    module.zero_grad(set_to_none=True)
    return found


def by_the_book(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention written out, at full width: the library's own rounds some softmaxes to fp32 whatever the model's."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * scaling
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    weights = (scores + attention_mask).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2), None


AttentionInterface.register("by_the_book", by_the_book)
AttentionMaskInterface.register("by_the_book", eager_mask)
