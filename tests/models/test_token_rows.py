from __future__ import annotations

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from analysis.data.samples import Sample
from analysis.errors import BackboneError
from analysis.models.pooling import Role
from analysis.models.token_rows import Frame, RowBuilder

FRAME = Frame("<s>", "\n", picture=False)
PICTURE = Frame("<image><s>", "\n", picture=True)


@pytest.fixture(scope="module", params=[False, True], ids=["whole spans", "trimmed spans"])
def tokenizer(request) -> PreTrainedTokenizerFast:
    """One token a byte, so that every position can be checked by hand; bos is added by the tokenizer itself."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in ("<bos>", "<s>", "<image>", "<pad>")]
    )
    start = backend.token_to_id("<bos>")
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=request.param),
            processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", start)]),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", pad_token="<pad>")


def build(tokenizer, text="", instruction="", frame=FRAME, n_image=0, max_tokens=100, positions=200):
    builder = RowBuilder(
        tokenizer, tokenizer.convert_tokens_to_ids("<image>"), max_tokens=max_tokens, positions=positions
    )
    one = Sample("s", "text", text=text or ".", instruction=instruction)
    return builder.build([one], [frame], [n_image], instructions=True)[0]


def test_roles_of_every_token(tokenizer):
    row = build(tokenizer, "ab c", " d: ")
    # <bos> <s> a b _ c _ d : _ \n; a lone space at either border may have an empty span when spans are trimmed
    assert row.roles.tolist() == [Role.TEMPLATE] * 2 + [Role.TEXT] * 4 + [Role.INSTRUCTION] * 4 + [Role.TEMPLATE]


def test_the_placeholder_is_the_only_image_token(tokenizer):
    row = build(tokenizer, "a <image> b", frame=PICTURE, n_image=16)
    assert (row.roles == Role.IMAGE).sum() == 1
    assert row.n_text == len(row.ids) - 1
    assert (row.ids == tokenizer.convert_tokens_to_ids("<image>")).sum() == 1


def test_control_tokens_are_broken_up_and_the_words_stay(tokenizer):
    row = build(tokenizer, "a<s>b", "c<pad>d")
    assert row.prompt == "<s>a< s>bc< pad>d\n"
    texts = "".join(s for s, role in zip(row.strings(tokenizer), row.roles, strict=True) if role == Role.TEXT)
    assert texts.replace(" ", "") == "a<s>b"


def test_text_that_does_not_fit_is_cut_from_its_end(tokenizer):
    row = build(tokenizer, "abcdefgh", "XY", max_tokens=5)
    assert row.truncated
    kept = "".join(s for s, role in zip(row.strings(tokenizer), row.roles, strict=True) if role == Role.TEXT)
    assert kept == "abcde"
    assert (row.roles == Role.INSTRUCTION).sum() == 2
    assert not build(tokenizer, "abcde", "XY", max_tokens=5).truncated


def test_positions_bound_the_text_beside_a_picture(tokenizer):
    row = build(tokenizer, "abcdefgh", "XY", frame=PICTURE, n_image=16, positions=25)
    fixed = 16 + 2 + 2 + 1  # picture, <bos> <s>, instruction, end
    assert (row.roles == Role.TEXT).sum() == 25 - fixed


def test_a_picture_that_leaves_no_room_is_refused(tokenizer):
    with pytest.raises(BackboneError, match="takes 21 tokens without its text; the model has 20"):
        build(tokenizer, "abc", "XY", frame=PICTURE, n_image=16, positions=20)


def test_rows_come_back_in_order(tokenizer):
    builder = RowBuilder(tokenizer, None, max_tokens=100, positions=200)
    samples = [Sample(str(i), "text", text="x" * i) for i in range(1, 9)]
    rows = builder.build(samples, [FRAME] * 8, [0] * 8, instructions=False)
    assert [int((row.roles == Role.TEXT).sum()) for row in rows] == list(range(1, 9))
    assert builder.build([], [], [], instructions=False) == []
    assert all(row.ids.dtype == np.int64 for row in rows)


def test_text_is_lowered_where_the_row_says_so(tokenizer):
    """This tokenizer keeps capitals, as Gemma's does, which released SigLIP2 folders name."""
    one = Sample("s", "text", text="Two DOGS")
    for lower, expected in ((True, "two dogs"), (False, "Two DOGS")):
        builder = RowBuilder(tokenizer, None, max_tokens=100, positions=200, lower=lower)
        (row,) = builder.build([one], [FRAME], [0], instructions=False)
        kept = [s for s, role in zip(row.strings(tokenizer), row.roles, strict=True) if role == Role.TEXT]
        assert "".join(kept) == expected


def test_a_token_over_a_border_belongs_to_its_first_word():
    """Byte pairs take a blank with the word behind it and a line break with the full stop before it."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = letters | {"Ġa": len(letters), ".Ċ": len(letters) + 1}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[("Ġ", "a"), (".", "Ċ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    builder = RowBuilder(tokenizer, None, max_tokens=100, positions=200)
    one = Sample("s", "text", text="a b.", instruction="\nc")
    (row,) = builder.build([one], [Frame("U: ", "|", picture=False)], [0], instructions=True)
    assert row.strings(tokenizer) == ["U", ":", " a", " ", "b", ".\n", "c", "|"]
    words = [Role.TEXT] * 4
    assert row.roles.tolist() == [Role.TEMPLATE] * 2 + words + [Role.INSTRUCTION, Role.TEMPLATE]
