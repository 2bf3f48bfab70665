"""Blocks against a naive reading of the same rows; lanes; items in the order of their ids."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import polars as pl
import pytest
from crowd_tables import inputs_of, make_answers, table

from labelrel.scoring.annotators import table as module
from labelrel.scoring.annotators.blocks import Block
from labelrel.scoring.annotators.lanes import NUM_LANES, Lanes
from labelrel.scoring.annotators.majority import majority
from labelrel.scoring.annotators.order import in_order_of_ids
from labelrel.scoring.annotators.softmax import posterior_of_pairs
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs


def read(inputs: Inputs, use_cells: bool = False, rows: int = 50) -> Table:
    with Lanes() as lanes:
        return read_table(inputs, lanes, use_cells=use_cells, rows=rows)


def triples(inputs: Inputs, found: Table) -> Counter[tuple[str, str, str]]:
    """Return the (item, annotator, answer) rows that the blocks stand for."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for block in found.blocks:
        for item in range(block.num_items):
            for pair in range(block.pairs[item], block.pairs[item + 1]):
                for row in range(block.pair_rows[pair], block.pair_rows[pair + 1]):
                    index = block.index[row]
                    rater = index if found.cells is None else found.cells.rater[index]
                    if found.cells is not None:
                        assert found.cells.answer[index] == block.answer[pair]
                    name = inputs.votes.item_ids[int(block.items[item])]
                    counted[name, found.raters[int(rater)], found.classes[int(block.answer[pair])]] += 1
    return counted


@pytest.mark.parametrize("use_cells", [False, True])
@pytest.mark.parametrize("bitmap", [True, False])
def test_blocks_hold_every_parsed_row_once(use_cells, bitmap, monkeypatch):
    if not bitmap:
        monkeypatch.setattr(module, "_BITMAP", 0)
    answers = pl.concat([table("sparse")[0], table("sparse")[0].head(30)]).sample(fraction=1, shuffle=True, seed=1)
    inputs = inputs_of(answers)
    found = read(inputs, use_cells)
    expected = Counter(answers.drop_nulls("answer").select("item_id", "annotator_id", "answer").rows())
    assert len(found.blocks) > 3
    assert triples(inputs, found) == expected
    assert found.total == sum(expected.values()) == sum(found.num_rows)


def test_rows_sort_the_same_when_their_keys_do_not_fit_a_number(monkeypatch):
    inputs = inputs_of(table("sparse")[0])
    plain = read(inputs)

    class Huge(int):
        def bit_length(self) -> int:
            return 64

    build = module._Builder.__init__

    def with_huge(self, *arguments):
        build(self, *arguments)
        object.__setattr__(self, "num_classes", HugeRange(self.num_classes))

    class HugeRange(int):
        def __sub__(self, other: int) -> Huge:
            return Huge(int(self) - other)

    monkeypatch.setattr(module._Builder, "__init__", with_huge)
    other = read(inputs)
    for a, b in zip(plain.blocks, other.blocks, strict=True):
        for name in ("items", "index", "rows", "pairs", "pair_rows", "answer"):
            assert getattr(a, name).tolist() == getattr(b, name).tolist()


def test_possible_answers_come_from_the_items_then_the_choices_then_the_table():
    answers = pl.DataFrame({"item_id": ["p", "p", "p", "q"], "annotator_id": [*"rstr"], "answer": ["0", "1", "2", "0"]})
    items = pl.DataFrame({"item_id": ["p", "q"], "choices": [[*"AB"], [*"ABCDE"]]})

    def possible(**settings) -> list[int]:
        return read(inputs_of(answers, **settings)).blocks[0].possible.tolist()

    assert possible() == [3, 3]
    assert possible(choices=2) == [3, 2]  # p has three distinct answers
    assert possible(items=items) == [3, 5]
    assert possible(gold=pl.DataFrame({"item_id": ["p"], "gold_label": ["9"]})) == [4, 4]


def test_gold_is_found_among_the_pairs():
    answers = pl.DataFrame({"item_id": ["p", "p", "q", "u"], "annotator_id": [*"rsrr"], "answer": [*"abba"]})
    gold = pl.DataFrame({"item_id": ["u", "p", "elsewhere", "q"], "gold_label": ["z", "b", "y", "b"]})
    found = read(inputs_of(answers, gold))
    (block,) = found.blocks
    assert found.classes.to_list() == ["a", "b", "z"]
    assert block.gold.item.tolist() == [0, 1, 2]
    assert block.gold.code.tolist() == [1, 1, 2]
    assert block.gold.pair.tolist() == [1, 2, -1]
    probs = np.full(4, 0.5)
    block.pin(probs)
    assert probs.tolist() == [0, 1, 1, 0]


