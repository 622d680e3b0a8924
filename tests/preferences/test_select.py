"""Which pair next: scores by hand, propensities against how often pairs really come up, and means weighed back."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.preferences.select import (
    Choice,
    Greedy,
    Mixed,
    Proportional,
    Strategy,
    bald,
    choose,
    disagreement,
    double_thompson,
    policy,
    priorities,
    served_propensity,
    weights,
)

STRATEGIES: tuple[Strategy, ...] = ("random", "disagreement", "bald", "double-thompson")
PROMPT = np.array([0, 0, 0, 7, 7, 7, 7])
PAIRS = np.array([*itertools.combinations(range(3), 2), *itertools.combinations(range(3, 7), 2)])
SCORES = np.random.default_rng(11).normal(0, 1.5, (5, 7))


def everything(count: int) -> np.ndarray:
    return np.ones(count, dtype=bool)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def entropy(p: float) -> float:
    return -sum(x * math.log(x) for x in (p, 1 - p) if x > 0)


def test_disagreement_and_bald_by_hand() -> None:
    """Two members say .9 and .5 of the first pair, 1 and 0 of the next, ½ twice of the third, .9 twice of the last."""
    gaps = np.array([[logit(0.9), 800.0, 0.0, logit(0.9)], [0.0, -800.0, 0.0, logit(0.9)]])
    scores = np.concatenate([gaps, np.zeros((2, 1))], axis=1)
    pairs = np.array([[0, 4], [1, 4], [2, 4], [3, 4]])
    assert disagreement(scores, pairs) == pytest.approx([0.04, 0.25, 0, 0])
    assert bald(scores, pairs) == pytest.approx([entropy(0.7) - (entropy(0.9) + entropy(0.5)) / 2, math.log(2), 0, 0])
    assert disagreement(scores, pairs[:, ::-1]) == pytest.approx(disagreement(scores, pairs))
    assert bald(scores, pairs[:, ::-1]) == pytest.approx(bald(scores, pairs))


@given(st.lists(st.lists(st.floats(-30, 30), min_size=2, max_size=2), min_size=1, max_size=6))
def test_scores_are_mutual_information_and_variance(members: list[list[float]]) -> None:
    scores = np.array(members)
    pairs = np.array([[0, 1]])
    p = [1 / (1 + math.exp(min(other - one, 700))) for one, other in members]
    mean = sum(p) / len(p)
    assert disagreement(scores, pairs)[0] == pytest.approx(sum((x - mean) ** 2 for x in p) / len(p), abs=1e-12)
    # I(vote; member) = mean over members of the divergence of its vote from the mixture's
    divergence = [sum(a * math.log(a / b) for a, b in ((x, mean), (1 - x, 1 - mean)) if a > 0 and b > 0) for x in p]
    found = bald(scores, pairs)[0]
    assert found == pytest.approx(sum(divergence) / len(p), abs=1e-9)
    assert 0 <= found <= math.log(2) + 1e-12


def test_bald_is_half_the_variance_per_coin_for_a_small_spread() -> None:
    for p in (0.5, 0.8, 0.97):
        scores = np.array([[logit(p + step), 0.0] for step in (-0.002, 0.001, 0.001)])
        pairs = np.array([[0, 1]])
        assert bald(scores, pairs)[0] == pytest.approx(disagreement(scores, pairs)[0] / (2 * p * (1 - p)), rel=0.02)


def test_double_thompson_by_hand() -> None:
    """Answers a, b, c are the best of 2, 1, 1 of four members; of the second prompt all want the first answer."""
    scores = np.array([[2.0, 1, 0, 5, 1, 2], [2, 1, 0, 5, 2, 1], [0, 1, 0, 5, 0, 0], [0, 1, 3, 5, 9, 9]])
    scores[3, 3] = 10
    pairs = np.array([[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]])
    found = double_thompson(scores, pairs, np.array([0, 0, 0, 1, 1, 1]))
    a, b, c = 1 / 2, 1 / 4, 1 / 4
    first = [a * b / (1 - a) + b * a / (1 - b), a * c / (1 - a) + c * a / (1 - c), b * c / (1 - b) + c * b / (1 - c)]
    assert found == pytest.approx([*(part / 2 for part in first), 1 / 4, 1 / 4, 0])
    assert sum(first) == pytest.approx(1)


def test_a_member_that_sees_several_alike_is_split() -> None:
    """One member, a and b its best alike: whichever comes first, the other follows. With a third as good, any pair."""
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    assert double_thompson(np.array([[1.0, 1, 0]]), pairs, np.zeros(3, dtype=int)) == pytest.approx([1, 0, 0])
    assert double_thompson(np.array([[1.0, 1, 1]]), pairs, np.zeros(3, dtype=int)) == pytest.approx([1 / 3] * 3)
    # with a second member that wants a: w = 3/4, 1/4, 0
    assert double_thompson(np.array([[1.0, 1, 0], [1, 0, 0]]), pairs, np.zeros(3, dtype=int))[0] == pytest.approx(1)


def test_double_thompson_against_drawing_members() -> None:
    """The procedure itself, draw by draw."""
    rng = np.random.default_rng(0)
    prompts = [[0, 1, 2], [3, 4, 5, 6]]
    best = [[max(answers, key=lambda answer: member[answer]) for answers in prompts] for member in SCORES.tolist()]
    seen: Counter[tuple[int, int]] = Counter()
    draws = 20_000
    for prompt, start in rng.integers(0, [2, len(SCORES)], size=(draws, 2)).tolist():
        one = other = best[start][prompt]
        while other == one:
            other = best[int(rng.integers(len(SCORES)))][prompt]
        seen[min(one, other), max(one, other)] += 1
    found = double_thompson(SCORES, PAIRS, PROMPT)
    for (one, other), probability in zip(PAIRS.tolist(), found.tolist(), strict=True):
        assert seen[one, other] / draws == pytest.approx(probability, abs=0.015)


@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans())
def test_double_thompson_gives_each_prompt_its_share(seed: int, members: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (members, 7)).astype(float) if ties else rng.normal(size=(members, 7))
    kept = rng.random(len(PAIRS)) < 0.6
    kept[[0, -1]] = True
    pairs = rng.permutation(PAIRS[kept])
    found = double_thompson(scores, pairs, PROMPT)
    assert (found >= 0).all()
    of_first = PROMPT[pairs[:, 0]] == 0
    assert [found[of_first].sum(), found[~of_first].sum()] == pytest.approx([0.5, 0.5])


def test_double_thompson_of_two_answers_is_random() -> None:
    prompt = np.repeat(np.arange(5), 2)
    pairs = np.arange(10).reshape(5, 2)
    assert double_thompson(np.random.default_rng(0).normal(size=(4, 10)), pairs, prompt) == pytest.approx([0.2] * 5)


def test_what_is_no_ensemble_or_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        disagreement(np.array([[0.0, math.nan]]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="needs a member"):
        bald(np.empty((0, 2)), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="finite numbers"):
        double_thompson(np.array([[0.0, math.inf, 0.0]]), np.array([[0, 1]]), np.array([0, 0, 0]))
    for pair in ([0, 2], [1, 1]):
        with pytest.raises(ValueError, match="a pair is none"):
            double_thompson(np.zeros((1, 3)), np.array([pair]), np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Mixed(Greedy(np.zeros(2)), "x", 1.2)
    with pytest.raises(ValueError, match="negative"):
        Proportional(np.array([0.5, -0.1]))


@given(
    st.sampled_from(STRATEGIES),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.lists(st.booleans(), min_size=9, max_size=9).filter(any),
)
def test_probabilities_are_a_distribution_over_what_is_left(
    strategy: Strategy, epsilon: float, mask: list[bool]
) -> None:
    left = np.array(mask)
    found = policy(strategy, SCORES, PAIRS, PROMPT, epsilon).probabilities(left)
    assert found.sum() == pytest.approx(1)
    assert (found[~left] == 0).all()
    assert (found[left] >= epsilon / left.sum() - 1e-12).all()
    if epsilon == 1 or strategy == "random":
        assert found[left] == pytest.approx(np.full(left.sum(), 1 / left.sum()))


def test_the_mixture_by_hand() -> None:
    """Four candidates, ε = .2: the best gets .8 + .05; two that share the lead .4 + .05 each; weights are scaled."""
    left = everything(4)
    assert Mixed(Greedy(np.array([1.0, 3, 2, 0])), "x").probabilities(left) == pytest.approx([0.05, 0.85, 0.05, 0.05])
    assert Mixed(Greedy(np.array([3.0, 3, 2, 0])), "x").probabilities(left) == pytest.approx([0.45, 0.45, 0.05, 0.05])
    drawn = Mixed(Proportional(np.array([1.0, 3, 0, 0])), "x")
    assert drawn.probabilities(left) == pytest.approx([0.25, 0.65, 0.05, 0.05])
    left[1] = False
    assert drawn.probabilities(left) == pytest.approx([0.8 + 0.2 / 3, 0, 0.2 / 3, 0.2 / 3])
    left[0] = False
    assert drawn.probabilities(left) == pytest.approx([0, 0, 0.5, 0.5])  # only weights of 0 are left


def test_strategies_take_what_they_say() -> None:
    left = everything(len(PAIRS))
    assert (
        policy("disagreement", SCORES, PAIRS, PROMPT, 0.0).probabilities(left).argmax()
        == disagreement(SCORES, PAIRS).argmax()
    )
    assert policy("bald", SCORES, PAIRS, PROMPT, 0.0).probabilities(left).argmax() == bald(SCORES, PAIRS).argmax()
    assert policy("double-thompson", SCORES, PAIRS, PROMPT, 0.0).probabilities(left) == pytest.approx(
        double_thompson(SCORES, PAIRS, PROMPT)
    )
    assert {policy(strategy, SCORES, PAIRS, PROMPT).epsilon for strategy in STRATEGIES} == {0.2}
    assert [policy(strategy, SCORES, PAIRS, PROMPT).name for strategy in STRATEGIES] == list(STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_propensities_are_how_often_pairs_come_up(strategy: Strategy) -> None:
    """First draws and, given the first, second draws: frequencies against the propensities that were said."""
    rng = np.random.default_rng(1)
    asked, times = policy(strategy, SCORES, PAIRS, PROMPT), 6000
    batches = [choose(asked, 2, rng, everything(len(PAIRS))) for _ in range(times)]
    first = Counter(batch[0].candidate for batch in batches)
    both = Counter((batch[0].candidate, batch[1].candidate) for batch in batches)
    said = {choice.candidate: choice.propensity for choice, _ in batches}
    assert sum(said.values()) == pytest.approx(1, abs=1e-9)  # every pair has come up
    for candidate, propensity in said.items():
        assert first[candidate] / times == pytest.approx(propensity, abs=0.025)
    for batch in batches:
        assert [choice.left for choice in batch] == [9, 8]
        assert batch[0].candidate != batch[1].candidate
        assert {choice.policy for choice in batch} == {strategy}
    together = {(one.candidate, two.candidate): one.propensity * two.propensity for one, two in batches}
    for pair, probability in together.items():
        assert both[pair] / times == pytest.approx(probability, abs=0.025)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_means_are_weighed_back(strategy: Strategy) -> None:
    """Over all possible batches of three, exactly: Σ P(batch)·(1/n) Σ v_t f(c_t) = mean of f. And P sums to 1."""
    pairs = PAIRS[:6]
    asked = policy(strategy, SCORES, pairs, PROMPT)
    f = np.random.default_rng(2).normal(size=6)
    f[asked.policy.probabilities(everything(6)).argmax()] += 5  # what the policy likes differs from the others
    expected = naive = total = 0.0
    for batch in itertools.permutations(range(6), 3):
        left, choices = everything(6), []
        for candidate in batch:
            propensity = float(asked.probabilities(left)[candidate])
            choices.append(Choice(candidate, strategy, propensity, int(left.sum())))
            left[candidate] = False
        probability = math.prod(choice.propensity for choice in choices)
        total += probability
        expected += probability * float((weights(choices) * f[list(batch)]).mean())
        naive += probability * float(f[list(batch)].mean())
    assert total == pytest.approx(1)
    assert expected == pytest.approx(f.mean())
    assert (naive == pytest.approx(f.mean(), abs=0.05)) == (strategy == "random")


def test_means_are_weighed_back_for_real_batches() -> None:
    """400 candidates, batches of 60: the weighted mean over many batches is the population's, the plain one is not."""
    rng = np.random.default_rng(3)
    score = rng.random(400)
    f = score + rng.normal(0, 0.1, 400)
    asked = Mixed(Proportional(score**3), "x")
    batches = [choose(asked, 60, rng, everything(400)) for _ in range(150)]
    values = [f[[choice.candidate for choice in batch]] for batch in batches]
    weighed = np.array([(weights(batch) * value).mean() for batch, value in zip(batches, values, strict=True)])
    error = weighed.std() / math.sqrt(len(weighed))
    assert error < 0.02
    assert weighed.mean() == pytest.approx(f.mean(), abs=3 * error)
    assert np.mean([value.mean() for value in values]) > f.mean() + 0.1


