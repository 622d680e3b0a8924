"""The four roles, and who shares which weights: the same calls whatever the layout.

`separate`: each role has a model of its own. `shared`: one frozen base, with an adapter for each role that learns;
the reference is the base itself.

    layout     policy                 reference       critic                      reward
    separate   model (or adapter)     frozen model    model (or adapter) + head   frozen model + head
    shared     base + its adapter     base            base + its adapter + head   base + frozen adapter + head

In either, the critic may instead be a head on the policy (`PolicyCritic`), and the reward may be several models, each
with an adapter or a model of its own (`keel.models.ensemble`).

Shape suffixes: T rows of a forest, M masked tokens, B branches.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from keel.data.forest import Forest, Layout, filled
from keel.data.write import new_folder
from keel.maths.logprobs import Hold, TokenLogprobs, token_logprobs, token_logprobs_and_entropy
from keel.models.adapters import Adapters, Lora
from keel.models.backbone import Backbone
from keel.models.decoder import Decoder
from keel.models.ensemble import Ensemble, places
from keel.models.folder import classifier_like, write_language_model, write_scalar_model
from keel.models.heads import ScalarHead
from keel.models.passes import EXACT, Passes

_ADAPTER = "adapter"  # the folder, within that of a merged model, that keeps a role's adapter by itself
_SCORE = "score.safetensors"  # its scalar head


@dataclass(frozen=True)
class Weights:
    """Which weights a role reads: a model, and the adapter that is on meanwhile (None: the model as it stands)."""

    model: PreTrainedModel
    adapters: Adapters | None = None
    adapter: str | None = None

    def select(self) -> PreTrainedModel:
        """The model, switched to this role's weights until another role that shares it reads."""
        if self.adapters is not None:
            self.adapters.read(self.adapter)
        return self.model

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Those that train, by name, in a fixed order."""
        if self.adapters is None:
            return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        own = [] if self.adapter is None else self.adapters.parameters(self.adapter)
        return [(name, parameter) for name, parameter in own if parameter.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """The state of a plain model that computes the same; adapters are merged into copies."""
        return dict(self.model.state_dict()) if self.adapters is None else self.adapters.merged(self.adapter)


class LanguageRole:
    """A role that gives log-probabilities: the policy or the reference."""

    def __init__(self, decoder: Decoder, weights: Weights) -> None:
        self._decoder = decoder
        vocabulary = decoder.model.config.get_text_config().vocab_size
        products = decoder.backbone.passes.products
        self._hold = Hold.of(vocabulary, products if products.itemsize < 4 else None, decoder.model.device)
        self._weights = weights

    @property
    def layout(self) -> Layout:
        """How forests must be grown for this role."""
        return self._decoder.layout

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its forests must be."""
        device: torch.device = self._weights.model.device
        return device

    @property
    def pass_tokens(self) -> int:
        """How many tokens it reads in one pass unless it is told."""
        return self._decoder.backbone.pass_tokens

    def logprobs(self, forest: Forest, temperature: float) -> Float[Tensor, " M"]:
        """Log-probability of each masked token at the sampling temperature; nats."""
        labels = _with_spare(forest.labels)
        read = token_logprobs(self.states(forest), self._decoder.head, labels, temperature, self._hold)
        return read[: len(forest.sources)]

    def read(self, forest: Forest, temperature: float) -> TokenLogprobs:
        """Log-probability of each masked token, and the entropy there, at the sampling temperature; nats, two [M]."""
        return self.read_states(self.states(forest), forest, temperature)

    def states(self, forest: Forest) -> Float[Tensor, "m D"]:
        """The states that predict the masked tokens, and some that nobody reads after them."""
        self.select()
        return self._decoder.hidden(forest, _with_spare(forest.sources))

    def read_states(self, states: Float[Tensor, "m D"], forest: Forest, temperature: float) -> TokenLogprobs:
        """What `read` says of the forest, from its `states`."""
        labels = _with_spare(forest.labels)
        read = token_logprobs_and_entropy(states, self._decoder.head, labels, temperature, self._hold)
        return TokenLogprobs(*(part[: len(forest.sources)] for part in read))

    def select(self) -> PreTrainedModel:
        """The transformers model, reading as this role until another role that shares it reads: for the sampler."""
        return self._weights.select()

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The trainable ones, by name, in a fixed order."""
        return self._weights.named_parameters()

    def parameters(self) -> list[nn.Parameter]:
        """The trainable ones, in a fixed order."""
        return [parameter for _, parameter in self.named_parameters()]

    def save(self, path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write a folder for `AutoModelForCausalLM`, with the tokenizer, whole or not at all.

        An adapter is merged into a copy of the weights, and kept by itself in the folder `adapter` within.
        """
        with new_folder(path) as draft:
            write_language_model(draft, self._weights.model, self._weights.state(), tokenizer)
            _save_adapter(draft, self._weights)


