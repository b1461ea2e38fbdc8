"""The one family of exceptions that a user of the package ever needs to catch."""


class AnyTalkerError(Exception):
    """Base of all errors raised on purpose; its message says what happened and what to do about it."""


class InputError(AnyTalkerError, ValueError):
    """Something given by the user can't be used. The command line prints the message and exits with code 2.

    A message names the culprit (a path, an option and its value), says what is allowed, and what to do.
    """


class NoScoreError(AnyTalkerError):
    """An evaluation has no defined value for a clip; the message says why."""


def first_line(error: BaseException) -> str:
    """What an error says first, for messages of one line; its kind if it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


OUT_OF_MEMORY = (
    "Out of memory. Close other programs, or add --memory balanced or low on a GPU, or give a smaller picture or "
    "model; `anytalker doctor` says what fits."
)
