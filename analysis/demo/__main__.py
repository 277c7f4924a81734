"""`python -m analysis.demo`: train the demo backbones from seeds; run it again to continue after an interruption."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from analysis.demo.build import STEPS, build_demo

_ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the training; seed 0 is written to assets/demo.")
@click.option("--only", type=click.Choice(STEPS), multiple=True, help="Do this step only; may be repeated.")
@click.option("--threads", default=0, help="CPU threads; 0 leaves the choice to torch.")
@click.option("--smoke", is_flag=True, help="A few steps on a few scenes, into folders of their own.")
@click.option("--cache-dir", type=click.Path(path_type=Path), default=_ROOT / "cache", show_default=False)
@click.option("--assets-dir", type=click.Path(path_type=Path), default=_ROOT / "assets" / "demo", show_default=False)
def main(seed: int, only: tuple[str, ...], threads: int, smoke: bool, cache_dir: Path, assets_dir: Path) -> None:
    """Draw EmojiScenes and train clip-mini and qwen2-vl-mini on it."""
    if threads:
        torch.set_num_threads(threads)
    steps = only or ("data", "clip", "qwen")
    if smoke:
        assets_dir = cache_dir / "demo-runs" / "smoke-assets"
    build_demo(cache_dir=cache_dir, assets_dir=assets_dir, seed=seed, steps=steps, smoke=smoke)


if __name__ == "__main__":
    main()
