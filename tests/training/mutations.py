"""One-line mistakes to make in `keel.training`, each of which a test must notice; see `tests/mutate.py`."""

from mutation import Mutation

SHUFFLE = '        random.Random(f"{seed} epoch {epoch}").shuffle(order)\n'
MINE = "annotate(scored, roles.policy, roles.reference, sampling.temperature, settings.micro_tokens)"
GROWN = "batch = [grouped[place] for place in places]"

MUTATIONS = [
    # The optimizer step
    Mutation("learner.step", "mean of the shares", "share.backward()", "(share / 2).backward()"),
    Mutation("learner.step", "loss of the last share only", "loss += share.item()", "loss = share.item()"),
    Mutation("learner.move", "gradients pile up", "        self.optimizer.zero_grad(set_to_none=True)\n", ""),
    Mutation("learner.move", "steps on nan", "finite = math.isfinite(norm)", "finite = True"),
    Mutation("learner.move", "steps on inf", "math.isfinite(norm)", "not math.isnan(norm)"),
    Mutation("learner.move", "skips uncounted", "int(not finite)", "0"),
    Mutation("learner.move", "the schedule stands still", "self.taken += 1", "self.taken += 0"),
    Mutation("learner.move", "schedule ignored", 'group["lr"] = rate', 'group["lr"] = self.settings.lr'),
    Mutation(
        "learner.move",
        "schedule a step ahead",
        "schedule(self.settings, self.taken, self.steps)",
        "schedule(self.settings, self.taken + 1, self.steps)",
    ),
    Mutation("learner.move", "no clip", "self.settings.max_grad_norm))", "1e9))"),
    Mutation("learner.Learner", "betas ignored", "            betas=settings.betas,\n", ""),
    Mutation("learner.Learner", "eps ignored", "            eps=settings.eps,\n", ""),
    Mutation("learner.Learner", "no decay", "weight_decay=settings.weight_decay", "weight_decay=0.0"),
    Mutation("learner.schedule", "warm-up from 0", "(taken + 1) / (warmup + 1)", "taken / (warmup + 1)"),
    Mutation("learner.schedule", "warm-up one step short", "if taken < warmup:", "if taken < warmup - 1:"),
    Mutation("learner.schedule", "warm-up rounded down", "math.ceil(settings", "math.floor(settings"),
    Mutation("learner.schedule", "last step at 0", "/ max(1, steps - warmup)", "/ max(1, steps - warmup - 1)"),
    Mutation("learner.schedule", "half a cosine too many", "math.cos(math.pi * done)", "math.cos(2 * math.pi * done)"),
    Mutation(
        "learner.schedule",
        "nothing is done twice",
        "min(1.0, (taken - warmup) / max(1, steps - warmup))",
        "(taken - warmup) / max(1, steps - warmup)",
        same_because="no loop takes more steps than it announces",
    ),
    # Order
    Mutation("order.visits", "one order for all epochs", "{seed} epoch {epoch}", "{seed} epoch"),
    Mutation("order.visits", "one order for all seeds", "{seed} epoch {epoch}", "epoch {epoch}"),
    Mutation("order.visits", "no shuffle", SHUFFLE, ""),
    Mutation("order.visits", "drops the last batch", "range(0, items, batch)", "range(0, items - batch + 1, batch)"),
    Mutation("order.visits", "one step too many", "step >= max_steps", "step > max_steps"),
    Mutation("order.count_steps", "rounds down", "-(-items // batch)", "(items // batch)"),
    Mutation("order.split", "trains on what it holds out", "if i not in chosen], [", "], ["),
    Mutation(
        "order.split", "splits prompts", "together.setdefault(prompt(item), [])", "together.setdefault(place, [])"
    ),
    Mutation("order.split", "holds out all", "len(items) - 1)", "len(items))"),
    Mutation("order.split", "holds out too many", "<= room:", "<= room + 1:"),
    Mutation("order.split", "one split for all seeds", 'f"{seed} held out"', '"held out"'),
    # Supervised fine-tuning, and micro-batches
    Mutation("sft.fine_tune", "maximises the loss", "yield mean_over(nll(", "yield -mean_over(nll("),
    Mutation("sft._shares", "denominator of the micro-batch", "count)", "len(micro.forest.targets))"),
    Mutation("sft._shares", "denominator counts answers", "count = trained_tokens(trees)", "count = len(trees)"),
    Mutation("sft._shares", "another temperature", "temperature=1.0", "temperature=1.1"),
    Mutation(
        "sft.mean_nll",
        "of the last micro-batch",
        "return sum(share.item() for share in",
        "return max(share.item() for share in",
    ),
    Mutation(
        "sft.fine_tune", "held-out loss of the training data", "mean_nll(policy, held_out,", "mean_nll(policy, trees,"
    ),
    Mutation(
        "sft.fine_tune",
        "the schedule does not know max_steps",
        "settings.epochs, settings.max_steps)\n    learner",
        "settings.epochs, None)\n    learner",
    ),
    Mutation("sft.fine_tune", "the first step is not logged", "step in (1, steps)", "step == steps"),
    Mutation("sft.fine_tune", "the seed is ignored", "settings.max_steps, seed)", "settings.max_steps, 0)"),
    Mutation(
        "batches.micro_batches",
        "in the wrong order",
        "[trees[place] for place in places]",
        "[trees[place] for place in reversed(places)]",
        same_because="the mean over all of a batch's tokens does not depend on their order",
    ),
    Mutation("batches.micro_batches", "leaves one out", "reader.pass_tokens):", "reader.pass_tokens)[:2]:"),
    Mutation("batches.trained_tokens", "counts all tokens", "sum(sum(branch.mask)", "sum(len(branch.mask)"),
    # What people compared, and the reward model
    Mutation("comparisons.comparisons", "margin left out", "row.probability, row.margin)", "row.probability, 0.0)"),
    Mutation(
        "comparisons.comparisons",
        "neighbours only",
        "Pair(better, worse, 1.0, 0.0) for",
        "Pair(better, worse, 1.0, 0.0) if worse == better + 1 else Pair(0, 1, 1.0, 0.0) for",
    ),
    Mutation("comparisons.comparisons", "worst first", "Pair(better, worse, 1.0", "Pair(worse, better, 1.0"),
    Mutation("comparisons.together", "one answer too many", "<= MOST", "<= MOST + 1"),
    Mutation(
        "comparisons.together",
        "fills the first tree only",
        "            newest[row.tree.trunk] = len(joined)\n",
        "            newest.setdefault(row.tree.trunk, len(joined))\n",
    ),
    Mutation("comparisons.together", "never joins", "if place is not None and", "if False and"),
    Mutation(
        "comparisons._union",
        "answers twice",
        "tuple(dict.fromkeys((*one.tree.branches, *other.tree.branches)))",
        "(*one.tree.branches, *other.tree.branches)",
    ),
    Mutation(
        "comparisons._union",
        "pairs not moved",
        "replace(pair, chosen=moved[pair.chosen], rejected=moved[pair.rejected])",
        "pair",
    ),
    Mutation("comparisons._union", "the first pairs only", "(*one.pairs, *pairs))", "one.pairs)"),
    Mutation(
        "reward._shares",
        "prefers the rejected",
        "bradley_terry(read.chosen, read.rejected",
        "bradley_terry(read.rejected, read.chosen",
    ),
    Mutation("reward._shares", "margin whatever is said", 'if settings.margin == "stated" else', "if True else"),
    Mutation("reward._shares", "no margin", 'if settings.margin == "stated" else', "if False else"),
    Mutation("reward._shares", "no centring", "settings.centring * centring", "0.0 * centring"),
    Mutation(
        "reward._shares",
        "centring of the difference",
        "centring(read.chosen, read.rejected)",
        "centring(read.chosen, -read.rejected)",
    ),
    Mutation(
        "reward._shares", "denominator of the micro-batch", "read.weight, len(prompts))", "read.weight, len(loss))"
    ),
    Mutation("reward._shares", "prompts weigh by their pairs", "mean_over(loss * read.weight", "mean_over(loss"),
    Mutation(
        "reward._read",
        "labels of the wrong pairs",
        "part = [prompts[place] for place in micro.places]",
        "part = [prompts[place] for place in reversed(micro.places)]",
    ),
    Mutation(
        "reward._read",
        "hard labels",
        "start + pair.rejected, pair.probability",
        "start + pair.rejected, round(pair.probability)",
    ),
    Mutation(
        "reward._read",
        "answers of the first prompt",
        "(start + pair.chosen, start + pair.rejected",
        "(pair.chosen, pair.rejected",
    ),
    Mutation(
        "reward._read",
        "trees have two branches",
        "accumulate((len(one.tree.branches) for one in part), initial=0)",
        "range(0, 2 * len(part), 2)",
    ),
    Mutation("reward._read", "divided by K", "1 / len(one.pairs)", "1 / len(one.tree.branches)"),
    Mutation("reward._right", "an equal score is right", "(p - 0.5) > 0 for", "(p - 0.5) >= 0 for"),
    Mutation("reward._right", "ties count", "for difference, p in read if p != 0.5", "for difference, p in read"),
    Mutation("reward._right", "p < ½ read as p > ½", "difference * (p - 0.5) > 0", "difference > 0"),
    Mutation("reward.measure", "loss is a sum", "* weight).sum().item() / len(prompts)", "* weight).sum().item()"),
    Mutation(
        "reward.measure", "prompts weigh by their pairs", "torch.zeros_like(p)) * weight)", "torch.zeros_like(p)))"
    ),
    Mutation("reward.measure", "calibration not weighted", "sum(share * abs(", "sum(abs("),
    Mutation(
        "reward.calibration",
        "one way round",
        "torch.cat((predicted, 1 - predicted)), torch.cat((actual, 1 - actual))",
        "predicted, actual",
    ),
    Mutation("reward.calibration", "probability 1 falls out", "clamp(0, bins - 1)", "clamp(0, bins)"),
    Mutation("reward.calibration", "actual mean over all", "float(actual[inside].mean())", "float(actual.mean())"),
    Mutation(
        "reward.fit_reward",
        "held out is the training data",
        "fit = measure(model, held_out,",
        "fit = measure(model, prompts,",
    ),
    Mutation("reward.fit_reward", "the seed is ignored", "settings.max_steps, seed)", "settings.max_steps, 0)"),
    Mutation(
        "reward.scores",
        "keeps the graph",
        "    with torch.no_grad():\n        parts = [model.scores(",
        "    with torch.enable_grad():\n        parts = [model.scores(",
    ),
    # Credit
    Mutation("credit.shaped_rewards", "pays for the KL", "rewards = -coef * cost", "rewards = coef * cost"),
    Mutation("credit.shaped_rewards", "β ignored", "rewards = -coef * cost", "rewards = -cost"),
    Mutation("credit.shaped_rewards", "KL of padding", "cost.where(mask, 0)", "cost"),
    Mutation(
        "credit.shaped_rewards",
        "score at the first token",
        "mask.shape[1] - 1 - mask.flip(1).int().argmax(1)",
        "mask.int().argmax(1)",
    ),
    Mutation(
        "credit.shaped_rewards",
        "score in the last column",
        "mask.shape[1] - 1 - mask.flip(1).int().argmax(1)",
        "torch.full((len(mask),), mask.shape[1] - 1)",
    ),
    Mutation("credit.shaped_rewards", "score in place of the KL", "accumulate=True", "accumulate=False"),
    Mutation("credit.shaped_rewards", "empty rollouts let through", ".any(1).all()", ".any()"),
    Mutation(
        "credit._estimate",
        "π and π_ref swapped",
        "[estimator](logprobs, reference)",
        "[estimator](reference, logprobs)",
    ),
    Mutation("credit._estimate", "k2 for k3", '"k3": k3', '"k3": k2'),
    Mutation(
        "credit.credit",
        "returns are whitened",
        "returns = raw + values\n    advantages = whiten(raw, mask)",
        "returns = whiten(raw, mask) + values\n    advantages = whiten(raw, mask)",
    ),
    Mutation("credit.credit", "returns without values", "returns = raw + values", "returns = raw"),
    Mutation(
        "credit.credit",
        "whitened whatever is said",
        'if algorithm.credit.whiten == "advantages" else raw',
        "if True else raw",
    ),
    Mutation("credit.credit", "never whitened", "whiten(raw, mask) if", "raw if"),
    Mutation(
        "credit.credit", "padding is whitened too", "whiten(raw, mask) if", "whiten(raw, torch.ones_like(mask)) if"
    ),
    Mutation(
        "credit.credit",
        "γ and λ swapped",
        "algorithm.credit.gamma, algorithm.credit.lam)",
        "algorithm.credit.lam, algorithm.credit.gamma)",
    ),
    Mutation(
        "credit.credit", "the sampler's log-probs", "logprobs=one.logprobs", "logprobs=one.scored.rollout.logprobs"
    ),
    Mutation(
        "credit._pad", "padded on the left", "padded[place, : len(row)]", "padded[place, padded.shape[1] - len(row) :]"
    ),
    # Annotating
    Mutation(
        "annotate.annotate",
        "temperature ignored by the policy",
        "policy.logprobs(forest, temperature)",
        "policy.logprobs(forest, 1.0)",
    ),
    Mutation(
        "annotate.annotate",
        "temperature ignored by the reference",
        "reference.logprobs(forest, temperature)",
        "reference.logprobs(forest, 1.0)",
    ),
    Mutation("annotate.annotate", "roles swapped", "Annotated(one, mine, theirs)", "Annotated(one, theirs, mine)"),
    Mutation(
        "annotate.annotate", "the policy twice", "lambda forest: reference.logprobs", "lambda forest: policy.logprobs"
    ),
    Mutation("annotate.value", "nothing but zeros", "values=mine)", "values=tuple(0.0 for _ in mine))"),
    Mutation(
        "annotate.trees_of",
        "merged by text",
        "key=lambda one: one.prompt_tokens",
        "key=lambda one: len(one.prompt_tokens)",
    ),
    Mutation(
        "annotate.tree_of",
        "what the environment says is sampled",
        "Branch(one.tokens, one.mask)",
        "Branch(one.tokens, (True,) * len(one.tokens))",
    ),
    Mutation(
        "annotate._per_rollout",
        "keeps the graph",
        "torch.no_grad()",
        "torch.enable_grad()",
        same_because="the numbers leave as Python floats, and a graph that nothing refers to is freed",
    ),
    # The update
    Mutation("online.practise", "annotated at another temperature", MINE, MINE.replace("sampling.temperature", "1.0")),
    Mutation("online.practise", "reference is the policy", MINE, MINE.replace("roles.reference", "roles.policy")),
    Mutation(
        "online.practise",
        "β of the recipe for ever",
        "credit(valued, algorithm, controller.coef)",
        "credit(valued, algorithm, settings.kl.coef)",
    ),
    Mutation("online.practise", "β never moves", 'controller = controller.update(metrics["kl"], len(samples))', "pass"),
    Mutation(
        "online.practise", "β moves by updates", 'update(metrics["kl"], len(samples))', 'update(metrics["kl"], 1)'
    ),
    Mutation("online.practise", "β follows the reward", 'update(metrics["kl"],', 'update(metrics["reward"],'),
    Mutation("online.practise", "no warm-up", "None if warming else policy", "policy"),
    Mutation("online.practise", "warm-up a round too long", "version < settings.critic", "version <= settings.critic"),
    Mutation(
        "online.practise",
        "policy's schedule counts the warm-up",
        "settings.updates - settings.critic.warmup_updates",
        "settings.updates",
    ),
    Mutation("online.practise", "the critic at the policy's rate", '{"lr": settings.critic.lr}', "{}"),
    Mutation(
        "online.practise",
        "steps miscounted",
        "steps = settings.epochs * settings.minibatches",
        "steps = settings.epochs",
    ),
    Mutation("online.practise", "every minibatch is the first group", GROWN, "batch = [grouped[0] for _ in places]"),
    Mutation(
        "online.practise", "a round too early", "record.write(version + 1, metrics)", "record.write(version, metrics)"
    ),
    Mutation(
        "online.practise", "one seed for all rounds", "chat, sampling, seed, version,", "chat, sampling, seed, 0,"
    ),
    Mutation("online.draw", "one order for all epochs", "{seed} prompts {epoch}", "{seed} prompts"),
    Mutation("online.draw", "no shuffle", '        random.Random(f"{seed} prompts {epoch}").shuffle(order)\n', ""),
    Mutation("online.draw", "begins anew in each round", "max(first - before, 0)", "0"),
    Mutation(
        "online.draw",
        "draws answers, not prompts",
        "settings.batch_size // settings.samples_per_prompt",
        "settings.batch_size",
    ),
    Mutation(
        "online.minibatches",
        "one order for all epochs",
        "{seed} update {version} epoch {epoch}",
        "{seed} update {version}",
    ),
    Mutation(
        "online.minibatches",
        "one order for all rounds",
        "{seed} update {version} epoch {epoch}",
        "{seed} epoch {epoch}",
    ),
    Mutation("online.minibatches", "one epoch", "for epoch in range(settings.epochs):", "for epoch in range(1):"),
    Mutation("online.minibatches", "leaves trees out", "order[part :: settings.minibatches]", "order[part : part + 1]"),
    Mutation("online.groups", "one group for all", "list(samples[start : start + size])", "list(samples[start:])"),
    Mutation("online.learn", "denominator counts answers", "sum(len(sample.logprobs) for", "sum(1 for"),
    Mutation(
        "online.learn",
        "trained at another temperature",
        "roles.policy.read(forest, temperature)",
        "roles.policy.read(forest, 1.0)",
    ),
    Mutation(
        "online.learn",
        "old log-probs are the sampler's",
        "old = forest.column([one.logprobs for one in part])",
        "old = forest.column([one.rollout.logprobs for one in part])",
    ),
    Mutation("online.learn", "maximises the loss", "return mean_over(ppo_clip", "return -mean_over(ppo_clip"),
    Mutation(
        "online.learn",
        "clip bounds swapped",
        "advantages, *algorithm.clip), count)",
        "advantages, *algorithm.clip[::-1]), count)",
    ),
    Mutation("online.learn", "no value clip", "returns, algorithm.value_clip)", "returns, float('inf'))"),
    Mutation(
        "online.learn",
        "value coefficient ignored",
        "return algorithm.value_coef * mean_over(",
        "return mean_over(",
    ),
    Mutation(
        "online.learn", "both at another temperature", "critic.read(forest, temperature)", "critic.read(forest, 1.0)"
    ),
    Mutation(
        "online.learn",
        "the critic's part of both left out",
        "(shares[0] + shares[1]).backward()",
        "shares[0].backward()",
    ),
    Mutation(
        "online.learn",
        "the policy's part of both left out",
        "(shares[0] + shares[1]).backward()",
        "shares[1].backward()",
    ),
    Mutation("online.learn", "losses of both change places", "policy.move(losses[0])", "policy.move(losses[1])"),
    Mutation("online.learn", "loss of the last part alone", "total + share.item() for", "share.item() for"),
    Mutation("online.learn", "the head waits", 'tally.step("value", critic.move(losses[1]))\n        return', "return"),
    Mutation(
        "online.learn",
        "the critic learns advantages",
        "column([one.returns for one in part])",
        "column([one.advantages for one in part])",
    ),
    Mutation(
        "online.learn",
        "groups of one prompt merge",
        "trees = [tree_of([sample.rollout for sample in group]) for group in batch]",
        "from keel.training.annotate import trees_of\n"
        "    trees = trees_of([one.rollout for group in batch for one in group])",
    ),
    Mutation(
        "online.algorithm_of",
        "γ and λ swapped",
        "GAE(settings.gamma, settings.lam,",
        "GAE(settings.lam, settings.gamma,",
    ),
    Mutation(
        "online.controller_of",
        "target and horizon swapped",
        "settings.kl.target, settings.kl.horizon)",
        "float(settings.kl.horizon), int(settings.kl.target))",
    ),
    # The monitors
    Mutation("monitor.read_policy", "KL the wrong way round", "k3(old, logprobs)", "k3(logprobs, old)"),
    Mutation("monitor.read_policy", "mean of micro-batches", "k3(old, logprobs).sum()", "k3(old, logprobs).mean()"),
    Mutation(
        "monitor.read_policy",
        "all ratios outside count",
        "ppo_clipped(logprobs, old, advantages, *clip)",
        "ppo_clipped(logprobs, old, (logprobs - old).detach(), *clip)",
    ),
    Mutation("monitor.read_policy", "clip bounds swapped", "advantages, *clip)", "advantages, *clip[::-1])"),
    Mutation(
        "monitor.read_policy",
        "entropy of the last micro-batch",
        "self.tokens += len(logprobs)",
        "self.tokens = len(logprobs)",
    ),
    Mutation(
        "monitor.metrics",
        "loss of the last step",
        '/loss"] = fmean(report.loss for report in reports)',
        '/loss"] = reports[-1].loss',
    ),
    Mutation("monitor.metrics", "rate of the first step", "reports[-1].lr", "reports[0].lr"),
    Mutation(
        "monitor.metrics",
        "one skip is enough",
        "float(sum(report.skipped for report in reports))",
        "float(max(report.skipped for report in reports))",
    ),
    Mutation("monitor.summarise", "sample deviation", "pstdev(scores)", "__import__('statistics').stdev(scores)"),
    Mutation("monitor.summarise", "KL per token", '"kl": fmean(kl)', '"kl": sum(kl) / sum(lengths)'),
    Mutation("monitor.summarise", "k3 per token", ".sum().item() / len(valued)", ".mean().item()"),
    Mutation("monitor.summarise", "k3 the wrong way round", "k3(own, reference)", "k3(reference, own)"),
    Mutation("monitor.summarise", "sampler's k3 the wrong way round", "k3(sampler, own)", "k3(own, sampler)"),
    Mutation("monitor.summarise", "pays for the KL", "score - coef * cost", "score + coef * cost"),
    Mutation("monitor.summarise", "truncated means ended", '.stop == "length"', '.stop != "length"'),
    Mutation(
        "monitor.summarise",
        "values of the returns",
        '"value/mean": fmean(x for one in samples for x in one.values)',
        '"value/mean": fmean(x for one in samples for x in one.returns)',
    ),
    Mutation(
        "monitor.summarise",
        "parts of the first answer",
        "fmean(one.scored.parts[name] for one in valued)",
        "valued[0].scored.parts[name]",
    ),
    Mutation("monitor.summarise", "the tally is left out", "return metrics | tally.metrics()", "return metrics"),
    Mutation(
        "monitor.explained_variance",
        "mean squared error",
        "(returns - values).var(correction=0)",
        "(returns - values).square().mean()",
    ),
    Mutation(
        "monitor.explained_variance",
        "against the variance of the values",
        "spread = returns.var",
        "spread = values.var",
    ),
    Mutation("monitor.explained_variance", "divides by 0", "if spread > 0 else 0.0", "if True else 0.0"),
    Mutation("monitor._kl", "the wrong way round", "sum(mine - theirs for", "sum(theirs - mine for"),
    # The records
    Mutation("records.write", "nan as nan", "value if math.isfinite(value) else None", "value"),
    Mutation("records.write", "inf as inf", "math.isfinite(value)", "not math.isnan(value)"),
    Mutation("records.Lines", "nobody can look on", "        self._file.flush()\n", ""),
    Mutation("records.write", "events without steps", "add_scalar(name, value, step)", "add_scalar(name, value)"),
    Mutation(
        "records.write",
        "old events stay",
        "            shutil.rmtree(self._events, ignore_errors=True)  # of a run before this one\n",
        "",
    ),
    Mutation("records.Lines", "old lines stay", '.open("w",', '.open("a",'),
]
