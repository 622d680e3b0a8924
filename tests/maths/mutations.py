"""One-line mistakes to make in `keel.maths`, each of which a test must notice; `tests/mutate.py maths` makes them."""

from mutation import Mutation

DEVIATION = "(x - mean).where(mask, 0)"
MEAN = "x.where(mask, 0).sum() / count"
GAE_CHECK = "0 <= gamma <= 1 and 0 <= lam <= 1"
KL_CLIP = "min(max(kl / self.target - 1, -STEP), STEP)"
SURROGATE = "torch.maximum(-ratio * advantages, -ratio.clamp(1 - low, 1 + high) * advantages)"
SQUARES = "torch.maximum((values - returns).square(), (clipped - returns).square()) / 2"
PAIR = "-probability * logsigmoid(delta - margin) - (1 - probability) * logsigmoid(-delta - margin)"
CLIPPED = "((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))"
OLD_CHECK = '    _check_constant("old_logprobs", old_logprobs)\n'
ADVANTAGE_CHECK = '    _check_constant("advantages", advantages)\n'

MUTATIONS = [
    # Log-probabilities
    Mutation("logprobs._tempered", "temperature multiplies", "logits / temperature", "logits * temperature"),
    Mutation("logprobs._tempered", "temperature ignored", "logits / temperature", "logits"),
    Mutation("logprobs._tempered", "temperature only where it is 1", "temperature == 1", "temperature != 1"),
    Mutation(
        "logprobs._tempered", "half precision not widened", ".to(torch.promote_types(logits.dtype, torch.float32))", ""
    ),
    Mutation("logprobs._in_chunks", "temperature 0 let through", "not temperature > 0", "temperature < 0"),
    Mutation("logprobs._in_chunks", "chunks of no rows let through", "hold.rows < 1", "hold.rows < 0"),
    Mutation("logprobs._in_chunks", "everything kept", "len(hidden) <= hold.kept", "True"),
    Mutation("logprobs._in_chunks", "nothing kept", "len(hidden) <= hold.kept", "False"),
    Mutation("logprobs._in_chunks", "one row too few kept", "len(hidden) <= hold.kept", "len(hidden) < hold.kept"),
    Mutation("logprobs._in_chunks", "reentrant checkpoint", "use_reentrant=False", "use_reentrant=True"),
    Mutation(
        "logprobs._in_chunks",
        "one chunk for all",
        "zip(torch.split(hidden, hold.rows), torch.split(labels, hold.rows), strict=True)",
        "[(hidden, labels)]",
    ),
    Mutation(
        "logprobs._picked",
        "temperature ignored",
        "_OfLabels.apply(_tempered(head(hidden), temperature)",
        "_OfLabels.apply(_tempered(head(hidden), 1.0)",
    ),
    Mutation(
        "logprobs._picked",
        "hidden detached",
        "_OfLabels.apply(_tempered(head(hidden)",
        "_OfLabels.apply(_tempered(head(hidden.detach())",
    ),
    Mutation("logprobs._picked", "a linear head like any other", "isinstance(head, LinearHead)", "False"),
    Mutation("logprobs._entropy", "sign of the entropy", "surprise.sum", "-surprise.sum"),
    Mutation("logprobs._entropy", "entropy averaged over V", ".sum(-1)", ".mean(-1)"),
    Mutation(
        "logprobs._entropy",
        "entropy without care for p = 0",
        "torch.special.entr(probabilities)",
        "-probabilities * probabilities.log()",
    ),
    Mutation("logprobs._read", "softmax over tokens", "logits.softmax(-1)", "logits.softmax(0)"),
    Mutation(
        "logprobs._read", "labels in the wrong order", "logits.gather(-1, labels", "logits.gather(-1, labels.flip(0)"
    ),
    Mutation("logprobs._read", "largest logit forgotten", " - logits.amax(-1, keepdim=True)", ""),
    Mutation("logprobs._read", "largest probability forgotten", " + probabilities.amax(-1, keepdim=True).log()", ""),
    Mutation(
        "logprobs._slope",
        "label's slope rounded first",
        "logprobs[:, None].expm1().to(slope.dtype)",
        "slope.gather(-1, labels[:, None]) - 1",
    ),
    Mutation(
        "logprobs._slope",
        "label's slope left out",
        ".scatter_(-1, labels[:, None], logprobs[:, None].expm1().to(slope.dtype))",
        "",
    ),
    Mutation(
        "logprobs._slope",
        "format ignored",
        "if format is None else probabilities.to(format)",
        "if True else probabilities",
    ),
    Mutation("logprobs._OfLabels", "sign of the slope", "slope * -grad", "slope * grad"),
    Mutation(
        "logprobs._OfLabels",
        "entropy with gradient",
        "logprobs, format))\n        ctx.mark_non_differentiable(beside)",
        "logprobs, format))",
    ),
    Mutation(
        "logprobs._OfLinear",
        "entropy with gradient",
        "head.format\n        ctx.mark_non_differentiable(beside)",
        "head.format",
    ),
    Mutation("logprobs._OfLinear", "sign of the slope", "/ -ctx.temperature", "/ ctx.temperature"),
    Mutation("logprobs._OfLinear", "temperature of the slope ignored", "/ -ctx.temperature", "/ -1"),
    Mutation(
        "logprobs._OfLinear", "temperature ignored", "_read(_tempered(head(hidden), temperature)", "_read(head(hidden)"
    ),
    Mutation(
        "logprobs._OfLinear",
        "rows of the hidden states' gradient all alike",
        "(ctx.format)) * share)",
        "(ctx.format)))",
    ),
    Mutation("logprobs._OfLinear", "rows of the weights' gradient all alike", "(hidden * share)", "hidden"),
    Mutation(
        "logprobs._OfLinear", "format of the products ignored", "temperature, head.format", "temperature, weight.dtype"
    ),
    Mutation(
        "logprobs._OfLinear", "frozen weights forgotten", "any(ctx.needs_input_grad[:2])", "ctx.needs_input_grad[1]"
    ),
    Mutation("logprobs.LinearHead", "product ignored", "self.product(hidden", "linear(hidden"),
    Mutation("products.product_in", "format ignored", "(left @ right).to(format)", "left @ right"),
    Mutation("logprobs.token_logprobs", "chunks in reverse", "hold)])\n\n\ndef token", "hold)][::-1])\n\n\ndef token"),
    Mutation(
        "logprobs.token_logprobs_and_entropy",
        "log-probs in reverse",
        "logprobs for logprobs, _ in parts",
        "p for p, _ in parts[::-1]",
    ),
    Mutation(
        "logprobs.token_logprobs_and_entropy",
        "entropies in reverse",
        "entropy for _, entropy in parts",
        "h for _, h in parts[::-1]",
    ),
    Mutation("logprobs.Hold", "no bound by the vocabulary", "min(rows, numbers // vocabulary)", "rows"),
    Mutation("logprobs.Hold", "no rows at all", "max(1, ", "max(0, "),
    Mutation("logprobs.Hold", "nothing kept", "kept // vocabulary", "0"),
    # KL estimators
    Mutation("kl.k1", "sign", "return logprobs - reference", "return reference - logprobs"),
    Mutation("kl.k1", "detach", "return logprobs - reference", "return (logprobs - reference).detach()"),
    Mutation("kl.k2", "½ dropped", ".square() / 2", ".square()"),
    Mutation("kl.k2", "absolute value for square", ".square() / 2", ".abs() / 2"),
    Mutation("kl.k2", "plus for minus", "(reference - logprobs).square()", "(reference + logprobs).square()"),
    Mutation(
        "kl.k2",
        "arguments swapped",
        "(reference - logprobs).square()",
        "(logprobs - reference).square()",
        same_because="a square does not see the sign of u",
    ),
    Mutation("kl.k3", "wrong way round", "u = reference - logprobs", "u = logprobs - reference"),
    Mutation("kl.k3", "1 dropped", "u.expm1() - u", "u.exp() - u"),
    Mutation("kl.k3", "sign of u", "u.expm1() - u", "u.expm1() + u"),
    Mutation("kl.k3", "u dropped", "u.expm1() - u", "u.expm1()"),
    Mutation("kl.k3", "digits lost", "u.expm1() - u", "u.exp() - 1 - u"),
    Mutation("kl.k3", "exponential detached", "u.expm1() - u", "u.detach().expm1() - u"),
    # KL controllers
    Mutation("controllers.FixedKL", "moves", "return self\n", "return replace(self, coef=self.coef * 1.01)\n"),
    Mutation("controllers.AdaptiveKL", "clip at .1", "STEP = 0.2", "STEP = 0.1"),
    Mutation("controllers.AdaptiveKL", "no upper clip", KL_CLIP, "max(kl / self.target - 1, -STEP)"),
    Mutation("controllers.AdaptiveKL", "no lower clip", KL_CLIP, "min(kl / self.target - 1, STEP)"),
    Mutation("controllers.AdaptiveKL", "min and max swapped", KL_CLIP, "max(min(kl / self.target - 1, -STEP), STEP)"),
    Mutation("controllers.AdaptiveKL", "1 dropped from the error", "kl / self.target - 1", "kl / self.target"),
    Mutation("controllers.AdaptiveKL", "error absolute, not relative", "kl / self.target - 1", "kl - self.target"),
    Mutation("controllers.AdaptiveKL", "target over KL", "kl / self.target - 1", "self.target / (kl or 1) - 1"),
    Mutation("controllers.AdaptiveKL", "sign of the step", "(1 + error", "(1 - error"),
    Mutation("controllers.AdaptiveKL", "episodes ignored", "error * episodes / self", "error * 512 / self"),
    Mutation("controllers.AdaptiveKL", "horizon ignored", "episodes / self.horizon", "episodes / 10_000"),
    Mutation("controllers.AdaptiveKL", "β set, not multiplied", "coef=self.coef * (1", "coef=0.15 + 0.15 * (0"),
    Mutation("controllers.AdaptiveKL", "nan let through", "not math.isfinite(kl)", "math.isinf(kl)"),
    Mutation(
        "controllers.AdaptiveKL", "β may reach 0", "episodes * STEP < self.horizon", "episodes * STEP <= self.horizon"
    ),
    Mutation("controllers.AdaptiveKL", "negative episodes", "not 0 <= episodes * STEP", "not -1e9 <= episodes * STEP"),
    Mutation("controllers.AdaptiveKL", "target 0 let through", "not self.target > 0", "not self.target >= 0"),
    Mutation("controllers.AdaptiveKL", "horizon 0 let through", "self.horizon < 1", "self.horizon < 0"),
    Mutation("controllers", "β = 0 refused", "not coef >= 0", "not coef > 0"),
    Mutation("controllers", "β = nan let through", "not coef >= 0", "coef < 0"),
    # Credit over time
    Mutation("returns.gae", "sign of V", "next_value - value", "next_value + value"),
    Mutation("returns.gae", "sign of the next V", "reward + gamma", "reward - gamma"),
    Mutation("returns.gae", "γ missing before V", "gamma * next_value", "next_value"),
    Mutation("returns.gae", "γ missing before A", "gamma * lam * advantage", "lam * advantage"),
    Mutation("returns.gae", "λ missing", "gamma * lam * advantage", "gamma * advantage"),
    Mutation("returns.gae", "λ before V", "gamma * next_value", "gamma * lam * next_value"),
    Mutation("returns.gae", "A not carried over a gap", "* advantage, advantage)", "* advantage, 0 * advantage)"),
    Mutation("returns.gae", "A grows in a gap", "* advantage, advantage)", "* advantage, gamma * lam * advantage)"),
    Mutation("returns.gae", "V not carried over a gap", "torch.where(sampled, value, next_value)", "value"),
    Mutation("returns.gae", "gaps not zeroed", "advantage.where(sampled, 0)", "advantage"),
    Mutation("returns.gae", "forward in time", "in reversed(list(zip", "in (list(zip"),
    Mutation("returns.gae", "steps not turned round", "steps[::-1]", "steps"),
    Mutation("returns.gae", "bootstraps past the end", "rewards.new_zeros", "rewards.new_ones"),
    Mutation("returns.gae", "γ > 1 let through", GAE_CHECK, "0 <= gamma and 0 <= lam <= 1"),
    Mutation("returns.gae", "γ < 0 let through", GAE_CHECK, "gamma <= 1 and 0 <= lam <= 1"),
    Mutation("returns.gae", "λ > 1 let through", GAE_CHECK, "0 <= gamma <= 1 and 0 <= lam"),
    Mutation("returns.gae", "λ < 0 let through", GAE_CHECK, "0 <= gamma <= 1 and lam <= 1"),
    # Whitening and group baselines
    Mutation(
        "advantages.whiten", "counts what is not valid", "count = mask.sum()", "count = mask.sum() * 0 + mask.numel()"
    ),
    Mutation("advantages.whiten", "mean over everything", MEAN, "x.sum() / count"),
    Mutation("advantages.whiten", "mean added", DEVIATION, "(x + mean).where(mask, 0)"),
    Mutation("advantages.whiten", "mean not taken off", DEVIATION, "x.where(mask, 0)"),
    Mutation("advantages.whiten", "result not masked", DEVIATION, "x - mean"),
    Mutation("advantages.whiten", "mean detached", DEVIATION, "(x - mean.detach()).where(mask, 0)"),
    Mutation("advantages.whiten", "unbiased variance", "square().sum() / count", "square().sum() / (count - 1)"),
    Mutation("advantages.whiten", "std, not its root", "count + VARIANCE_FLOOR).sqrt()", "count + VARIANCE_FLOOR)"),
    Mutation(
        "advantages.whiten",
        "floor outside the root",
        "count + VARIANCE_FLOOR).sqrt()",
        "count).sqrt() + VARIANCE_FLOOR",
    ),
    Mutation("advantages.whiten", "floor 1e-5", "VARIANCE_FLOOR = 1e-8", "VARIANCE_FLOOR = 1e-5"),
    Mutation("advantages.whiten", "empty mask let through", "count == 0", "count < 0"),
    Mutation(
        "advantages.group_zscore", "unbiased variance", "group) / size\n    return", "group) / (size - 1)\n    return"
    ),
    Mutation("advantages.group_zscore", "not divided by the std", "variance + VARIANCE_FLOOR", "variance * 0 + 1"),
    Mutation(
        "advantages.group_zscore",
        "variance, not std",
        "(variance + VARIANCE_FLOOR).sqrt()",
        "(variance + VARIANCE_FLOOR)",
    ),
    Mutation("advantages.group_zscore", "no floor", "(variance + VARIANCE_FLOOR)", "variance"),
    Mutation(
        "advantages.group_zscore",
        "std over the batch",
        "_group_sum(deviation.square(), group) / size",
        "deviation.var()",
    ),
    Mutation(
        "advantages.group_zscore", "std detached", "variance + VARIANCE_FLOOR", "variance.detach() + VARIANCE_FLOOR"
    ),
    Mutation("advantages.leave_one_out", "factor missing", "deviation * size / (size - 1).clamp(min=1)", "deviation"),
    Mutation(
        "advantages.leave_one_out", "factor upside down", "* size / (size - 1).clamp(min=1)", "* (size - 1) / size"
    ),
    Mutation("advantages.leave_one_out", "group of one divides by 0", "(size - 1).clamp(min=1)", "(size - 1)"),
    Mutation("advantages.group_centred", "sign", "    return deviation\n", "    return -deviation\n"),
    Mutation("advantages", "mean over the batch", "_group_sum(rewards, group) / size, group", "rewards.mean(), group"),
    Mutation(
        "advantages", "sum, not mean", "_group_sum(rewards, group) / size, group", "_group_sum(rewards, group), group"
    ),
    Mutation(
        "advantages", "rounding left in equal rewards", "rewards = rewards - lowest[group]", "rewards = rewards - 0"
    ),
    Mutation("advantages", "lowest of another group", "include_self=False", "include_self=True"),
    Mutation(
        "advantages",
        "groups not renumbered",
        "_, group = torch.unique(group, return_inverse=True)",
        "group = group % 5",
    ),
    Mutation(
        "advantages",
        "highest for lowest",
        '"amin"',
        '"amax"',
        same_because="any member's reward, taken off the whole group, leaves its deviations and makes equal ones 0",
    ),
    # Likelihood, pairs, rankings
    Mutation("losses.nll", "sign", "return -logprobs", "return logprobs"),
    Mutation("losses.bradley_terry", "sign of Δ", "delta = chosen - rejected", "delta = rejected - chosen"),
    Mutation("losses.bradley_terry", "sum for difference", "delta = chosen - rejected", "delta = chosen + rejected"),
    Mutation(
        "losses.bradley_terry", "rejected detached", "delta = chosen - rejected", "delta = chosen - rejected.detach()"
    ),
    Mutation("losses.bradley_terry", "sign of the loss", PAIR, f"-({PAIR})"),
    Mutation("losses.bradley_terry", "p ignored", PAIR, "-logsigmoid(delta - margin)"),
    Mutation("losses.bradley_terry", "other judgement ignored", PAIR, "-probability * logsigmoid(delta - margin)"),
    Mutation("losses.bradley_terry", "sign of the margin", "logsigmoid(delta - margin)", "logsigmoid(delta + margin)"),
    Mutation(
        "losses.bradley_terry", "margin for one side only", "logsigmoid(-delta - margin)", "logsigmoid(-delta + margin)"
    ),
    Mutation("losses.bradley_terry", "margin ignored", "logsigmoid(-delta - margin)", "logsigmoid(-delta)"),
    Mutation(
        "losses.bradley_terry", "σ for log σ", "probability * logsigmoid(delta", "probability * torch.sigmoid(delta"
    ),
    Mutation(
        "losses.bradley_terry", "p > 1 let through", "(probability >= 0) & (probability <= 1)", "(probability >= 0)"
    ),
    Mutation(
        "losses.bradley_terry", "p < 0 let through", "(probability >= 0) & (probability <= 1)", "(probability <= 1)"
    ),
    Mutation("losses.bradley_terry", "m < 0 let through", "(margin >= 0).all()", "(margin == margin).all()"),
    Mutation("losses.crowd_bradley_terry", "sign of the lean", "delta + lean * side", "delta - lean * side"),
    Mutation("losses.crowd_bradley_terry", "lean wherever the answer stood", "delta + lean * side", "delta + lean"),
    Mutation("losses.crowd_bradley_terry", "no lean", "delta + lean * side", "delta"),
    Mutation(
        "losses.crowd_bradley_terry",
        "honesty inverted",
        "for_one = torch.logaddexp(logsigmoid(honesty)",
        "for_one = torch.logaddexp(logsigmoid(-honesty)",
    ),
    Mutation(
        "losses.crowd_bradley_terry",
        "nobody ever lies",
        "for_one = torch.logaddexp(logsigmoid(honesty) + logsigmoid(z), logsigmoid(-honesty) + logsigmoid(-z))",
        "for_one = logsigmoid(honesty) + logsigmoid(z)",
    ),
    Mutation(
        "losses.crowd_bradley_terry",
        "the other as the one",
        "for_other = torch.logaddexp(logsigmoid(honesty) + logsigmoid(-z), logsigmoid(-honesty) + logsigmoid(z))",
        "for_other = for_one",
    ),
    Mutation("losses.crowd_bradley_terry", "sign of the loss", "-preferred * for_one - (1", "preferred * for_one + (1"),
    Mutation("losses.crowd_bradley_terry", "votes for the other do not count", " - (1 - preferred) * for_other", ""),
    Mutation(
        "losses.crowd_bradley_terry",
        "votes outside [0, 1] pass",
        "if not ((preferred >= 0) & (preferred <= 1)).all():",
        "if False:",
    ),
    Mutation("losses.centring", "difference for sum", "(chosen + rejected).square()", "(chosen - rejected).square()"),
    Mutation("losses.centring", "no square", "(chosen + rejected).square()", "(chosen + rejected).abs()"),
    Mutation("losses.centring", "mean for sum", "(chosen + rejected).square()", "((chosen + rejected) / 2).square()"),
    Mutation("losses.kwise", "sign", "-logsigmoid(scores[better]", "logsigmoid(scores[better]"),
    Mutation("losses.kwise", "order of the ranking", "better, worse = worse.nonzero", "worse, better = worse.nonzero"),
    Mutation("losses.kwise", "sum over the pairs", "losses) / pairs", "losses) * (pairs > 0)"),
    Mutation("losses.kwise", "divided by K", "losses) / pairs", "losses) / torch.bincount(group)"),
    Mutation("losses.kwise", "mean over the batch", "losses) / pairs", "losses) / pairs.sum()"),
    Mutation(
        "losses.kwise",
        "neighbours only",
        ".triu(1), group",
        ".triu(1) & ~torch.ones(len(group), len(group)).triu(2).bool(), group",
    ),
    Mutation("losses.plackett_luce", "sign", ".logsumexp(1) - scores", ".logsumexp(1) * -1 + scores"),
    Mutation(
        "losses.plackett_luce", "all compete to the end", "masked_fill(~remaining", "masked_fill(~(remaining | worse.T)"
    ),
    Mutation("losses.plackett_luce", "the worst go first", "remaining = worse |", "remaining = worse.T |"),
    Mutation("losses.plackett_luce", "the winner not among its rivals", "worse | torch.eye", "worse & ~torch.eye"),
    Mutation("losses.plackett_luce", "summed over the wrong side", ".logsumexp(1)", ".logsumexp(0)"),
    Mutation(
        "losses.plackett_luce",
        "mean over K",
        "index_add(0, group, losses)\n\n\ndef ppo_clip(",
        "index_add(0, group, losses) / torch.bincount(group)\n\n\ndef ppo_clip(",
    ),
    Mutation(
        "losses.kwise, plackett_luce",
        "groups mixed",
        "(group[:, None] == group[None, :])",
        "(group[:, None] >= -1).expand(-1, len(group))",
    ),
    Mutation("losses.kwise, plackett_luce", "better for worse", ".triu(1), group", ".tril(-1), group"),
    Mutation("losses.kwise, plackett_luce", "ranking of one let through", "sizes < 2", "sizes < 1"),
    # The clipped surrogate
    Mutation("losses.ppo_clip", "minimum for maximum", "torch.maximum(-ratio", "torch.minimum(-ratio"),
    Mutation(
        "losses.ppo_clip",
        "sign",
        SURROGATE,
        "torch.maximum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)",
    ),
    Mutation("losses.ppo_clip", "not clipped", SURROGATE, "-ratio * advantages"),
    Mutation("losses.ppo_clip", "always clipped", SURROGATE, "-ratio.clamp(1 - low, 1 + high) * advantages"),
    Mutation("losses.ppo_clip", "clip without lower bound", "clamp(1 - low, 1 + high)", "clamp(max=1 + high)"),
    Mutation("losses.ppo_clip", "clip without upper bound", "clamp(1 - low, 1 + high)", "clamp(min=1 - low)"),
    Mutation("losses.ppo_clip", "bounds swapped", "clamp(1 - low, 1 + high)", "clamp(1 - high, 1 + low)"),
    Mutation(
        "losses.ppo_clip", "lower bound 1/(1 + low)", "clamp(1 - low, 1 + high)", "clamp(1 / (1 + low), 1 + high)"
    ),
    Mutation("losses.ppo_clip", "clipped ratio detached", "-ratio.clamp(", "-ratio.detach().clamp("),
    Mutation(
        "losses.ppo_clip",
        "ratio upside down",
        f"{ADVANTAGE_CHECK}    ratio = (logprobs - old_logprobs)",
        f"{ADVANTAGE_CHECK}    ratio = (old_logprobs - logprobs)",
    ),
    Mutation(
        "losses.ppo_clip",
        "ratio to itself",
        f"{ADVANTAGE_CHECK}    ratio = (logprobs - old_logprobs)",
        f"{ADVANTAGE_CHECK}    ratio = (logprobs - logprobs.detach())",
    ),
    Mutation(
        "losses.ppo_clip",
        "ratio to nothing",
        f"{ADVANTAGE_CHECK}    ratio = (logprobs - old_logprobs)",
        f"{ADVANTAGE_CHECK}    ratio = logprobs",
    ),
    Mutation(
        "losses.ppo_clip",
        "exponential to first order",
        f"{ADVANTAGE_CHECK}    ratio = (logprobs - old_logprobs).exp()",
        f"{ADVANTAGE_CHECK}    ratio = 1 + (logprobs - old_logprobs)",
    ),
    Mutation(
        "losses.ppo_clip",
        "live old log-probs let through",
        f"{OLD_CHECK}{ADVANTAGE_CHECK}    ratio =",
        f"{ADVANTAGE_CHECK}    ratio =",
    ),
    Mutation("losses.ppo_clip", "live advantages let through", f"{ADVANTAGE_CHECK}    ratio =", "    ratio ="),
    # Other surrogates
    Mutation(
        "losses.over_branches", "sum over the answer", ".index_add(0, branch, x) / sizes)", ".index_add(0, branch, x))"
    ),
    Mutation("losses.over_branches", "one answer's for all", "/ sizes)[branch]", "/ sizes)[branch * 0]"),
    Mutation("losses.over_branches", "divided by the longest", "x) / sizes)", "x) / sizes.max())"),
    Mutation("losses.cispo", "sign", "return -weight * advantages * logprobs", "return weight * advantages * logprobs"),
    Mutation("losses.cispo", "live weight", "weight = (logprobs.detach() - old", "weight = (logprobs - old"),
    Mutation("losses.cispo", "not cut off", "clamp(max=1 + high)\n    return", "clamp(max=float('inf'))\n    return"),
    Mutation("losses.cispo", "cut off at high", ".clamp(max=1 + high)", ".clamp(max=high)"),
    Mutation("losses.cispo", "cut off below", ".clamp(max=1 + high)", ".clamp(min=1 + high)"),
    Mutation(
        "losses.cispo", "without the advantage", "return -weight * advantages * logprobs", "return -weight * logprobs"
    ),
    Mutation(
        "losses.cispo",
        "live advantages let through",
        f"{ADVANTAGE_CHECK}    weight =",
        "    weight =",
    ),
    Mutation("losses.policy_gradient", "sign", "return -advantages * logprobs", "return advantages * logprobs"),
    Mutation("losses.policy_gradient", "log-probs alone", "return -advantages * logprobs", "return -logprobs"),
    Mutation(
        "losses.policy_gradient",
        "live advantages let through",
        f"{ADVANTAGE_CHECK}    return -advantages",
        "    return -advantages",
    ),
    Mutation(
        "losses.truncated_weight",
        "the wrong way round",
        "(logprobs.detach() - sampler.detach())",
        "(sampler.detach() - logprobs.detach())",
    ),
    Mutation("losses.truncated_weight", "not truncated", ".exp().clamp(max=cap)", ".exp()"),
    Mutation("losses.truncated_weight", "with a gradient", "(logprobs.detach() - sampler", "(logprobs - sampler"),
    Mutation("losses.truncated_weight", "cap below 1 let through", "not cap >= 1", "not cap >= 0"),
    Mutation(
        "returns.soft_overlong",
        "rewards length",
        "((limit - buffer - lengths) / buffer)",
        "((lengths - limit + buffer) / buffer)",
    ),
    Mutation("returns.soft_overlong", "begins at the limit", "limit - buffer - lengths", "limit - lengths"),
    Mutation("returns.soft_overlong", "without end", ".clamp(-1, 0)", ".clamp(max=0)"),
    Mutation("returns.soft_overlong", "short answers gain", ".clamp(-1, 0)", ".clamp(min=-1)"),
    Mutation("returns.soft_overlong", "buffer beyond the limit let through", "0 <= buffer <= limit", "0 <= buffer"),
    # Straight from preferences
    Mutation(
        "preferences.dpo",
        "β ignored",
        "bradley_terry(beta * chosen, beta * rejected, probability, margin)",
        "bradley_terry(chosen, rejected, probability, margin)",
    ),
    Mutation(
        "preferences.dpo",
        "answers swapped",
        "bradley_terry(beta * chosen, beta * rejected, probability, margin)",
        "bradley_terry(beta * rejected, beta * chosen, probability, margin)",
    ),
    Mutation(
        "preferences.dpo",
        "margin ignored",
        "beta * rejected, probability, margin)",
        "beta * rejected, probability, 0 * margin)",
    ),
    Mutation(
        "preferences.dpo",
        "label ignored",
        "beta * rejected, probability, margin)",
        "beta * rejected, probability * 0 + 1, margin)",
    ),
    Mutation(
        "preferences.smoothed", "no smoothing", "probability * (1 - flips) + (1 - probability) * flips", "probability"
    ),
    Mutation(
        "preferences.smoothed",
        "shrunk to nothing",
        "probability * (1 - flips) + (1 - probability) * flips",
        "probability * (1 - flips)",
    ),
    Mutation(
        "preferences.robust_dpo", "not divided", "(probability - flips) / (1 - 2 * flips)", "(probability - flips)"
    ),
    Mutation("preferences.robust_dpo", "sign of the flips", "(probability - flips)", "(probability + flips)"),
    Mutation(
        "preferences.robust_dpo", "answers swapped", "h = beta * (chosen - rejected)", "h = beta * (rejected - chosen)"
    ),
    Mutation(
        "preferences.robust_dpo",
        "clean labels only",
        "-right * logsigmoid(h) - (1 - right) * logsigmoid(-h)",
        "-right * logsigmoid(h)",
    ),
    Mutation("preferences.ipo", "goal of 1/τ", "1 / (2 * tau)", "1 / tau"),
    Mutation("preferences.ipo", "answers swapped", "h, goal = chosen - rejected,", "h, goal = rejected - chosen,"),
    Mutation(
        "preferences.ipo",
        "label ignored",
        "probability * (h - goal).square() + (1 - probability) * (h + goal).square()",
        "(h - goal).square()",
    ),
    Mutation("preferences.kto", "good and bad swapped", "torch.where(desirable,", "torch.where(~desirable,"),
    Mutation("preferences.kto", "baseline added", "(logratio - baseline)", "(logratio + baseline)"),
    Mutation("preferences.kto", "baseline ignored", "(logratio - baseline)", "(logratio)"),
    Mutation(
        "preferences.kto",
        "weights swapped",
        "desirable_weight * (-gain).sigmoid(), undesirable_weight * gain",
        "undesirable_weight * (-gain).sigmoid(), desirable_weight * gain",
    ),
    Mutation("preferences.kto", "good answers lowered", "(-gain).sigmoid()", "gain.sigmoid()"),
    Mutation(
        "preferences.kto_baseline",
        "below 0",
        "max(0.0, mismatched.detach().mean().item())",
        "mismatched.detach().mean().item()",
    ),
    Mutation("preferences.kto_baseline", "sum", ".mean().item()", ".sum().item()"),
    Mutation("preferences.simpo", "no margin", "torch.full_like(chosen, gamma)", "torch.zeros_like(chosen)"),
    Mutation(
        "preferences.simpo",
        "β ignored",
        "bradley_terry(beta * chosen, beta * rejected, probability, torch",
        "bradley_terry(chosen, rejected, probability, torch",
    ),
    Mutation(
        "preferences.odds_ratio",
        "log-probs for odds",
        "bradley_terry(_logit(chosen), _logit(rejected)",
        "bradley_terry(chosen, rejected",
    ),
    Mutation(
        "preferences.odds_ratio",
        "answers swapped",
        "bradley_terry(_logit(chosen), _logit(rejected)",
        "bradley_terry(_logit(rejected), _logit(chosen)",
    ),
    Mutation(
        "preferences.odds_ratio",
        "no probability let through",
        "if (chosen > 0).any() or (rejected > 0).any():",
        "if False:",
    ),
    Mutation("preferences._logit", "sign", "return logprob - (", "return logprob + ("),
    Mutation("preferences._logit", "P = 1 is infinite", ".clamp(min=torch.finfo(logprob.dtype).tiny)", ""),
    Mutation("preferences._check_beta", "β of 0 let through", "not beta > 0", "beta < 0"),
    Mutation(
        "preferences._check_flips", "half of the labels wrong let through", "0 <= flips < 0.5", "0 <= flips <= 0.5"
    ),
    # The best of n
    Mutation("best_of.best_of_weights", "n for n − 1", "_log_choose(i, n - 1) - whole", "_log_choose(i, n) - whole"),
    Mutation(
        "best_of.best_of_weights", "the worst", "order = proxy.argsort()", "order = proxy.argsort(descending=True)"
    ),
    Mutation(
        "best_of.best_of_weights", "ties by chance", "shares: Tensor = (levels / size)[alike]", "shares = weights"
    ),
    Mutation("best_of.best_of_weights", "more than there are let through", "1 <= n <= count", "1 <= n"),
    Mutation(
        "best_of.best_of",
        "by the score itself",
        "best_of_weights(proxy, n) * score",
        "best_of_weights(score, n) * score",
    ),
    Mutation("best_of.best_of_kl", "n for n − 1", "(n - 1) / n", "n / n"),
    Mutation("best_of.best_of_kl", "log alone", "math.log(n) - (n - 1) / n", "math.log(n)"),
    Mutation("losses.ppo_clip, ppo_clipped", "low > 1 let through", "0 <= low <= 1 and", "0 <= low and"),
    Mutation("losses.ppo_clip, ppo_clipped", "low < 0 let through", "0 <= low <= 1 and", "low <= 1 and"),
    Mutation("losses.ppo_clip, ppo_clipped", "high < 0 let through", "and high >= 0", "and high == high"),
    Mutation(
        "losses.ppo_clipped",
        "sign of A",
        CLIPPED,
        CLIPPED.replace(" < 0", " ? 0").replace(" > 0", " < 0").replace(" ? 0", " > 0"),
    ),
    Mutation("losses.ppo_clipped", "whatever the sign of A", CLIPPED, "(ratio > 1 + high) | (ratio < 1 - low)"),
    Mutation("losses.ppo_clipped", "upper side only", CLIPPED, "(advantages > 0) & (ratio > 1 + high)"),
    Mutation(
        "losses.ppo_clipped",
        "bounds swapped",
        CLIPPED,
        CLIPPED.replace("high", "?").replace("low", "high").replace("?", "low"),
    ),
    # The critic
    Mutation("losses.value_clip", "minimum for maximum", "torch.maximum((values", "torch.minimum((values"),
    Mutation("losses.value_clip", "½ dropped", SQUARES, SQUARES.removesuffix(" / 2")),
    Mutation("losses.value_clip", "not clipped", SQUARES, "(values - returns).square() / 2"),
    Mutation("losses.value_clip", "always clipped", SQUARES, "(clipped - returns).square() / 2"),
    Mutation(
        "losses.value_clip",
        "clip without lower bound",
        "clamp(old_values - clip, old_values + clip)",
        "clamp(max=old_values + clip)",
    ),
    Mutation(
        "losses.value_clip",
        "clip without upper bound",
        "clamp(old_values - clip, old_values + clip)",
        "clamp(min=old_values - clip)",
    ),
    Mutation(
        "losses.value_clip",
        "clip around the return",
        "clamp(old_values - clip, old_values + clip)",
        "clamp(returns - clip, returns + clip)",
    ),
    Mutation("losses.value_clip", "target is the old value", "(clipped - returns)", "(clipped - old_values)"),
    Mutation("losses.value_clip", "values detached", "(values - returns)", "(values.detach() - returns)"),
    Mutation("losses.value_clip", "clip < 0 let through", "not clip >= 0", "clip != clip"),
    Mutation("losses.value_clip", "live old values let through", '    _check_constant("old_values", old_values)\n', ""),
    Mutation("losses.value_clip", "live returns let through", '    _check_constant("returns", returns)\n', ""),
    # Several reward models
    Mutation("ensembles.mean_score", "sum", "return scores.mean(0)\n", "return scores.sum(0)\n"),
    Mutation("ensembles.worst_case", "the best case", "scores.amin(0)", "scores.amax(0)"),
    Mutation(
        "ensembles.worst_case", "over the answers", "scores.amin(0)", "scores.amin()[None].expand(scores.shape[1])"
    ),
    Mutation(
        "ensembles.uncertainty_weighted",
        "pays for disagreement",
        "scores.mean(0) - penalty",
        "scores.mean(0) + penalty",
    ),
    Mutation("ensembles.uncertainty_weighted", "λ ignored", "- penalty * scores.var", "- scores.var"),
    Mutation(
        "ensembles.uncertainty_weighted",
        "deviation for variance",
        "scores.var(0, correction=0)",
        "scores.std(0, correction=0)",
    ),
    Mutation("ensembles.uncertainty_weighted", "variance of a sample", "scores.var(0, correction=0)", "scores.var(0)"),
    Mutation("ensembles.uncertainty_weighted", "λ < 0 let through", "not penalty >= 0", "penalty != penalty"),
    Mutation("ensembles.disagreement", "that of a sample", "scores.std(0, correction=0)", "scores.std(0)"),
    Mutation(
        "ensembles.disagreement",
        "variance",
        "scores.std(0, correction=0)",
        "scores.square().mean(0) - scores.mean(0).square()",
    ),
    Mutation("ensembles.mean_weights", "sum", ".mean(0) for name", ".sum(0) for name"),
    Mutation(
        "ensembles.mean_weights", "the first two only", "for one in members]).mean", "for one in members[:2]]).mean"
    ),
    Mutation("ensembles.mean_weights", "no members let through", "    if not members:\n", "    if members is None:\n"),
    Mutation("ensembles.mean_weights", "other names let through", "one.keys() != members[0].keys()", "False"),
    # Means
    Mutation("reduce.mean_over", "denominator of the micro-batch", "x.sum() / count", "x.mean()"),
    Mutation("reduce.mean_over", "sum", "x.sum() / count", "x.sum()"),
    Mutation("reduce.mean_over", "count 0 let through", "count < 1", "count < -1"),
    Mutation("reduce.sequence_mean", "token mean", "(x / sizes[branch]).sum()", "x.sum()"),
    Mutation("reduce.sequence_mean", "divided by the longest", "sizes[branch])", "sizes.max())"),
    Mutation("reduce.sequence_mean", "sizes of other branches", "sizes[branch])", "sizes.flip(0)[branch])"),
    Mutation("reduce.sequence_mean", "denominator of the micro-batch", ".sum() / branches", ".sum() / max(present, 1)"),
    Mutation("reduce.sequence_mean", "sum over branches", ".sum() / branches", ".sum()"),
    Mutation("reduce.sequence_mean", "highest number for count", "(sizes > 0).sum()", "(sizes >= 0).sum()"),
    Mutation("reduce.sequence_mean", "too many branches let through", "branches < max(present, 1)", "branches < 1"),
    Mutation("reduce.sequence_mean", "0 branches let through", "branches < max(present, 1)", "branches < present"),
]
