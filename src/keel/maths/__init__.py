"""The mathematics of RLHF as pure functions of tensors; imports nothing else of keel.

Shapes, one letter each, the same in every file:

    M  tokens that the policy sampled (or is trained on), laid end to end; no padding among them
    D  width of the hidden state          V  vocabulary
    B  branches (completions)             T  tokens of the longest branch
    P  pairs of completions               G  groups: the completions of one prompt
    N  rollouts

Log-probabilities, entropies and KL divergences are in nats; scores, values, returns and advantages
in units of reward. Losses are elementwise: the mean, with its denominator, is taken in `reduce`.
Shapes and dtypes are held by the annotations (checked while tests run); values that have no meaning
raise ValueError.
"""