def test_a_single_choice_is_weighed_by_its_inverse_propensity() -> None:
    """n = 1: v = 1/(N·π), so that v·f is the inverse-propensity estimate of the mean."""
    assert weights([Choice(3, "x", 0.1, 5)]) == pytest.approx([1 / (5 * 0.1)])
    assert weights([]).shape == (0,)
    at_random = [Choice(0, "x", 1 / 4, 4), Choice(2, "x", 1 / 3, 3)]
    assert weights(at_random) == pytest.approx([1, 1])
    assert weights([Choice(0, "x", 0.9, 2), Choice(1, "x", 1.0, 1)]) == pytest.approx([1, 1])  # everything was chosen
    for wrong in ([Choice(0, "x", 0.5, 4), Choice(1, "x", 0.5, 2)], [Choice(0, "x", 0.0, 4)]):
        with pytest.raises(ValueError, match="not the draws of one sequence"):
            weights(wrong)


def test_a_batch_stays_within_what_is_left_and_is_seeded() -> None:
    left = everything(len(PAIRS))
    left[[1, 4]] = False
    asked = policy("bald", SCORES, PAIRS, PROMPT)
    found = choose(asked, 20, np.random.default_rng(0), left)
    assert sorted(choice.candidate for choice in found) == [0, 2, 3, 5, 6, 7, 8]
    assert found[-1].propensity == pytest.approx(1)
    assert left.sum() == 7  # the caller's mask is as it was
    assert found == choose(asked, 20, np.random.default_rng(0), left)
    assert choose(asked, 0, np.random.default_rng(0), left) == []
    greedy = choose(policy("bald", SCORES, PAIRS, PROMPT, 0.0), 9, np.random.default_rng(0), everything(9))
    assert [choice.candidate for choice in greedy] == np.argsort(-bald(SCORES, PAIRS)).tolist()


