"""The one error that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. One sentence: what is wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; no traceback is shown.
    """
