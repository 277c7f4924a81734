"""One odd picture costs itself and nothing else; photographs reach the model at its own limit."""

import io

import numpy as np
import pytest
from PIL import Image

from analysis.data.samples import Picture, Sample
from analysis.errors import BackboneError
from analysis.models import pixels
from analysis.models.backbones import load_backbone
from analysis.models.tiny import MAKERS
from tests.data.writers import saved, solid


def samples(*images):
    return [Sample(f"s{i}", "image", "", Picture.of(image, f"s{i}.png")) for i, image in enumerate(images)]


@pytest.fixture(scope="module", params=["clip", "qwen2_vl"])
def backbone(request, tmp_path_factory):
    return load_backbone(str(MAKERS[request.param](tmp_path_factory.mktemp("tiny") / request.param)), device="cpu")


def test_a_picture_that_the_processor_refuses_is_left_out_alone(backbone, monkeypatch):
    build = pixels.PixelBuilder.build

    def refuse_green(self, pictures):
        if any(picture.getpixel((0, 0)) == (0, 200, 0) for picture in pictures):
            raise BackboneError("absolute aspect ratio must be smaller than 200.")
        return build(self, pictures)

    monkeypatch.setattr(pixels.PixelBuilder, "build", refuse_green)
    batch = samples(solid(200, 0, 0), solid(0, 200, 0), solid(0, 0, 200))
    embedded = backbone.embed(batch, on_error="skip")
    assert list(embedded.skipped) == [1]
    assert "s1.png" in embedded.skipped[1]
    assert "aspect ratio" in embedded.skipped[1]
    assert np.isfinite(embedded.vectors["mean"][[0, 2]]).all()


def test_pictures_prepared_in_parts_give_the_same_embeddings(backbone, monkeypatch):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (40 + 7 * i, 60, 3), dtype=np.uint8)) for i in range(7)]
    whole = backbone.embed(samples(*noise)).vectors["mean"]
    monkeypatch.setattr(pixels, "_AT_ONCE", 2)
    monkeypatch.setattr(pixels, "_HELD_PIXELS", 1)
    np.testing.assert_allclose(backbone.embed(samples(*noise)).vectors["mean"], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_photograph_is_seen_at_the_models_own_limit(tmp_path):
    """The tokens of 12 megapixels are those that the model's processor makes of them, not of a smaller copy; its limit here is
    a quarter of the released one."""
    loaded = load_backbone(str(MAKERS["qwen2_vl"](tmp_path / "qwen2_vl")), device="cpu")
    processor = loaded._inputs._pixels._processor
    processor = getattr(processor, "image_processor", processor)
    processor.size = type(processor.size)(shortest_edge=28 * 28, longest_edge=12_845_056 // 4)
    photo = saved(Image.effect_noise((4000, 3000), 60).convert("RGB"), "JPEG")
    image = Image.open(io.BytesIO(photo))
    built, reasons = loaded._inputs._pixels.prepare([Picture(data=photo, name="photo.jpg")])
    assert reasons == [None]
    direct = processor(images=[image], return_tensors="pt")
    assert built.inputs["pixel_values"].shape == direct["pixel_values"].shape
    np.testing.assert_allclose(built.inputs["pixel_values"], direct["pixel_values"], atol=1e-6)
