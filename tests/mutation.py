"""A mistake to make on purpose; `mutate.py` makes those that `maths/mutations.py` and `training/mutations.py` list."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """In `function` ("module.function"), the text `old`, which stands once in the module, becomes `new`.

    A mutation with `same_because` changes no result, and must pass. `noticed_by` names the module whose tests are to
    notice, where these are not those of the mutated one.
    """

    function: str
    what: str
    old: str
    new: str
    same_because: str = ""
    noticed_by: str = ""

    @property
    def module(self) -> str:
        return self.function.split(".")[0]