def test_priorities_serve_as_the_policy_draws() -> None:
    """Orders of the first two that a server hands out, against the sequential draws of the mixed policy."""
    weight = np.array([0.5, 0.3, 0.15, 0.05])
    asked = Mixed(Proportional(weight), "x", 0.3)
    rng = np.random.default_rng(4)
    times = 20_000
    seen = Counter(served(priorities(asked, rng), 0.3, rng, 2) for _ in range(times))
    left = everything(4)
    for one, two in itertools.permutations(range(4), 2):
        left[:] = True
        probability = asked.probabilities(left)[one]
        left[one] = False
        probability *= asked.probabilities(left)[two]
        assert seen[one, two] / times == pytest.approx(probability, abs=0.012)


def served(priority: np.ndarray, epsilon: float, rng: np.random.Generator, count: int) -> tuple[int, ...]:
    """As a server does it: any of those left with probability ε, else the one with the highest priority."""
    left = list(range(len(priority)))
    found = []
    for _ in range(count):
        found.append(int(rng.choice(left)) if rng.random() < epsilon else max(left, key=lambda item: priority[item]))
        left.remove(found[-1])
    return tuple(found)


def test_priorities_of_scores_are_the_scores() -> None:
    asked = policy("disagreement", SCORES, PAIRS, PROMPT)
    assert priorities(asked, np.random.default_rng(0)) == pytest.approx(disagreement(SCORES, PAIRS))
    last = priorities(Mixed(Proportional(np.array([0.0, 1.0])), "x"), np.random.default_rng(0))
    assert last[0] == -math.inf < last[1]


def test_the_servers_propensity_is_the_mixtures() -> None:
    score = np.array([3.0, 1, 3, 2, 0])
    expected = Mixed(Greedy(score), "x", 0.3).probabilities(everything(5))
    found = [served_propensity(bool(each == 3), 2, 5, 0.3) for each in score]
    assert found == pytest.approx(expected.tolist())
    assert sum(found) == pytest.approx(1)
    assert served_propensity(best=False, tied=1, left=10) == pytest.approx(0.02)
    for wrong in ({"tied": 0, "left": 3}, {"tied": 4, "left": 3}):
        with pytest.raises(ValueError, match="random share"):
            served_propensity(best=True, **wrong)
