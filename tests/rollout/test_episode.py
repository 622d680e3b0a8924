"""Prompts to rollouts: what is recorded, and whose seed is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from keel.data.chat import Chat
from keel.rollout.episode import Episode, converse, episode_seed
from keel.rollout.generator import Completion, Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.types import Message, Prompt, StopReason


@dataclass
class Parrot:
    """Answers with the first tokens of the prompt, and remembers what it was asked."""

    asked: list[Request] = field(default_factory=list)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        stops: tuple[StopReason, ...] = ("eos", "stop", "length")
        numbers = (-0.5, -0.25, -1.0, -2.0)
        return [Completion((*r.prompt[:3], 1), numbers, stops[i % 3]) for i, r in enumerate(requests)]


@pytest.fixture
def chat(tokenizer: PreTrainedTokenizerFast) -> Chat:
    return Chat(tokenizer, template="plain")


def prompt(name: str) -> Prompt:
    return Prompt(name, (Message("user", f"The bake sale {name}"),), {"n": len(name)})


def test_a_rollout_records_what_was_asked_and_what_was_sampled(chat: Chat) -> None:
    parrot = Parrot()
    sampling = Sampling(8, temperature=0.5)
    rollouts = converse([prompt("a"), prompt("bb")], parrot, chat, sampling, seed=3, version=7, samples_per_prompt=2)
    assert [rollout.prompt.id for rollout in rollouts] == ["a", "a", "bb", "bb"]
    for rollout, request in zip(rollouts, parrot.asked, strict=True):
        assert request == Request(rollout.prompt_tokens, rollout.seed, sampling)
        assert rollout.prompt_tokens == chat.prompt(rollout.prompt.messages)
        assert rollout.tokens == (*rollout.prompt_tokens[:3], chat.eos)
        assert rollout.mask == (True,) * 4
        assert rollout.logprobs == (-0.5, -0.25, -1.0, -2.0)
        assert rollout.text == chat.decode(rollout.prompt_tokens[:3])  # without the end-of-text token
        assert rollout.version == 7
    assert [rollout.stop for rollout in rollouts] == ["eos", "stop", "length", "eos"]
    assert rollouts[3].prompt.columns == {"n": 2}


def test_what_is_said_next_is_appended_as_tokens(chat: Chat) -> None:
    first = Completion((9, 8), (-1.0, -2.0), "stop")
    episode = Episode(prompt("a"), (5, 6, 7), seed=11).sampled(first)
    assert episode.request(Sampling(4)).prompt == (5, 6, 7, 9, 8)
    rollout = episode.sampled(Completion((4,), (-3.0,), "length")).rollout(chat, "length", 0)
    assert (rollout.tokens, rollout.logprobs) == ((9, 8, 4), (-1.0, -2.0, -3.0))


def test_seeds_depend_on_run_version_prompt_and_sample_and_on_nothing_else(chat: Chat) -> None:
    def seeds(names: str, seed: int = 0, version: int = 0, samples: int = 2) -> dict[tuple[str, int], int]:
        found = converse([prompt(n) for n in names], Parrot(), chat, Sampling(8), seed, version, samples)
        numbered: dict[tuple[str, int], int] = {}
        for rollout in found:
            number = sum(name == rollout.prompt.id for name, _ in numbered)
            numbered[rollout.prompt.id, number] = rollout.seed
        return numbered

    base = seeds("abc")
    assert len(set(base.values())) == 6
    assert seeds("cba") == base
    assert seeds("b").items() <= base.items()
    assert base.items() <= seeds("abc", samples=3).items()
    assert base.items() <= seeds("abcabc").items()  # drawn twice: the same samples, and further ones
    assert len(set(seeds("abcabc").values())) == 12
    assert not set(base.values()) & set(seeds("abc", seed=1).values())
    assert not set(base.values()) & set(seeds("abc", version=1).values())


def test_a_seed_is_the_same_in_every_process_and_fits_into_63_bits() -> None:
    # BLAKE2b-64 of the bytes "(0, 1, 'p', 2)", by `printf "(0, 1, 'p', 2)" | b2sum -l 64`, halved.
    assert episode_seed(0, 1, "p", 2) == 0xB8AD7E31EB41AA0C >> 1
    assert all(0 <= episode_seed(s, 0, "x", 0) < 2**63 for s in range(200))


def test_the_embedded_sampler_answers_a_prompt_alike_in_any_company(
    chat: Chat, llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    generator = LocalGenerator(llama, tokenizer)
    together = converse([prompt(n) for n in "abcd"], generator, chat, Sampling(12), 5, 0, 3)
    alone = converse([prompt("c")], generator, chat, Sampling(12), 5, 0, 3)
    assert [rollout.tokens for rollout in together[6:9]] == [rollout.tokens for rollout in alone]
    assert len({rollout.tokens for rollout in together}) == 12


def test_no_samples_are_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match="samples_per_prompt is 0"):
        converse([prompt("a")], Parrot(), chat, Sampling(8), 0, 0, 0)
