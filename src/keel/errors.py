"""The one error that a user is meant to read."""

import re

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def one_line(text: str) -> str:
    """The text, with an escape for whatever in it breaks a line or would be obeyed by a terminal.

    Sentences quote names and values of the user's files, which may hold anything.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """Something the user can mend. One sentence, on `one_line`: what is wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; no traceback is shown.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The user, or the system, asked a stage to stop, and its progress is kept: `step` steps are done.

    `signal` is the number of the signal that asked. The command line says how to go on.
    """

    def __init__(self, step: int, signal: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.signal = signal
