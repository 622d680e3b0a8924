"""What the rows of a batch have written so far, and which of them are at their end.

Shape suffixes: B completions, S steps, b rows that are still in the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from keel.errors import UserError
from keel.rollout.generator import Completion, Request
from keel.rollout.sampling import Drawn
from keel.rollout.stops import StopStrings
from keel.types import StopReason

_GOING, _EOS, _STOP, _LENGTH = range(4)
_REASONS: dict[int, StopReason] = {_EOS: "eos", _STOP: "stop", _LENGTH: "length"}


class Written:
    """Tokens and log-probs as they come, in tensors: a step costs the same Python for one row as for many.

    Only rows with stop strings are looked at one by one. `like` gives the device and the format of the log-probs.
    """

    def __init__(
        self, requests: Sequence[Request], eos_ids: Collection[int], watches: Sequence[StopStrings], like: Tensor
    ) -> None:
        device, count = like.device, len(requests)
        self._limits = torch.tensor([request.sampling.max_tokens for request in requests], device=device)
        self._watches = watches
        self._watched = torch.tensor([bool(request.sampling.stop) for request in requests], device=device)
        self._any_watched = any(request.sampling.stop for request in requests)
        self._eos = torch.tensor(sorted(eos_ids), dtype=torch.long, device=device)
        steps = int(self._limits.max())
        self._tokens = torch.zeros(count, steps, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(count, steps, dtype=torch.promote_types(like.dtype, torch.float32), device=device)
        self._ends = torch.full((count,), _GOING, device=device)
        self._lengths = torch.zeros(count, dtype=torch.long, device=device)
        self._step = 0
        self._broken = torch.zeros((), dtype=torch.bool, device=device)

    def write(self, live: Int[Tensor, " b"], drawn: Drawn) -> Bool[Tensor, " b"]:
        """Take the next token of these completions; True where one goes on. One that has ended takes no more."""
        self._tokens[live, self._step] = drawn.tokens
        self._logprobs[live, self._step] = drawn.logprobs
        self._broken |= drawn.logprobs.isnan().any()
        self._step += 1
        before = self._ends[live]
        going = before == _GOING
        self._lengths[live] += going
        ends = torch.where(self._limits[live] == self._step, _LENGTH, _GOING)
        if self._any_watched:
            ends = torch.where(self._stopped(live, going), _STOP, ends)
        ends = torch.where(torch.isin(drawn.tokens, self._eos), _EOS, ends)
        ends = torch.where(going, ends, before)
        self._ends[live] = ends
        return ends == _GOING

    def require_numbers(self) -> None:
        """UserError where a log-prob so far is no number: the model's logits were none."""
        if bool(self._broken):
            raise UserError(
                "the model's logits are not numbers, so nothing can be sampled: its weights have diverged; go back to "
                "an earlier checkpoint and lower the learning rate."
            )

    def completions(self) -> list[Completion]:
        """All of them, in order; ValueError where one has not ended."""
        columns = (self._tokens, self._logprobs, self._lengths, self._ends)
        found = []
        for tokens, logprobs, length, end in zip(*(column.tolist() for column in columns), strict=True):
            if end == _GOING:
                raise ValueError("a completion has not ended")
            found.append(Completion(tuple(tokens[:length]), tuple(logprobs[:length]), _REASONS[end]))
        return found

    def _stopped(self, live: Int[Tensor, " b"], going: Bool[Tensor, " b"]) -> Bool[Tensor, " b"]:
        """Rows whose last token completes one of their stop strings."""
        stopped = torch.zeros_like(going)
        for row in (going & self._watched[live]).nonzero().squeeze(-1).tolist():
            completion = int(live[row])
            text = self._tokens[completion, : self._step].tolist()
            stopped[row] = self._watches[completion].completed_by(text)
        return stopped
