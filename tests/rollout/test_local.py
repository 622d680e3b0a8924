"""The embedded sampler against the model itself, and a completion's independence of everything but its request."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from keel.errors import UserError
from keel.models.decoder import Decoder
from keel.rollout.context import LibraryContext
from keel.rollout.generator import Completion, Request, Sampling
from keel.rollout.local import LocalGenerator, end_of_text

from .conftest import CONFIGS, HEADS, SHAPE, VOCABULARY, small

NEVER: frozenset[int] = frozenset()


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    chance = random.Random(seed)
    return [tuple(chance.randrange(5, 300) for _ in range(chance.randrange(1, 17))) for _ in range(count)]


def requests(count: int, sampling: Sampling, samples: int = 1) -> list[Request]:
    return [Request(p, 1000 * i + s, sampling) for i, p in enumerate(prompts(count)) for s in range(samples)]


def full_logits(model: torch.nn.Module, request: Request, completion: Completion) -> torch.Tensor:
    """Logits before each sampled token, from one unpadded forward without a cache."""
    with torch.no_grad():
        logits = model(torch.tensor([request.prompt + completion.tokens]), use_cache=False).logits[0]
    return logits[len(request.prompt) - 1 : -1]


def worst_log_prob(model: torch.nn.Module, asked: list[Request], answers: list[Completion]) -> float:
    worst = []
    for request, completion in zip(asked, answers, strict=True):
        temperature = request.sampling.temperature or 1.0
        exact = (full_logits(model, request, completion).double() / temperature).log_softmax(-1)
        exact = exact.gather(-1, torch.tensor(completion.tokens)[:, None]).squeeze(-1)
        worst.append((exact - torch.tensor(completion.logprobs, dtype=torch.float64)).abs().max())
    return torch.stack(worst).max().item()


def same(one: list[Completion], other: list[Completion]) -> bool:
    """The same tokens and ends, and log-probs equal up to the rounding of differently shaped batches."""
    assert all(len(a.tokens) == len(a.logprobs) for a in one)
    return all(
        a.tokens == b.tokens and a.stop == b.stop and np.allclose(a.logprobs, b.logprobs, rtol=0, atol=1e-4)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_log_probs_are_those_of_a_full_forward(
    family: str, dtype: torch.dtype, tolerance: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = small(CONFIGS[family], dtype)
    if family == "gemma2" and dtype == torch.float64:
        Decoder(model)  # brings attention whose capped scores keep fp64; the library's own has an fp32 softmax
    asked = requests(7, Sampling(24, temperature=0.8), samples=2)
    answers = LocalGenerator(model, tokenizer, NEVER).generate(asked)
    if family == "qwen3":  # the library norms heads in fp32, and ours stand in another order
        tolerance = max(tolerance, 1e-5)
    assert worst_log_prob(model, asked, answers) <= tolerance
    assert len({answer.tokens for answer in answers}) == len(answers)


@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_are_the_argmax_of_a_full_forward(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(CONFIGS[family])
    asked = requests(5, Sampling(20, temperature=0.0))
    answers = LocalGenerator(model, tokenizer, NEVER).generate(asked)
    for request, answer in zip(asked, answers, strict=True):
        assert answer.tokens == tuple(full_logits(model, request, answer).argmax(-1).tolist())
    assert worst_log_prob(model, asked, answers) <= 1e-4  # recorded at temperature 1


@pytest.mark.parametrize("family", CONFIGS)
def test_a_completion_does_not_depend_on_its_neighbours(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(CONFIGS[family])
    # Every tenth id ends a completion, so that rows leave the batch at many different steps.
    ends = range(0, 320, 10)
    asked = requests(4, Sampling(16, temperature=0.9, top_p=0.95), samples=3)
    asked += [replace(request, sampling=replace(request.sampling, max_tokens=5)) for request in asked[:3]]

    answers = LocalGenerator(model, tokenizer, ends, compact_at=2.0).generate(asked)
    assert len({len(answer.tokens) for answer in answers}) > 4
    assert {answer.stop for answer in answers} == {"eos", "length"}
    alone = [LocalGenerator(model, tokenizer, ends).generate([request])[0] for request in asked[:3]]
    assert same(answers[:3], alone)
    for generator in (
        LocalGenerator(model, tokenizer, ends, compact_at=0.25),
        LocalGenerator(model, tokenizer, ends, compact_at=1e-9),
        LocalGenerator(model, tokenizer, ends, batch=1),
        LocalGenerator(model, tokenizer, ends, batch=4),
    ):
        assert same(answers, generator.generate(asked))
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = LocalGenerator(model, tokenizer, ends).generate([asked[i] for i in order])
    assert same([answers[i] for i in order], shuffled)


def test_what_stands_in_the_padding_changes_nothing(llama: PreTrainedModel) -> None:
    with torch.inference_mode():
        logits = [LibraryContext(llama, pad, room=2).read([(7, 8, 9, 10, 11, 12), (5, 6), (9,)]) for pad in (0, 200)]
    assert torch.equal(*logits)


def test_room_is_only_a_hint(llama: PreTrainedModel) -> None:
    tokens = (7, 8, 9, 10, 11, 12, 13)
    with torch.inference_mode():
        exact = llama(torch.tensor([tokens])).logits[0, 2:]
        for room in (0, 1, 2, 10):
            context = LibraryContext(llama, 0, room)
            read = [context.read([tokens[:3]])]
            read += [context.append(torch.tensor([t]), torch.tensor([True])) for t in tokens[3:]]
            assert torch.allclose(torch.cat(read), exact, rtol=0, atol=1e-4)


def test_seeds_reproduce_and_distinct_seeds_differ(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    generator = LocalGenerator(llama, tokenizer, NEVER)
    asked = [Request((5, 6, 7), seed, Sampling(12)) for seed in range(20)]
    answers = generator.generate(asked)
    assert answers == generator.generate(asked)
    assert len({answer.tokens for answer in answers}) == 20
    assert same(generator.generate([asked[4], asked[4]]), [answers[4], answers[4]])


def test_requests_of_different_settings_may_come_together(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    generator = LocalGenerator(llama, tokenizer, NEVER)
    ways = [Sampling(9), Sampling(9, temperature=0.0), Sampling(9, temperature=0.4), Sampling(9, top_p=0.1)]
    ways += [Sampling(9, top_k=2), Sampling(9, min_p=0.5)]
    asked = [Request((5, 6, 7), 3, way) for way in ways] * 2
    answers = generator.generate(asked)
    assert same(answers, [generator.generate([request])[0] for request in asked])
    assert len({answer.tokens for answer in answers}) > 3


def test_a_longer_limit_only_continues(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    generator = LocalGenerator(llama, tokenizer, NEVER)
    short, long = generator.generate([Request((5, 6), 3, Sampling(n)) for n in (4, 9)])
    assert len(short.tokens) == 4
    assert long.tokens[:4] == short.tokens
    assert short.stop == long.stop == "length"


def test_a_prompt_is_read_once_for_all_its_samples(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(CONFIGS["gpt2"])
    fed: list[torch.Size] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].shape))
    asked = [Request(p, s, Sampling(6)) for s in range(8) for p in ((5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16))]
    LocalGenerator(model, tokenizer, NEVER).generate(asked)
    # Three prompts once, then 24 rows for each token but the last, which nothing follows.
    assert fed == [(3, 4)] + [(24, 1)] * 5
    fed.clear()
    LocalGenerator(model, tokenizer, NEVER, batch=20).generate(asked)  # a prompt's samples are not parted for 4 rows
    assert fed == [(2, 4)] + [(16, 1)] * 5 + [(1, 4)] + [(8, 1)] * 5
    fed.clear()
    LocalGenerator(model, tokenizer, NEVER, batch=5).generate(asked)
    assert fed == ([(1, 4)] + [(5, 1)] * 5 + [(1, 4)] + [(3, 1)] * 5) * 3
    hook.remove()


def test_rows_that_ended_leave_the_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(CONFIGS["gpt2"])
    rows: list[int] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    asked = [Request((5, 6), seed, Sampling(2 + seed)) for seed in range(8)]
    LocalGenerator(model, tokenizer, NEVER).generate(asked)
    # One row ends at each step: a quarter of 8 after two, of 6 after two, of 4, 3, 2 and 1 after one.
    assert rows == [1, 8, 8, 6, 6, 4, 3, 2, 1]
    hook.remove()


def test_end_of_text_is_kept_with_its_log_prob(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    asked = requests(4, Sampling(16), samples=4)
    free = LocalGenerator(llama, tokenizer, NEVER).generate(asked)
    ends = frozenset(free[0].tokens[3:4] + free[1].tokens[5:6] + free[2].tokens[-1:])
    for before, after in zip(free, LocalGenerator(llama, tokenizer, ends).generate(asked), strict=True):
        at = next((i for i, token in enumerate(before.tokens) if token in ends), None)
        assert after.tokens == before.tokens[: None if at is None else at + 1]
        assert after.stop == ("length" if at is None else "eos")  # also when it is the last token that may be sampled
        assert len(after.logprobs) == len(after.tokens)


def test_stop_strings_end_a_completion_with_the_token_that_completes_them(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    request = Request((5, 6, 7), 1, Sampling(24))
    free = LocalGenerator(llama, tokenizer, NEVER).generate([request])[0]
    pieces = [tokenizer.decode([token]) for token in free.tokens]
    text = "".join(pieces)
    readable = [i for i in range(2, 20) if "\ufffd" not in pieces[i] + pieces[i + 1]]
    at = next(i for i in readable if text.index(pieces[i][-1] + pieces[i + 1][0]) == len("".join(pieces[: i + 1])) - 1)
    stop = pieces[at][-1] + pieces[at + 1][0]  # spans two tokens, and occurs here first
    asked = [
        replace(request, sampling=Sampling(24, stop=("never seen", stop))),
        request,
        replace(request, sampling=Sampling(24, stop=("never seen",))),
    ]
    stopped, other, unseen = LocalGenerator(llama, tokenizer, NEVER).generate(asked)
    assert stopped.tokens == free.tokens[: at + 2]
    assert stopped.stop == "stop"
    assert same([other, unseen], [free, free])
    # The end-of-text token has the last word where it also completes a stop string.
    ending = LocalGenerator(llama, tokenizer, {free.tokens[at + 1]} - set(free.tokens[: at + 1]))
    assert ending.generate(asked[:1])[0].stop == "eos"


def test_the_model_is_handed_back_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(
        GPT2Config(vocab_size=320, n_embd=32, n_layer=3, n_head=4, n_positions=128, attn_pdrop=0.5, resid_pdrop=0.5)
    )
    asked = requests(3, Sampling(8))
    quiet = LocalGenerator(model, tokenizer, NEVER).generate(asked)
    model.train()
    model.transformer.h[1].eval()
    model.lm_head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    graphs: list[bool] = []
    hook = model.register_forward_pre_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    assert same(LocalGenerator(model, tokenizer, NEVER).generate(asked), quiet)  # dropout is off while sampling
    assert graphs == [False] * 8
    hook.remove()
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients
    model.eval()
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()  # nothing was left that autograd refuses


def test_a_model_of_the_family_is_handed_back_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(LlamaConfig(**SHAPE, **HEADS, attention_dropout=0.5)).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    LocalGenerator(model, tokenizer, NEVER, products=torch.bfloat16).generate(requests(3, Sampling(8)))
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name])
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_that_also_reads_forests_samples_the_same(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = small(CONFIGS[family])
    asked = requests(5, Sampling(16))
    plain = LocalGenerator(model, tokenizer, NEVER).generate(asked)
    decoder = Decoder(model)
    assert decoder.layout == "forest"
    assert same(LocalGenerator(decoder.model, tokenizer, NEVER).generate(asked), plain)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_a_peft_model_samples_with_its_active_adapter(tokenizer: PreTrainedTokenizerFast) -> None:
    base = small(CONFIGS["llama"])
    asked = requests(3, Sampling(12))
    plain = LocalGenerator(base, tokenizer, NEVER).generate(asked)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted = LocalGenerator(model, tokenizer, NEVER).generate(asked)
    assert worst_log_prob(model, asked, adapted) <= 1e-4
    assert [a.tokens for a in adapted] != [p.tokens for p in plain]
    with model.disable_adapter():
        assert same(LocalGenerator(model, tokenizer, NEVER).generate(asked), plain)


def test_end_of_text_ids_come_from_the_generation_config_and_the_tokenizer(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.generation_config, "eos_token_id", [3, 9])
    assert LocalGenerator(llama, tokenizer).eos_ids == {1, 3, 9}
    monkeypatch.setattr(llama.generation_config, "eos_token_id", 3)
    assert end_of_text(llama, tokenizer) == {1, 3}
    monkeypatch.setattr(llama.generation_config, "eos_token_id", None)
    assert end_of_text(llama, tokenizer) == {1}
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UserError, match="end-of-text token"):
        end_of_text(llama, bare)


def test_requests_that_cannot_be_met_are_refused(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    generator = LocalGenerator(llama, tokenizer, NEVER)
    assert generator.generate([]) == []
    assert len(generator.generate([Request((5,) * 100, 0, Sampling(28))])[0].tokens) == 28
    with pytest.raises(UserError, match=r"prompt of 101 tokens and up to 28 new ones exceed .* context of 128"):
        generator.generate([Request((5,) * 101, 0, Sampling(28))])
    with pytest.raises(ValueError, match="batch is 0"):
        LocalGenerator(llama, tokenizer, batch=0)
    with pytest.raises(ValueError, match="compact_at is 0"):
        LocalGenerator(llama, tokenizer, compact_at=0.0)


def test_a_row_that_has_ended_stays_inside_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    # Learned positions end at 128: the long prompt is over after 8 tokens, while the short one goes on for 120.
    model = small(CONFIGS["gpt2"])
    asked = [Request((5,) * 120, 0, Sampling(8)), Request((6,) * 8, 1, Sampling(120))]
    answers = LocalGenerator(model, tokenizer, NEVER, compact_at=2.0).generate(asked)
    assert [len(answer.tokens) for answer in answers] == [8, 120]
    assert worst_log_prob(model, asked, answers) <= 1e-4


@pytest.mark.parametrize("ahead", [1, 8])
def test_a_model_that_has_diverged_is_named(
    ahead: int, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keel.rollout.local._ahead_on", lambda device: ahead)
    model = small(CONFIGS["llama"])
    for value in (torch.nan, torch.inf):
        with torch.no_grad():
            model.lm_head.weight[7].fill_(value)
        for sampling in (Sampling(20), Sampling(20, top_k=5), Sampling(20, temperature=0.0)):
            with pytest.raises(UserError, match="weights have diverged"):
                LocalGenerator(model, tokenizer, NEVER).generate([Request((5, 6), 0, sampling)])


@pytest.mark.parametrize("ahead", [3, 8, 100])
def test_looking_seldom_at_who_has_ended_changes_no_completion(
    ahead: int, llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [replace(one, sampling=Sampling(1 + place % 23)) for place, one in enumerate(requests(30, Sampling(1)))]
    asked += requests(10, Sampling(23, stop=("a",)), samples=2)
    generator = LocalGenerator(llama, tokenizer, range(0, VOCABULARY, 16))
    often = generator.generate(asked)
    assert {one.stop for one in often} == {"eos", "stop", "length"}
    monkeypatch.setattr("keel.rollout.local._ahead_on", lambda device: ahead)
    assert same(generator.generate(asked), often)
