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
    found = checkpoint.candidates()
    readers = {
        name: reader
        for name, tensors in found.items()
        if (reader := next((one for one in READERS if one.recognises(tensors, checkpoint)), None)) is not None
    }
    if len(readers) > 1:
        raise CheckpointError(
            f"{path.name} holds {len(readers)} SAEs ({', '.join(list(readers)[:4])}); save the one that counts by itself and "
            "give that."
        )
    for name, reader in readers.items():
        return reader.read(found[name], checkpoint, rule=rule, delta=delta)
    keys = sorted(found[""])
    raise CheckpointError(
        f"{path.name} holds no SAE of a known layout ({KNOWN}); found: {', '.join(keys[:6]) or 'nothing'}"
        f"{' ...' if len(keys) > 6 else ''}. Expected the tensors of an encoder and of a dictionary: is it the SAE's file?"
    )


__all__ = ["KNOWN", "Foreign", "read_foreign"]
