"""The bytes of tensors that are there at one time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class Live(TorchDispatchMode):
    """Within it, every tensor that an operation makes counts from then on until nothing holds it; `peak` is the most
    that ever counted at once, in bytes. What was there before does not count, nor what an operation makes and drops
    within itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # whatever the operation gives
        """Runs the operation and counts what is new."""
        given = {id(one.untyped_storage()) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                if id(storage) not in given:
                    self._live[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self._live.values()))  # type: ignore[no-untyped-call]
        return made
