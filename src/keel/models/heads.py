"""One number per hidden state: rewards and values."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel


class ScalarHead(nn.Module):
    """h ↦ w·h in fp32, without bias, like the `score` layer of a transformers sequence classifier with one label.

    Shift and scale of a reward are data of the run, not weights of the head.
    """

    def __init__(self, weight: Float[Tensor, " D"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone().to(torch.promote_types(weight.dtype, torch.float32)))

    @classmethod
    def normal(cls, width: int, generator: torch.Generator) -> "ScalarHead":
        """w ~ N(0, 1/√(d+1)) (standard deviation), as in "N+ implementation details" of TL;DR (2403.17031)."""
        return cls(torch.randn(width, generator=generator) / (width + 1) ** 0.5)

    @classmethod
    def zero(cls, width: int) -> "ScalarHead":
        """w = 0: a critic that starts by predicting nothing."""
        return cls(torch.zeros(width))

    @classmethod
    def of(cls, classifier: PreTrainedModel) -> "ScalarHead":
        """A copy of the `score` layer of a sequence classifier with one label."""
        return cls(classifier.score.weight[0])

    def forward(self, hidden: Float[Tensor, "m D"]) -> Float[Tensor, " m"]:
        """The number of each row."""
        # a product and a sum, because autocast would turn a matrix product into half precision
        return (hidden.to(self.weight.dtype) * self.weight).sum(-1)
