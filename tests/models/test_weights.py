"""A checkpoint's folder before it is loaded: how large it is, and which one."""

from __future__ import annotations

from analysis.models.weights import count_parameters, fingerprint


def test_parameters_are_counted_without_the_head(checkpoint, tmp_path):
    assert count_parameters(tmp_path) is None
    folder = checkpoint("qwen2_vl")
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        sizes = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert "lm_head.weight" in sizes
    assert count_parameters(folder) == sum(sizes.values()) - sizes["lm_head.weight"]


def test_a_fingerprint_ignores_notes_and_sees_everything_else(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("about")
    assert fingerprint(tmp_path) == first
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) != first
