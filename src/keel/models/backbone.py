"""The transformer below the heads: tokens of a forest in, one hidden state per row out.

Shape suffixes: T rows of a forest, M of which are asked for, D hidden width.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from keel.data.forest import Branch, Forest, Layout, Tree, grow
from keel.errors import UserError
from keel.models import attention, llama
from keel.models.passes import EXACT, Passes, pass_tokens

log = logging.getLogger(__name__)

# What a forward pass may differ by when only the order of its sums does, relative to the largest value; in float64 the
# library still rounds some norms and softmaxes to float32.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
# A model that cannot take the forest's mask fails in one of these ways, or gives other numbers.
_REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError)
_LONGEST_WINDOW = 64  # a probe reaches past a sliding window of at most this many tokens


class Backbone:
    """The decoder stack of a transformers model (or of the peft model around one), run without dropout.

    `layout` says how forests must be grown for it, and is found by computing a few random tokens both ways:

    - "forest": the model takes our attention, with the blocks as an argument of its forward. Its attention
      implementation is set to ours for good; calls without blocks (decoding) behave as the library's own "sdpa".
    - "causal": it does not (attention of its own, positions of its own, recurrent layers). It keeps its own attention
      and reads every branch as an ordinary right-padded sequence. This is logged as a warning, with the reason.

    `passes` says how: the number format of matrix products, and whether the backward pass computes layers again (in
    which case it must come before another role reads, where several roles share the model).

    The model is put in evaluation mode and must stay there, which turns all dropout off. (The library's gradient
    checkpointing acts in training mode only, and would turn the dropout of some layers on: it is not used.)

    Raises UserError for a model that reads ahead, which is no causal language model, and for one whose layers cannot be
    told apart where they shall be computed again.
    """

    def __init__(self, model: nn.Module, passes: Passes = EXACT) -> None:
        model.eval()
        self.passes = passes
        self.model = bare(model)
        self.stack = stack_of(self.model)[1]
        self.width: int = self.model.config.get_text_config().hidden_size
        self.pass_tokens: int = pass_tokens(self.width, self.model.device)
        self._room = _position_rows(self.stack, self.model.get_input_embeddings())
        self._own = False
        self.layout: Layout = self._find_layout()

    def hidden(self, forest: Forest, rows: Int[Tensor, " M"] | None = None) -> Float[Tensor, "M D"]:
        """The last hidden state (after the final norm) of these rows of the forest, in their order; of all if None.

        Raises ValueError for a forest of the other layout, UserError for one longer than a learned position table.
        """
        if self._room is not None and forest.longest > self._room:
            raise UserError(
                f"a sequence of {forest.longest} tokens is longer than the {self._room} positions that "
                f"{type(self.model).__name__} has learned; lower the length limits or take a model with a longer one."
            )
        if self.layout == "causal" and any(block.trunk for block in forest.blocks.shapes):
            raise ValueError('this model needs forests of layout "causal"')
        if self._own:
            every = torch.arange(len(forest.tokens), device=forest.tokens.device) if rows is None else rows
            format = self.passes.products if self.stack.dtype == torch.float32 else self.stack.dtype
            return llama.hidden(self.stack, forest, every, format, self.passes.recompute)
        with self.computing(), self._recomputing():
            states = self._padded(forest) if self.layout == "causal" else self._packed(forest)
        return states if rows is None else states.index_select(0, rows)

    def narrow(self) -> None:
        """From now on nothing trains here: the linear layers' weights are kept in the format of the products, to which
        every pass would round them, so no number changes. Where the library's own layers are run they stay as they are.

        The model's own forward no longer works, nor can a second backbone be made of it.
        """
        if not self._own or self.passes.products.itemsize >= self.stack.dtype.itemsize:
            return
        narrow = {linear.weight for layer in self.stack.layers for linear in llama.linears(layer)}
        for weight in self.model.parameters():
            # all are copied: as long as one is left, the file that they are mapped from stays in memory
            weight.data = weight.data.to(self.passes.products if weight in narrow else weight.dtype, copy=True)

    def computing(self) -> AbstractContextManager[object]:
        """Within it, matrix products are made in `passes.products`; weights, norms and sums stay as they are."""
        if self.passes.products == torch.float32:
            return nullcontext()
        return torch.autocast(self.stack.device.type, dtype=self.passes.products)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Within it, a layer of the library is computed again in the backward pass, where that is wanted."""
        if not (self.passes.recompute and torch.is_grad_enabled()):
            yield
            return
        layers = [module for module in self.stack.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not layers:
            raise UserError(
                f"{type(self.model).__name__} does not say which modules are its layers, so they cannot be computed "
                "again: use --model.recompute false."
            )
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward  # what remains is the method of its class

    def _packed(self, forest: Forest) -> Float[Tensor, "T D"]:
        # A mask of four dimensions is passed on as it is, so the library builds none of [T, T]; ours does not read it.
        unread = torch.zeros(1, 1, 1, 1, dtype=self.stack.dtype, device=forest.tokens.device)
        output = self.stack(
            input_ids=forest.tokens[None],
            position_ids=forest.positions[None],
            attention_mask=unread,
            use_cache=False,
            keel_blocks=forest.blocks,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden[0]

    def _padded(self, forest: Forest) -> Float[Tensor, "T D"]:
        blocks = forest.blocks
        tokens = forest.tokens[blocks.queries]
        real = torch.zeros_like(tokens).index_fill(0, blocks.slots, 1)
        sizes = [block.sequences * block.queries for block in blocks.shapes]
        parts = []
        for block, ids, mask in zip(blocks.shapes, torch.split(tokens, sizes), torch.split(real, sizes), strict=True):
            shape = (block.sequences, block.queries)
            output = self.stack(input_ids=ids.view(shape), attention_mask=mask.view(shape), use_cache=False)
            parts.append(output.last_hidden_state.flatten(0, 1))
        return torch.cat(parts)[blocks.slots]

    @torch.no_grad()
    def _find_layout(self) -> Layout:
        config = self.stack.config
        if config._attn_implementation == "sdpa" and getattr(config, "attn_logit_softcapping", None) is not None:
            self.stack.set_attn_implementation("eager")  # in older transformers "sdpa" leaves the cap out
        trees = _probe_trees(self.model)
        plain = self._grown(trees, "causal")
        alone = [self._alone(tree.trunk + branch.tokens) for tree in trees for branch in tree.branches]
        self._check_causality(trees, alone)
        name = type(self.model).__name__
        problem = _difference(self._padded(plain), plain, trees, alone)
        if problem:
            raise UserError(
                f"{name} reads a right-padded batch otherwise than its sequences alone ({problem}), so keel cannot "
                "train it; use another architecture."
            )
        own = self.stack.config._attn_implementation
        problem = self._why_not_packed(trees, alone)
        if problem is None:
            self._own = self._takes_own_pass(trees, alone)
            log.info("%s: packed forests (branches share their trunk)", name)
            return "forest"
        self.stack.set_attn_implementation(own)
        log.warning("%s cannot take a forest's mask (%s): one padded sequence per branch instead", name, problem)
        return "causal"

    def _why_not_packed(self, trees: Sequence[Tree], alone: Sequence[Tensor]) -> str | None:
        kinds = set(getattr(self.stack.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
        if kinds:
            return f"it has layers of kind {', '.join(sorted(kinds))}"
        forest = self._grown(trees, "forest")
        self.stack.set_attn_implementation(attention.NAME)
        try:
            hidden = self._packed(forest)
        except _REFUSALS as refusal:
            return f"{type(refusal).__name__}: {refusal}"
        return _difference(hidden, forest, trees, alone) or self._leak(forest, hidden)

    def _takes_own_pass(self, trees: Sequence[Tree], alone: Sequence[Tensor]) -> bool:
        """Whether `keel.models.llama` computes this model's states: faster, and in less memory, than the library's."""
        if not llama.is_of_the_family(self.stack) or self.stack.dtype.itemsize < 4:
            return False
        forest = self._grown(trees, "forest")
        every = torch.arange(len(forest.tokens), device=self.stack.device)
        hidden = llama.hidden(self.stack, forest, every, self.stack.dtype)
        return _difference(hidden, forest, trees, alone) is None

    def _grown(self, trees: Sequence[Tree], layout: Layout) -> Forest:
        return grow(trees, layout).to(self.stack.device)

    def _leak(self, forest: Forest, hidden: Tensor) -> str | None:
        """That a branch reads its neighbour, or None: exact where half precision would hide a small difference."""
        after = int(forest.ends[0]) + 1  # the first branch and its trunk stand before
        changed = forest.tokens.clone()
        changed[after - 1] = (changed[after - 1] + 1) % self.stack.config.get_text_config().vocab_size
        moved = (self._packed(replace(forest, tokens=changed))[after:] - hidden[after:]).abs().max()
        # mixtures of experts round otherwise in other company, by an ulp of fp32
        bound = 0 if hidden.dtype.itemsize == 2 else 1e-6 * hidden.abs().max()
        return None if moved <= bound else "a branch sees its neighbour"

    def _alone(self, tokens: Sequence[int]) -> Float[Tensor, "T D"]:
        ids = torch.tensor([tokens], device=self.stack.device)
        hidden: Tensor = self.stack(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).last_hidden_state
        return hidden[0]

    def _check_causality(self, trees: Sequence[Tree], alone: Sequence[Tensor]) -> None:
        tokens = trees[0].trunk + trees[0].branches[0].tokens
        cut = len(tokens) - 2
        if not _close(self._alone(tokens[:cut]), alone[0][:cut]):
            raise UserError(
                f"{type(self.model).__name__} reads tokens ahead of the one it predicts from, so it is no causal "
                "language model; use a decoder-only model."
            )


def bare(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a peft model, or the model itself."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, PreTrainedModel):
        raise TypeError(f"{type(inner).__name__} is no transformers model")
    return inner


def stack_of(model: PreTrainedModel) -> tuple[str, PreTrainedModel]:
    """The decoder stack, without the head, and its name in the model: the one transformers model inside this one."""
    inner = [(name, child) for name, child in model.named_children() if isinstance(child, PreTrainedModel)]
    if len(inner) != 1:
        raise UserError(f"{type(model).__name__} is not a decoder stack with a head; use a causal language model.")
    return inner[0]


def _position_rows(stack: PreTrainedModel, tokens: nn.Module) -> int | None:
    """How many positions the model has learned, or None where positions are computed."""
    config = stack.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    tables = [m for m in stack.modules() if isinstance(m, nn.Embedding) and m is not tokens]
    return limit if any(limit is not None and 0 <= t.num_embeddings - limit <= 8 for t in tables) else None


def _probe_trees(model: PreTrainedModel) -> list[Tree]:
    """Random tokens in trees of every kind: shared trunk, one branch, no trunk, longer than a short window."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    past = window + 3 if window <= _LONGEST_WINDOW else 8
    special = {getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    usual = [token for token in range(min(config.vocab_size, 4096)) if token not in special]
    draw = torch.Generator().manual_seed(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(usual[i] for i in torch.randint(len(usual), (count,), generator=draw).tolist())

    def branch(count: int) -> Branch:
        return Branch(some(count), (False,) * count)

    return [
        Tree(some(5), (branch(3), branch(past), branch(4))),
        Tree(some(2), (branch(4),)),
        Tree((), (branch(3), branch(2))),
    ]


def _difference(hidden: Tensor, forest: Forest, trees: Sequence[Tree], alone: Sequence[Tensor]) -> str | None:
    """How the tokens of the branches differ from sequences read alone, or None."""
    lengths = [len(branch.tokens) for tree in trees for branch in tree.branches]
    ends = forest.ends.tolist()
    ours = torch.cat([hidden[end + 1 - length : end + 1] for end, length in zip(ends, lengths, strict=True)])
    theirs = torch.cat([states[-length:] for states, length in zip(alone, lengths, strict=True)])
    if _close(ours, theirs):
        return None
    return f"its numbers differ by {(ours - theirs).abs().max().item():.2g}"


def _close(ours: Tensor, theirs: Tensor) -> bool:
    bound = _TOLERANCE[theirs.dtype] * theirs.abs().max()
    return bool(((ours - theirs).abs() <= bound).all())