def test_a_subset_of_a_block_is_the_block_of_a_subset():
    answers, truth = make_answers(30, 6, 3, 4, abstain=0.2, seed=1)
    gold = truth.gather_every(3).with_columns(gold_label=pl.Series([*"abcz"] * 2 + ["a", "b"]))
    inputs = inputs_of(answers, gold, choices=6)
    (block,) = read(inputs, rows=1000).blocks
    keep = np.arange(block.num_items) % 4 != 1
    kept = inputs.votes.item_ids.gather(block.items[keep]).to_list()
    ours = block.subset(keep)
    (theirs,) = read(inputs_of(answers.filter(pl.col("item_id").is_in(kept)), gold, choices=6), rows=1000).blocks
    for name in ("index", "rows", "pairs", "pair_rows", "answer", "possible"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert ours.gold.item.tolist() == theirs.gold.item.tolist()
    assert ours.gold.pair.tolist() == theirs.gold.pair.tolist()


def test_sparse_sums_are_the_loops():
    (block,) = read(inputs_of(make_answers(20, 5, 3, 4, seed=2)[0]), rows=1000).blocks
    value = np.random.default_rng(0).random(block.width)
    by_pair = [value[block.index[a:b]].sum() for a, b in zip(block.pair_rows, block.pair_rows[1:], strict=False)]
    assert block.by_pair @ value == pytest.approx(by_pair)
    by_item = [value[block.index[a:b]].sum() for a, b in zip(block.rows, block.rows[1:], strict=False)]
    assert block.by_item @ value == pytest.approx(by_item)
    assert block.pairs_of_item @ np.array(by_pair) == pytest.approx(by_item)
    assert block.rows_of_item @ value[block.index] == pytest.approx(by_item)
    assert block.shares() @ block.sizes[block.item] == pytest.approx(len(block.index))


def softmax(block: Block, scale: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=len(block.answer)) * scale
    weight, rest = rng.random(len(logit)), rng.random(block.num_items)
    rest[::3] = 0.0
    probs, unvoted, log = posterior_of_pairs(block, logit, weight, rest)
    exact, normaliser = np.empty(len(logit)), np.empty(block.num_items)
    for item in range(block.num_items):
        run = slice(block.pairs[item], block.pairs[item + 1])
        terms = np.log(weight[run]) + logit[run]
        others = np.append(terms, np.log(rest[item])) if rest[item] else terms
        normaliser[item] = np.logaddexp.reduce(others)
        exact[run] = np.exp(terms - normaliser[item])
    assert log == pytest.approx(normaliser)
    assert unvoted[rest > 0] == pytest.approx(np.exp(-normaliser[rest > 0]))
    return probs, exact


@pytest.mark.parametrize("scale", [1.0, 100.0, 5000.0])
def test_posteriors_are_exact_however_large_the_likelihoods(scale):
    (block,) = read(inputs_of(make_answers(40, 6, 3, 4, seed=3)[0]), rows=1000).blocks
    probs, exact = softmax(block, scale)
    assert probs == pytest.approx(exact, abs=1e-12)


def test_lanes_keep_the_order_and_leave_no_thread_behind():
    before = threading.active_count()
    with Lanes() as lanes:
        assert lanes.map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
        assert lanes.over(list, range(3)) == [[0], [1], [2]]
        assert [len(part) for part in lanes.over(list, range(10))] == [2, 3, 2, 3]
        assert len(lanes.over(list, range(100))) == NUM_LANES
        assert lanes.sum(lambda x: np.full(2, float(x)), range(5), 2).tolist() == [10, 10]
        assert lanes.sum(lambda x: np.zeros(2), [], 2).tolist() == [0, 0]
    assert threading.active_count() == before


def test_a_fit_in_the_order_of_ids_comes_back_in_the_table_s():
    answers = table("sparse")[0].sample(fraction=1, shuffle=True, seed=4)
    inputs = inputs_of(answers)
    seen = []

    def fit(ordered: Inputs):
        seen.extend(ordered.votes.item_ids)
        return majority(ordered, None)

    ours, direct = in_order_of_ids(inputs, fit), majority(inputs, None)
    assert seen == sorted(seen)
    assert seen != inputs.votes.item_ids.to_list()
    assert ours.offsets.tolist() == direct.offsets.tolist()
    assert ours.probs.tolist() == direct.probs.tolist()
    assert ours.best.tolist() == direct.best.tolist()
