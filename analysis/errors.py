"""The errors a user can cause. Each message is one sentence: what was found, what was expected, what to do next."""

from collections.abc import Sequence
from difflib import get_close_matches


class AnalysisError(Exception):
    """Base of every error that is the input's fault, not a bug: the CLI prints it and exits with 1, a page shows it."""


class DataError(AnalysisError):
    """A dataset, picture, caption or qrels file is not what its format promises."""


class BackboneError(AnalysisError):
    """A model cannot be loaded or cannot embed what it was given."""


class UnsupportedModality(BackboneError):
    """The backbone has no defined meaning for this combination of image and text."""


class CheckpointError(AnalysisError):
    """An SAE checkpoint is damaged, hostile, or does not fit the backbone."""


class StoreError(AnalysisError):
    """A store is missing, damaged or of another schema."""


class NewerStore(StoreError):
    """A store that a newer version of this software wrote."""


class RetrievalError(AnalysisError):
    """An intervention or a search was asked for something that has no defined answer."""


def one_of(what: str, value: str, choices: Sequence[str]) -> None:
    """RetrievalError unless the value is one of the choices, with the closest one as a suggestion."""
    if value not in choices:
        close = get_close_matches(str(value)[:80], choices, n=1)
        known = f"expected one of {', '.join(choices)}." if choices else "there are none."
        hint = f"did you mean {close[0]!r}?" if close else known
        raise RetrievalError(f"The {what} {str(value)[:80]!r} is unknown; {hint}")
