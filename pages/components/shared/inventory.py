"""What lies in the cache folder: stores with state and size, SAEs, working files of builds, and what is missing.
Reads names and sizes only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.store import Store, StoreRef

# Optional parts of a store: (how it is recognised, which view needs it, the option of `build` that makes it)
OPTIONAL = (
    ("tokens/index.parquet", "heatmaps over patches and words on the Concept page", "--token-views 200"),
    ("embeddings/last.npy", "last-token pooling in the Retrieval lab", "--variants mean,last"),
    ("embeddings/mean_no_image.npy", "masking image tokens in the Retrieval lab", "--variants mean,mean_no_image"),
    ("embeddings/mean_no_prompt.npy", "masking the prompt in the Retrieval lab", "--variants mean,mean_no_prompt"),
)


@dataclass(frozen=True)
class Work:
    """What a build computed on its way, kept for the next one: cache/work/<name>."""

    name: str
    bytes: int
    files: int


def store_table(refs: list[StoreRef], sizes: dict[Path, int], opened: dict[Path, Store]) -> pd.DataFrame:
    """One row a store, also those that cannot be opened."""
    return pd.DataFrame(
        [
            {
                "state": "ok" if ref.ok else "problem",
                "store": f"{ref.path.parent.name}/{ref.path.name}",
                "model": ref.backbone,
                "data": ref.dataset,
                "samples": opened[ref.path].n_samples if ref.path in opened else None,
                "concepts": opened[ref.path].n_concepts if ref.path in opened else None,
                "tasks": ", ".join(opened[ref.path].tasks) if ref.path in opened else "",
                "MB": sizes[ref.path] / 1e6,
                "created": ref.created.replace("T", " ")[:16],
            }
            for ref in refs
        ]
    )


def missing_parts(store: Store) -> list[tuple[str, str]]:
    """(view that is switched off, option of `build` that makes its part); a model of one vector has no tokens to mask."""
    found = [
        (view, option)
        for name, view, option in OPTIONAL
        if not store.has(name) and not (store.one_vector and name != "tokens/index.parquet")
    ]
    if not store.tasks:
        found.append(("Retrieval lab, Live query and the recall on the Overview", "--tasks i2t,t2i"))
    for task in store.tasks:
        if not store.has(f"retrieval/{task}/results.parquet"):
            found.append((f"recall of {task} on the Overview", f"--tasks {task}"))
    return found


def sae_table(cache_dir: Path, stores: list[Store]) -> pd.DataFrame:
    """SAEs on disk, which stores use them, and those that a store names but nobody has."""
    users: dict[str, list[str]] = {}
    for store in stores:
        users.setdefault(str(store.config["sae"]["path"]), []).append(f"{store.backbone}/{store.name}")
    on_disk = {
        path.parent.relative_to(cache_dir).as_posix(): path.parent for path in cache_dir.glob("sae/*/*/sae.json")
    }
    return pd.DataFrame(
        [
            {
                "SAE": name,
                "state": "ok" if name in on_disk else "missing",
                "MB": folder_size(on_disk[name])[0] / 1e6 if name in on_disk else None,
                "used by": ", ".join(users.get(name, [])) or "no store",
            }
            for name in sorted(on_disk.keys() | users.keys())
        ],
        columns=["SAE", "state", "MB", "used by"],
    )


def work_folders(cache_dir: Path) -> list[Work]:
    folders = sorted(path for path in cache_dir.glob("work/*") if path.is_dir())
    found = [Work(path.name, *folder_size(path)) for path in folders]
    return [work for work in found if work.bytes]  # locks are empty files


def folder_size(folder: Path) -> tuple[int, int]:
    """(bytes, files); what vanishes while we look counts as nothing."""
    total = count = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
                count += 1
        except OSError:
            continue
    return total, count
