"""What every selection rule promises; a new one is covered by being registered."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import ConfigError, InputError, LabelrelError, UnknownNameError
from labelrel.scoring import methods, score
from labelrel.selection import SELECTED, _pool, check_params, reads, rules, select

every_rule = pytest.mark.parametrize("name", list(rules))


def make_tables() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """60 items in order of a shuffled id, 40 of them w2s, five answers each of which some are null."""
    rng = np.random.default_rng(0)
    ids = [f"q{i:02d}" for i in rng.permutation(60)]
    gold = rng.integers(4, size=60)
    rows = []
    for i, item in enumerate(ids):
        weights = np.full(4, 0.15)
        weights[gold[i]] = 0.55
        for v in range(5):
            answer = None if rng.random() < 0.1 or i == 3 else str(rng.choice(4, p=weights))
            rows.append((item, "ann", str(v), answer))
    answers = pl.DataFrame(rows, schema=["item_id", "annotator_id", "variant_id", "answer"], orient="row")
    items = pl.DataFrame(
        {
            "item_id": ids,
            "split": ["w2s"] * 40 + ["gold_dev"] * 20,
            "choices": [[*"abcd"]] * 60,
            "gold_label": [str(g) for g in gold],
        }
    )
    able = [name for name in methods if set(methods.get(name).needs) <= {"answers", "annotators", "label_probs"}]
    return score(answers, able, items=items), answers, items


SCORES, ANSWERS, ITEMS = make_tables()
FIRST = ITEMS["item_id"][0]
# 20 gold labels certify no more than this
PARAMS: dict[str, dict[str, object]] = {"target_accuracy": {"target": 0.5, "confidence": 0.8}}


@every_rule
def test_columns_order_and_weights(name):
    chosen = select(name, SCORES, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name))
    assert chosen.schema == SELECTED
    assert chosen.height > 0
    w2s = ITEMS.filter(split="w2s")["item_id"].to_list()
    positions = [w2s.index(item) for item in chosen["item_id"]]
    assert positions == sorted(positions)
    assert chosen["answer"].null_count() == 0
    assert chosen["weight"].is_between(0, 1).all()


@every_rule
def test_deterministic_input_untouched_and_row_order_does_not_matter(name):
    before = [frame.clone() for frame in (SCORES, ANSWERS, ITEMS)]
    expected = select(name, SCORES, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name))
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=2) for frame in (SCORES, ANSWERS)]
    assert_frame_equal(select(name, *shuffled, ITEMS, seed=1, params=PARAMS.get(name)), expected, check_exact=True)
    for frame, copy in zip((SCORES, ANSWERS, ITEMS), before, strict=True):
        assert_frame_equal(frame, copy, check_exact=True)


@every_rule
def test_only_rules_that_say_so_see_gold_labels(name):
    rule, mine = rules.get(name), pl.col("split") == "w2s"
    rotated = ITEMS.with_columns(
        gold_label=pl.when(mine).then(pl.col("gold_label").reverse().over("split")).otherwise("gold_label")
    )
    chosen, other = (
        select(name, SCORES, ANSWERS, items, seed=1, params=PARAMS.get(name)) for items in (ITEMS, rotated)
    )
    assert chosen.equals(other) != rule.reads_gold
    assert rule.role in ("control", "ceiling") or not rule.reads_gold
    if not rule.reads_gold and not rule.reads_gold_dev:
        select(name, SCORES, ANSWERS, ITEMS.drop("gold_label"), seed=1)


@every_rule
def test_pool_has_gold_labels_only_for_rules_that_say_so(name):
    pool = _pool(rules.get(name), SCORES, ANSWERS, ITEMS, seed=1)
    assert ("gold_label" in pool.items.columns) == rules.get(name).reads_gold
    assert "gold_label" not in [*pool.answers.columns, *pool.first.columns, *pool.scores.columns]
    assert pool.gold_dev is None


@every_rule
def test_order_of_items_changes_the_order_only(name):
    other = select(name, SCORES, ANSWERS, ITEMS.sort("item_id"), seed=1, params=PARAMS.get(name))
    expected = select(name, SCORES, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name))
    assert_frame_equal(other, expected.sort("item_id", maintain_order=True))


@every_rule
def test_reads_only_the_methods_it_names(name):
    needed = reads(name, PARAMS.get(name))
    only = SCORES.filter(pl.col("method").is_in(list(needed))) if needed else SCORES.filter(method="margin")
    assert_frame_equal(
        select(name, only, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name)),
        select(name, SCORES, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name)),
    )
    for method in needed:
        with pytest.raises(InputError, match=f"no rows of method '{method}'.*add '{method}' to score.methods"):
            select(name, SCORES.filter(pl.col("method") != method), ANSWERS, ITEMS, seed=1, params=PARAMS.get(name))


@every_rule
def test_other_splits_do_not_matter(name):
    read = ["w2s", *["gold_dev"] * rules.get(name).reads_gold_dev]
    mine = ITEMS.filter(pl.col("split").is_in(read))
    alone = [frame.join(mine, on="item_id", how="semi", maintain_order="left") for frame in (SCORES, ANSWERS)]
    assert_frame_equal(
        select(name, *alone, mine, seed=1, params=PARAMS.get(name)),
        select(name, SCORES, ANSWERS, ITEMS, seed=1, params=PARAMS.get(name)),
    )


@every_rule
def test_documented_and_defaults_are_valid(name):
    rule = rules.get(name)
    assert rule.name == name
    assert 20 < len(rule.summary) < 120
    assert len(rule.source) > 20, "docstring without a Source line"
    assert check_params(name, {}) == []
    assert check_params(name, rule.params().model_dump()) == []
    assert all(field.description for field in rule.params.model_fields.values())


def test_both_controls_the_ceiling_and_all_rules_are_there():
    assert list(rules) == [
        "naive", "majority", "filter", "reweight", "cleanlab_filter", "cleanlab_weight", "soft_labels",
        "label_smoothing", "forward_correction", "target_accuracy", "random", "oracle", "ceiling",
    ]  # fmt: skip
    roles = {name: rules.get(name).role for name in rules if rules.get(name).role != "method"}
    assert roles == {"random": "control", "oracle": "control", "ceiling": "ceiling"}


@pytest.mark.parametrize(
    ("name", "params", "lines"),
    [
        ("filter", {"quantile": 1.5}, ["select.filter.quantile must lie in [0, 1], got 1.5"]),
        ("cleanlab_filter", {"keep": 0}, ["select.cleanlab_filter.keep must lie in (0, 1], got 0"]),
        ("filter", {"quantile": float("nan")}, ["select.filter.quantile must lie in [0, 1], got nan"]),
        ("random", {"quantil": 0.5}, ["unknown key select.random.quantil; did you mean 'quantile'? allowed: quantile"]),
        ("majority", {"keep": 1}, ["unknown key select.majority.keep; it has no parameters"]),
        ("filtre", {}, ["unknown selection rule 'filtre' in params.yaml (select.methods); did you mean 'filter'?"]),
        ("filter", {"quantile": "0.5"}, ["select.filter.quantile is wrong: input should be a valid number, got '0.5'"]),
        ("filter", {"quantile": True}, ["select.filter.quantile is wrong: input should be a valid number, got True"]),
        ("cleanlab_weight", {"score": ""}, ["select.cleanlab_weight.score is wrong"]),
        (
            "filter",
            {"protocol": "papers", "quantile": -1, "seed": 3},
            ["select.filter.protocol is wrong: input should be 'default' or 'paper', got 'papers'", "got -1", "seed"],
        ),
    ],
)
def test_params_problems_are_told_all_at_once(name, params, lines):
    problems = check_params(name, params)
    assert len(problems) == len(lines)
    for problem in problems:
        assert any(line in problem for line in lines), problem
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: select("mayority", SCORES, ANSWERS, ITEMS, seed=0), UnknownNameError, "did you mean 'majority'"),
        (
            lambda: select("filter", SCORES, ANSWERS, ITEMS, seed=0, params={"quantile": 2, "x": 1}),
            ConfigError,
            r"quantile must lie in \[0, 1\], got 2; unknown key select.filter.x",
        ),
        (
            lambda: select("cleanlab_weight", SCORES, ANSWERS, ITEMS, seed=0, params={"score": "crowdlap"}),
            InputError,
            "no rows of method 'crowdlap'; did you mean 'crowdlab'",
        ),
        (lambda: select("naive", SCORES, ANSWERS, ITEMS, split="test", seed=0), InputError, "no item in split 'test'"),
        (lambda: select("naive", SCORES.drop("tie"), ANSWERS, ITEMS, seed=0), InputError, "has no column 'tie'"),
        (lambda: select("naive", SCORES, ANSWERS.drop("variant_id"), ITEMS, seed=0), InputError, "'variant_id'"),
        (lambda: select("oracle", SCORES, ANSWERS, ITEMS.drop("gold_label"), seed=0), InputError, "'gold_label'"),
        (
            lambda: select("oracle", SCORES, ANSWERS, ITEMS.with_columns(gold_label=None), seed=0),
            InputError,
            "needs gold labels, but none of the 40 items",
        ),
        (
            lambda: select("majority", SCORES.filter(pl.col("item_id") != FIRST), ANSWERS, ITEMS, seed=0),
            InputError,
            rf"scores has no rows for 1 answered items \({FIRST}\); score again",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert isinstance(caught.value, LabelrelError)
    assert "\n" not in str(caught.value)
