"""What a training set must have for a loss, and what is told about it."""

from __future__ import annotations

import polars as pl
import pytest
from tokenizers import Tokenizer, models

from labelrel.align.examples import check_lengths, read_examples
from labelrel.align.objective import Criterion
from labelrel.errors import InputError
from labelrel.models.packing import Prompt
from labelrel.schema import OPTIONS, TRAINING


def training(**changes: object) -> pl.DataFrame:
    rows = [
        ("a", "Q a:", " red", "0", 1.0, [" red", " blue"], None),
        ("b", "Q b:", " blue", "1", 0.5, [" red", " blue"], [0.2, 0.8]),
    ]
    frame = pl.DataFrame(rows, schema=pl.Schema({**TRAINING, **OPTIONS}), orient="row")
    return frame.with_columns(**changes)


def test_the_target_alone_or_all_options(tiny_loaded):
    plain = read_examples(tiny_loaded, training(), Criterion.named())
    assert [len(e.prompt.branches) for e in plain] == [1, 1]
    assert [e.targets for e in plain] == [None, None]
    both = read_examples(tiny_loaded, training(), Criterion.named("option_cross_entropy"))
    assert [len(e.prompt.branches) for e in both] == [2, 2]
    assert [e.targets for e in both] == [(1.0, 0.0), (0.2, 0.8)]
    assert [(e.item_id, e.weight) for e in both] == [("a", 1.0), ("b", 0.5)]
    assert both[0].prompt.branches[0] == plain[0].prompt.branches[0]


def test_a_training_set_without_options_trains_on_its_target(tiny_loaded):
    assert len(read_examples(tiny_loaded, training().drop("options", "option_probs"), Criterion.named())) == 2


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"options": pl.when(pl.col("item_id") == "b").then("options")}, 1),
        ({"options": pl.lit(None, OPTIONS["options"])}, 2),
    ],
)
def test_a_loss_that_compares_options_needs_them(tiny_loaded, changes, count):
    with pytest.raises(InputError, match=f"loss 'reverse_kl' compares the options of an item, and {count} of 2"):
        read_examples(tiny_loaded, training(**changes), Criterion.named("reverse_kl"))


def test_likelihoods_are_no_distribution(tiny_loaded):
    likely = training(option_probs=pl.lit([0.9, 0.3]))
    with pytest.raises(InputError, match=r"learns a distribution .* those of item a sum to 1.200"):
        read_examples(tiny_loaded, likely, Criterion.named("option_cross_entropy"))
    found = read_examples(tiny_loaded, likely, Criterion.named("forward_correction"))
    assert found[0].targets == (0.9, 0.3)


def test_too_long_is_refused_with_count_and_longest(tiny_loaded):
    long = training(prompt=pl.when(pl.col("item_id") == "b").then(pl.lit("x" * 300)).otherwise("prompt"))
    with pytest.raises(
        InputError,
        match=r"1 of 2 examples are longer than the 256 tokens that tiny reads \(b; the "
        r"longest is b with 305\); nothing is cut",
    ):
        read_examples(tiny_loaded, long, Criterion.named())


def test_options_beside_each_other_do_not_add_up_to_the_length(tiny_loaded):
    check_lengths(tiny_loaded, [("a", Prompt((1,) * 200, ((2,) * 56, (3,) * 56)))], "items")
    with pytest.raises(InputError, match="1 of 1 items"):
        check_lengths(tiny_loaded, [("a", Prompt((1,) * 200, ((2,) * 57,)))], "items")


def merging() -> object:
    """A tokenizer that knows ': r' as one token."""
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*" :Qabredlu", "\u0120"})
    vocab = {letter: number for number, letter in enumerate([*letters, ": ", ": r"])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab, [(":", " "), (": ", "r")])))


def test_a_tokenizer_that_joins_prompt_and_target_is_told(tiny_loaded, capsys):
    read_examples(tiny_loaded, training(), Criterion.named())
    assert capsys.readouterr().err == ""
    tiny_loaded.tokenizer = merging()
    read_examples(tiny_loaded, training(), Criterion.named())
    told = capsys.readouterr().err
    assert "warning: the tokenizer joins prompt and target in 2 of 2 examples (item a: 'Q a:' + ' red')" in told
    read_examples(tiny_loaded, training(), Criterion.named(), quiet=True)
    assert capsys.readouterr().err == ""
