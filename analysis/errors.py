"""The errors a user can cause. Each message is one sentence: what was found, what was expected, what to do next."""


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