class ScalarRole:
    """A role that gives one number per row: the critic or the reward model.

    Raises UserError for an architecture that could not be saved as a sequence classifier.
    """

    def __init__(self, backbone: Backbone, head: ScalarHead, weights: Weights) -> None:
        classifier_like(weights.model)
        self._backbone = backbone
        self._weights = weights
        self.head = head.to(weights.model.device)

    @property
    def layout(self) -> Layout:
        """How forests must be grown for this role."""
        return self._backbone.layout

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its forests must be."""
        device: torch.device = self._weights.model.device
        return device

    @property
    def pass_tokens(self) -> int:
        """How many tokens it reads in one pass unless it is told."""
        return self._backbone.pass_tokens

    def values(self, forest: Forest) -> Float[Tensor, " M"]:
        """The number of the state before each masked token: what the critic expects from there on."""
        return self._read(forest, forest.sources)

    def scores(self, forest: Forest) -> Float[Tensor, " B"]:
        """The number at the last token of each branch: its raw reward."""
        return self._read(forest, forest.ends)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The trainable ones, by name, in a fixed order; the head's last."""
        head = [("score.weight", self.head.weight)] if self.head.weight.requires_grad else []
        return self._weights.named_parameters() + head

    def parameters(self) -> list[nn.Parameter]:
        """The trainable ones, in a fixed order."""
        return [parameter for _, parameter in self.named_parameters()]

    def save(self, path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write a folder for `AutoModelForSequenceClassification` with one label, whole or not at all.

        The classifier's number at the last token that is not pad is the score. Adapters as in `LanguageRole.save`.
        """
        with new_folder(path) as draft:
            self.fill(draft, tokenizer)

    def fill(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """What `save` writes, into a folder that is there."""
        score = self.head.weight
        write_scalar_model(folder, self._weights.model, self._weights.state(), score, tokenizer)
        _save_adapter(folder, self._weights)
        if self._weights.adapter is not None:
            save_file({"weight": score.detach()}, folder / _ADAPTER / _SCORE)

    def _read(self, forest: Forest, rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        self._weights.select()
        numbers: Tensor = self.head(self._backbone.hidden(forest, _with_spare(rows)))
        return numbers[: len(rows)]


class PolicyCritic:
    """A critic that is a head of zeros on the policy's own states, so that one pass of the policy can read both."""

    def __init__(self, policy: LanguageRole, width: int) -> None:
        self._policy = policy
        self.head = ScalarHead.zero(width).requires_grad_(True).to(policy.device)

    @property
    def layout(self) -> Layout:
        """How forests must be grown for this role."""
        return self._policy.layout

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its forests must be."""
        return self._policy.device

    @property
    def pass_tokens(self) -> int:
        """How many tokens it reads in one pass unless it is told."""
        return self._policy.pass_tokens

    def values(self, forest: Forest) -> Float[Tensor, " M"]:
        """The number of the state before each masked token, with a gradient to the head alone."""
        with torch.no_grad():
            states = self._policy.states(forest)
        return self._of(states, forest)

    def read(self, forest: Forest, temperature: float) -> tuple[TokenLogprobs, Float[Tensor, " M"]]:
        """What the policy reads and the values, from one pass, with gradients to policy and head."""
        states = self._policy.states(forest)
        return self._policy.read_states(states, forest, temperature), self._of(states, forest)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The head's; those of the states are the policy's."""
        return [("score.weight", self.head.weight)]

    def parameters(self) -> list[nn.Parameter]:
        """The head's."""
        return [self.head.weight]

    def _of(self, states: Tensor, forest: Forest) -> Tensor:
        numbers: Tensor = self.head(states)
        return numbers[: len(forest.sources)]


Critic = ScalarRole | PolicyCritic
Judge = ScalarRole | Ensemble
"""What the learned reward comes from."""


@dataclass(frozen=True)
class Roles:
    """Who takes part in online training; `critic` is None where no algorithm asks for one, `reward` where the reward is
    not a model over the policy's tokens."""

    policy: LanguageRole
    reference: LanguageRole
    critic: Critic | None
    reward: Judge | None


def language_role(model: PreTrainedModel, lora: Lora | None, seed: int, passes: Passes = EXACT) -> LanguageRole:
    """A policy to train: all of `model`, or adapters on it (drawn from `seed`), run as `passes` says."""
    return LanguageRole(Decoder(model, passes), _trained(model, model, "policy", lora, seed))


def scalar_role(
    model: PreTrainedModel, head: ScalarHead, lora: Lora | None, seed: int, passes: Passes = EXACT
) -> ScalarRole:
    """A reward model to train: the decoder stack of `model` (any head of its own is not used) or adapters on it."""
    backbone = Backbone(model, passes)
    return ScalarRole(backbone, head.requires_grad_(True), _trained(model, backbone.stack, "reward", lora, seed))


def frozen_language_role(model: PreTrainedModel, passes: Passes = EXACT) -> LanguageRole:
    """A role that only reads, for which `model` is kept as narrow as its passes are (`Backbone.narrow`)."""
    decoder = Decoder(model.requires_grad_(False), passes)
    decoder.backbone.narrow()
    return LanguageRole(decoder, Weights(model))


def frozen_scalar_role(model: PreTrainedModel, head: ScalarHead, passes: Passes = EXACT) -> ScalarRole:
    """The same of a reward model."""
    backbone = Backbone(model.requires_grad_(False), passes)
    backbone.narrow()
    return ScalarRole(backbone, head.requires_grad_(False), Weights(model))


def separate(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    critic: tuple[PreTrainedModel, ScalarHead] | Literal["policy"] | None,
    reward: tuple[PreTrainedModel, ScalarHead] | None,
    lora: Lora | None,
    seed: int,
    passes: Passes = EXACT,
) -> Roles:
    """Each role with a model of its own; policy and critic train, with `lora` as adapters on theirs. A critic of
    "policy" is a head on the policy.

    Frozen roles may be given one model between them, which is kept as narrow as the passes are. With `lora` a frozen
    role may also be given the model of one that trains: it then reads the base, adapters off. Raises ValueError where a
    fully trained model has a second role.
    """
    own_critic = None if critic == "policy" else critic
    trained = [policy] if own_critic is None else [policy, own_critic[0]]
    frozen = [reference] if reward is None else [reference, reward[0]]
    if len({id(model) for model in trained}) < len(trained):
        raise ValueError("policy and critic are one model; give them two, or use the shared layout")
    if lora is None and {id(model) for model in trained} & {id(model) for model in frozen}:
        raise ValueError("a model that trains in full cannot have a frozen role too")
    weights = {id(model): Weights(model.requires_grad_(False)) for model in frozen}
    own = [_trained(policy, policy, "policy", lora, seed)]
    if own_critic is not None:
        backbone = Backbone(own_critic[0], passes)
        own.append(_trained(own_critic[0], backbone.stack, "critic", lora, seed + 1))
    weights |= {id(each.model): Weights(each.model, each.adapters) for each in own}
    learner = LanguageRole(Decoder(policy, passes), own[0])
    valued: Critic | None = None
    if own_critic is not None:
        valued = ScalarRole(backbone, own_critic[1].requires_grad_(True), own[1])
    elif critic == "policy":
        valued = PolicyCritic(learner, policy.config.get_text_config().hidden_size)
    decoder = Decoder(reference, passes)
    readers = [decoder.backbone]
    scored = None
    if reward is not None:
        body, head = reward
        readers.append(Backbone(body, passes))
        scored = ScalarRole(readers[-1], head.requires_grad_(False), weights[id(body)])
    for backbone in readers:
        if all(backbone.model is not model for model in trained):
            backbone.narrow()
    return Roles(learner, LanguageRole(decoder, weights[id(reference)]), valued, scored)


def shared(
    base: PreTrainedModel,
    lora: Lora,
    critic: Literal["reward", "zero", "policy", "none"],
    reward: Path | None,
    seed: int,
    passes: Passes = EXACT,
) -> Roles:
    """All roles on one frozen base: the policy starts as the base, and so as the reference.

    `reward` is a folder that a reward role with an adapter on this very base has saved, or several such. The critic
    starts as a copy of it, or of the first ("reward"), or as the base with a head of zeros ("zero"), or is a head on
    the policy ("policy"); or there is "none". Raises UserError where the folder does not fit.
    """
    decoder = Decoder(base, passes)
    adapters = Adapters(base)
    adapters.add("policy", lora, seed)
    frozen = None if reward is None else _judge(base, decoder.backbone, adapters, reward)
    policy = LanguageRole(decoder, Weights(base, adapters, "policy"))
    valued: Critic | None = None
    if critic == "policy":
        valued = PolicyCritic(policy, decoder.backbone.width)
    elif critic == "zero":
        adapters.add("critic", lora, seed + 1)
        head = ScalarHead.zero(decoder.backbone.width)
        valued = ScalarRole(decoder.backbone, head, Weights(base, adapters, "critic"))
    elif critic == "reward" and reward is not None:
        adapters.load("critic", reward / _ADAPTER, trains=True)
        valued = ScalarRole(decoder.backbone, _saved_head(reward), Weights(base, adapters, "critic"))
    elif critic == "reward":
        raise ValueError("there is no reward model for the critic to start from")
    return Roles(policy, LanguageRole(decoder, Weights(base, adapters, None)), valued, frozen)


def adapted_judge(base: PreTrainedModel, reward: Path, passes: Passes = EXACT) -> Judge:
    """Reward models of the folder `reward`, frozen, as adapters on one base. Raises UserError as `shared` does."""
    return _judge(base, Backbone(base, passes), Adapters(base), reward)


def has_adapters(reward: Path) -> bool:
    """Whether every reward model of the folder has an adapter, on some base; no weights are read."""
    return all(Adapters.is_in(place.folder / _ADAPTER) for place in places(reward))


def is_adapted(base: PreTrainedModel, reward: Path) -> bool:
    """Whether every reward model of the folder has an adapter on this very base."""
    adapters = Adapters(base)
    return all(adapters.fits(place.folder / _ADAPTER) for place in places(reward))


def _judge(base: PreTrainedModel, backbone: Backbone, adapters: Adapters, reward: Path) -> Judge:
    found = places(reward)
    members = []
    for number, place in enumerate(found, start=1):
        name = "reward" if number == 1 else f"reward-{number}"
        adapters.load(name, place.folder / _ADAPTER, trains=False)
        head = _saved_head(place.folder).requires_grad_(False)
        members.append(ScalarRole(backbone, head, Weights(base, adapters, name)))
    return members[0] if len(found) == 1 else Ensemble(tuple(members), tuple(place.zero for place in found))


def _trained(model: PreTrainedModel, part: PreTrainedModel, name: str, lora: Lora | None, seed: int) -> Weights:
    """Weights of which all of `part` train, or adapters on them."""
    if lora is None:
        model.requires_grad_(False)
        part.requires_grad_(True)
        return Weights(model)
    adapters = Adapters(model)
    adapters.add(name, lora, seed)
    return Weights(model, adapters, name)


def _save_adapter(draft: Path, weights: Weights) -> None:
    if weights.adapters is not None and weights.adapter is not None:
        (draft / _ADAPTER).mkdir()
        weights.adapters.save(weights.adapter, draft / _ADAPTER)


def _with_spare(rows: Int[Tensor, " M"]) -> Int[Tensor, " m"]:
    """More of them, like a forest's filler, so that products over them come in few sizes too."""
    return pad(rows, (0, filled(len(rows)) - len(rows)))


def _saved_head(folder: Path) -> ScalarHead:
    return ScalarHead(load_file(folder / _ADAPTER / _SCORE)["weight"])
