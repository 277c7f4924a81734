"""Other tools' SAE checkpoints in the one inner form of `form.py`: one reader a tool, chosen by the tensors that are there.
No code from a file is run."""

from __future__ import annotations

from pathlib import Path

from analysis.errors import CheckpointError
from analysis.sae.formats import dictionary_learning, overcomplete, saelens, saev, sparsify
from analysis.sae.formats.files import open_checkpoint
from analysis.sae.formats.found import Foreign

READERS = (overcomplete, sparsify, saev, dictionary_learning, saelens)  # the first that recognises its tensors reads
KNOWN = "overcomplete, SAELens, dictionary_learning, sparsify, saev"


def read_foreign(path: Path, *, rule: str | None = None, delta: float | None = None) -> Foreign:
    """Find the SAE in a file or folder. rule: what to take it for where two classes save the same tensors; delta: see
    overcomplete. CheckpointError names what is missing, unknown, unsafe or not to be represented."""
    checkpoint = open_checkpoint(path)
    for tensors in checkpoint.candidates():
        for reader in READERS:
            if reader.recognises(tensors, checkpoint):
                return reader.read(tensors, checkpoint, rule=rule, delta=delta)
    keys = sorted(checkpoint.candidates()[0])
    raise CheckpointError(
        f"{path.name} holds no SAE of a known layout ({KNOWN}); found: {', '.join(keys[:6]) or 'nothing'}"
        f"{' ...' if len(keys) > 6 else ''}. Expected the tensors of an encoder and of a dictionary: is it the SAE's file?"
    )


__all__ = ["KNOWN", "Foreign", "read_foreign"]
