"""Calibrators: hand-worked and independent fits, out-of-fold probabilities, and files that are not trusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from labelrel.errors import ConfigError, InputError
from labelrel.scoring import calibrator_files, calibrators, score
from labelrel.scoring.calibrator_files import read_calibrators, write_calibrators
from labelrel.scoring.calibrators import (
    DEFAULT_KIND,
    Beta,
    Calibrator,
    Isotonic,
    Platt,
    cross_fit,
    fit_calibrator,
)

KINDS = ("platt", "isotonic", "beta")
every_kind = pytest.mark.parametrize("kind", KINDS)
CROWD = Path(__file__).resolve().parents[2] / "../shared/data/crowd"


def votes(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shares of five votes and whether the label is right, which is less often than the share says."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.4, 0.6, 0.8, 1.0], n, p=[0.1, 0.2, 0.3, 0.4])
    return share, rng.random(n) < np.interp(share, [0.4, 1.0], [0.3, 0.85])


def ids(n: int) -> list[str]:
    return [f"q{i}" for i in range(n)]


def fit(kind: str, share: Any, right: Any) -> Calibrator:
    return fit_calibrator(kind, share, right, method="share")  # type: ignore[arg-type]


def smoothed(right: np.ndarray) -> np.ndarray:
    positives, negatives = right.sum(), (~right).sum()
    return np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def test_platt_of_two_scores_is_their_smoothed_share():
    # two scores and two parameters: P(right) at each is its mean target. 20 labels, 10 right: t+ = 11/12, t- = 1/12
    # score 1: 8 of 10 right → (8 · 11/12 + 2 · 1/12) / 10 = .75; score 0: 2 of 10 → .25
    found = fit("platt", np.repeat([1, 0], 10), np.repeat([1, 0, 1, 0], [8, 2, 2, 8]))
    assert found.apply([1, 0]).to_list() == pytest.approx([0.75, 0.25], abs=1e-7)
    # logit .75 = ln 3: intercept -ln 3, slope 2 ln 3
    assert isinstance(found.curve, Platt)
    assert (found.curve.slope, found.curve.intercept) == pytest.approx((2 * np.log(3), -np.log(3)), abs=1e-6)


def test_platt_agrees_with_weighted_logistic_regression():
    """A label with target t is one right label of weight t and one wrong of weight 1 - t."""
    rng = np.random.default_rng(0)
    number = rng.normal(3, 2, 250)
    right = rng.random(250) < 1 / (1 + np.exp(-(number - 2)))
    target = smoothed(right)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(np.tile(number, 2)[:, None], np.repeat([1, 0], 250), sample_weight=np.concatenate([target, 1 - target]))
    curve = fit("platt", number, right).curve
    assert curve.slope == pytest.approx(model.coef_[0, 0], rel=1e-5)
    assert curve.intercept == pytest.approx(model.intercept_[0], rel=1e-5)


def test_isotonic_agrees_with_sklearn_on_the_labels():
    share, right = votes()
    model = IsotonicRegression(out_of_bounds="clip").fit(share, right.astype(float))
    asked = np.linspace(0, 1, 51)
    assert fit("isotonic", share, right).apply(asked).to_list() == pytest.approx(model.predict(asked).tolist())


def test_isotonic_pools_ties_and_what_would_fall():
    # score 0: 1 of 5; 1: 4 of 5; 2: 3 of 5, pooled with 1 to 7 of 10; 3: 5 of 5
    right = [1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    found = fit("isotonic", np.repeat([0, 1, 2, 3], 5), right)
    # beyond the ends constant, between the knots a straight line
    asked = [-9, 0, 0.5, 1, 1.5, 2, 2.5, 3, 9]
    assert found.apply(asked).to_list() == pytest.approx([0.2, 0.2, 0.45, 0.7, 0.7, 0.7, 0.85, 1, 1])


def test_beta_agrees_with_another_optimiser():
    rng = np.random.default_rng(1)
    stated = rng.beta(2, 1, 400)
    right = rng.random(400) < stated**2
    clipped = np.clip(stated, 0.001, 0.999)
    target = smoothed(right)

    def loss(parameters: np.ndarray) -> float:
        a, b, c = parameters
        logit = a * np.log(clipped) - b * np.log(1 - clipped) + c
        return float(np.sum(np.logaddexp(0, logit) - target * logit))

    expected = minimize(loss, [1, 1, 0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000})
    curve = fit("beta", stated, right).curve
    assert isinstance(curve, Beta)
    assert min(expected.x[:2]) > 0.1  # inside the bounds, where both solve the same problem
    assert (curve.a, curve.b, curve.c) == pytest.approx(expected.x, abs=1e-4)


def test_beta_identity_and_formula():
    # a = b = 1, c = 0 is the identity: s / (s + 1 - s)
    same = Calibrator(method="m", num_labels=10, curve=Beta(a=1.0, b=1.0, c=0.0))
    assert same.apply([0.25, 0.5, 0.9]).to_list() == pytest.approx([0.25, 0.5, 0.9])
    assert same.apply([0, 1]).to_list() == pytest.approx([0.001, 0.999])  # votes of a few are never certain
    # a = 2, b = 0: s² / (s² + 1)
    half = Calibrator(method="m", num_labels=10, curve=Beta(a=2.0, b=0.0, c=0.0))
    assert half.apply([0.5]).to_list() == pytest.approx([0.25 / 1.25])


@every_kind
def test_calibrated_is_nearer_the_truth_than_the_score(kind):
    share, right = votes(1000)
    truth = np.interp(share, [0.4, 1.0], [0.3, 0.85])
    calibrated = fit(kind, share, right).apply(share).to_numpy()
    assert np.abs(calibrated - truth).mean() < 0.35 * np.abs(share - truth).mean()


@every_kind
def test_a_score_that_points_the_wrong_way_is_a_constant(kind):
    share, right = votes()
    backwards = fit(kind, 1 - share, right).apply([0, 0.3, 1]).to_list()
    assert backwards == pytest.approx([backwards[0]] * 3)
    assert backwards[0] == pytest.approx(right.mean(), abs=0.01)


@every_kind
@pytest.mark.parametrize(("right", "expected"), [(1, 13 / 14), (0, 1 / 14)])
def test_one_class_only_is_the_rule_of_succession(kind, right, expected):
    found = fit(kind, np.linspace(0, 1, 12), np.full(12, right))
    assert found.apply([0, 0.5, 1]).to_list() == pytest.approx([expected] * 3)


@every_kind
def test_one_score_only_is_its_share(kind):
    right = np.arange(20) < 15
    found = fit(kind, np.full(20, 0.7), right).apply([0.7, 0.2]).to_list()
    # smoothed: (15 · 16/17 + 5 · 1/7) / 20 = .7416
    assert found == pytest.approx([0.75 if kind == "isotonic" else (15 * 16 / 17 + 5 / 7) / 20] * 2)


@pytest.mark.parametrize("kind", ["platt", "beta"])
def test_a_score_that_separates_perfectly_stays_short_of_certain(kind):
    found = fit(kind, np.repeat([0.9, 0.1], 20), np.repeat([1, 0], 20)).apply([1, 0.9, 0.1, 0]).to_list()
    # the target of a right label is 21/22
    assert found[1:3] == pytest.approx([21 / 22, 1 / 22], abs=1e-6)
    assert 0 < found[3] < found[2] < 0.5 < found[1] < found[0] < 1


@every_kind
def test_null_stays_null_and_nothing_else_changes(kind):
    found = fit(kind, *votes())
    asked = pl.Series("label_quality", [None, 0.4, None, 1.0])
    result = found.apply(asked)
    assert (result.name, result.dtype) == ("probability", pl.Float64)
    assert result.is_null().to_list() == [True, False, True, False]
    assert result.drop_nulls().to_list() == found.apply([0.4, 1.0]).to_list()
    assert asked.to_list() == [None, 0.4, None, 1.0]
    assert found.apply(pl.Series([], dtype=pl.Float64)).to_list() == []
    assert found.apply(pl.Series([None, None])).to_list() == [None, None]


@every_kind
def test_order_of_labels_does_not_matter(kind):
    share, right = votes()
    order = np.random.default_rng(1).permutation(share.size)
    assert fit(kind, share[order], right[order]) == fit(kind, share, right)
    names = np.array(ids(share.size))
    expected = cross_fit(kind, share, right, names)
    assert cross_fit(kind, share[order], right[order], names[order]).to_list() == expected.to_numpy()[order].tolist()


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-250, 1e250, 1.7e308])
def test_scores_of_any_size(size):
    found = fit("platt", np.repeat([size, -size], 10), np.repeat([1, 0, 1, 0], [8, 2, 2, 8])).apply([size, -size])
    # as of scores 1 and -1; below 1e-290 a slope would not be a number any more, and scores count as 0
    assert found.to_list() == pytest.approx([0.75, 0.25] if size > 1e-290 else [0.5, 0.5], abs=1e-6)


# numbers of any size, most of them tied
scores_of_any_size = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(allow_nan=False, allow_infinity=False)), st.booleans()
    ),
    min_size=10,
    max_size=40,
)


@every_kind
@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=scores_of_any_size)
def test_any_number_gives_a_probability_that_does_not_fall(kind, rows):
    number, right = np.array([s for s, _ in rows]), np.array([r for _, r in rows])
    if kind == "beta":
        number = np.clip(np.nan_to_num(number), 0, 1)
    asked = np.unique(number)
    found = fit(kind, number, right).apply(asked).to_numpy()
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


@every_kind
def test_cross_fit_is_the_fit_without_the_fold(kind):
    share, right = votes(60)
    names = pl.Series([f"q{i // 2}" for i in range(60)])
    found = cross_fit(kind, share, right, names, folds=5)
    fold = calibrators._folds(names, 60, 5, 0)
    assert np.bincount(fold).tolist() == [12] * 5  # 30 items of two labels: 6 items each
    for number in range(5):
        mine = fold == number
        assert set(names.filter(pl.Series(mine))).isdisjoint(names.filter(pl.Series(~mine)))
        alone = fit(kind, share[~mine], right[~mine]).apply(share[mine])
        assert found.filter(pl.Series(mine)).to_list() == alone.to_list()


@every_kind
def test_no_label_changes_its_own_probability(kind):
    share, right = votes(80)
    before = cross_fit(kind, share, right, ids(80)).to_list()
    for i in (0, 17, 79):
        flipped = right.copy()
        flipped[i] = not flipped[i]
        after = cross_fit(kind, share, flipped, ids(80)).to_list()
        assert after[i] == before[i]
        assert after != before


def test_cross_fit_seed_deals_anew_and_folds_are_no_more_than_items():
    share, right = votes(80)
    first, second = (cross_fit("platt", share, right, ids(80), seed=seed) for seed in (0, 1))
    assert not first.equals(second)
    assert first.equals(cross_fit("platt", share, right, ids(80)))
    leave_one_out = cross_fit("platt", share[:12], right[:12], ids(12), folds=100)
    assert leave_one_out[3] == fit("platt", np.delete(share[:12], 3), np.delete(right[:12], 3)).apply(share[3:4])[0]


def test_items_may_be_numbers():
    share, right = votes(40)
    numbers = cross_fit("platt", share, right, np.arange(40))
    assert numbers.to_list() == cross_fit("platt", share, right, [str(i) for i in range(40)]).to_list()


@every_kind
def test_a_fold_whose_rest_has_one_class_gets_the_rule_of_succession(kind):
    # the only wrong label: its own fold learns from labels that are all right
    share, right = np.full(10, 0.8), np.arange(10) != 4
    found = cross_fit(kind, share, right, ids(10), folds=10)
    assert found[4] == pytest.approx(10 / 11)  # nine right: (9 + 1) / (9 + 2)
    assert found[5] < found[4]


def test_default_kind_is_one_of_them():
    assert DEFAULT_KIND == "platt"


@every_kind
def test_file_gives_back_the_same_to_the_last_bit(kind, tmp_path):
    rng = np.random.default_rng(5)
    number = rng.random(200)
    found = fit(kind, number, rng.random(200) < number)
    write_calibrators(tmp_path / "c.json", {"share": found})
    read = read_calibrators(tmp_path / "c.json")
    assert read == {"share": found}
    assert read["share"].apply(number).to_list() == found.apply(number).to_list()
    assert (read["share"].kind, read["share"].num_labels, read["share"].score) == (kind, 200, "label_quality")


def test_file_of_several_methods_is_plain_and_readable(tmp_path):
    share, right = votes()
    found = {kind: fit_calibrator(kind, share, right, method=kind, score_name="share") for kind in KINDS}
    write_calibrators(tmp_path / "c.json", found)
    assert read_calibrators(tmp_path / "c.json") == found
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["version"] == 1
    platt = document["calibrators"]["platt"]
    assert platt["orientation"] == "higher = more likely right"
    assert list(platt["curve"]) == ["kind", "slope", "intercept"]


def test_nothing_to_write_and_a_wrong_name_are_told(tmp_path):
    with pytest.raises(InputError, match="there is no calibrator to write"):
        write_calibrators(tmp_path / "c.json", {})
    with pytest.raises(InputError, match=r"the calibrator of 'entropy' is of method 'share'"):
        write_calibrators(tmp_path / "c.json", {"entropy": fit("platt", *votes())})
    assert list(tmp_path.iterdir()) == []


PLATT = {"kind": "platt", "slope": 1.0, "intercept": 0.0}


def isotonic(heights: list[Any], knots: list[Any] | None = None) -> dict[str, Any]:
    return {
        "kind": "isotonic",
        "scores": list(range(len(heights))) if knots is None else knots,
        "probabilities": heights,
    }


def document(curve: Any = None, **changes: Any) -> dict[str, Any]:
    entry = {"method": "share", "score": "label_quality", "orientation": "higher = more likely right"}
    entry |= {"num_labels": 50, "curve": PLATT if curve is None else curve, **changes}
    return {"version": 1, "calibrators": {"share": entry}}


def test_the_document_that_the_hostile_ones_change_is_fine(tmp_path):
    file = tmp_path / "c.json"
    for curve in (None, isotonic([0.1, 0.1, 1]), isotonic([0.5], [3])):
        file.write_text(json.dumps(document(curve)))
        assert list(read_calibrators(file)) == ["share"]


HOSTILE: list[tuple[Any, str]] = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("[" * 200_000, "cannot be read as calibrators: maximum recursion"),
    ('{"version": ' + "9" * 5000 + "}", "cannot be read as calibrators: Exceeds the limit"),
    ([], "is not a file of calibrators of version 1 (version: None)"),
    ({"version": 2, "calibrators": {}}, "of version 1 (version: 2)"),
    ({"version": True, "calibrators": {}}, "of version 1 (version: True)"),
    ({"version": "1\n", "calibrators": {}}, r"of version 1 (version: '1\n')"),
    ({"version": 1}, "calibrators: field required"),
    ({"version": 1, "calibrators": {}}, "calibrators: dictionary should have at least 1 item"),
    ({"version": 1, "calibrators": [1]}, "calibrators: input should be a valid dictionary"),
    ({"version": 1, "calibrators": {"a\nb": {}}}, r"calibrators.'a\nb'.method: field required"),
    ({**document(), "more": 1}, "more: extra inputs are not permitted"),
    (document(num_labels=0), "num_labels: input should be greater than or equal to 1, got 0"),
    (document(num_labels="50"), "num_labels: input should be a valid integer, got '50'"),
    (document(num_labels=True), "num_labels: input should be a valid integer, got True"),
    (document(method="entropy"), "the calibrator of 'share' is of method 'entropy'"),
    (document(orientation="lower"), "orientation: input should be 'higher = more likely right', got 'lower'"),
    (document(extra=1), "share.extra: extra inputs are not permitted"),
    (document({"kind": "spline"}), "input tag 'spline'"),
    (document({"kind": ["platt"]}), "curve: "),
    (document([]), "curve: "),
    (document({"kind": "platt", "slope": 1.0}), "intercept: field required"),
    (document({**PLATT, "slope": -1.0}), "slope: input should be greater than or equal to 0, got -1.0"),
    (document({**PLATT, "slope": float("nan")}), "slope: input should be a finite number, got nan"),
    (document({**PLATT, "intercept": float("inf")}), "intercept: input should be a finite number, got inf"),
    (document({**PLATT, "slope": 10**400}), "slope: input should be a valid number, got 1000"),
    (document({**PLATT, "slope": "1"}), "slope: input should be a valid number, got '1'"),
    (document({**PLATT, "slope": None}), "slope: input should be a valid number, got None"),
    (document({"kind": "beta", "a": 1.0, "b": -0.5, "c": 0.0}), "b: input should be greater than or equal to 0"),
    (document(isotonic([0.5, 0.4])), "probabilities must not fall from knot to knot"),
    (document(isotonic([0.5, 0.6], [1, 1])), "scores must rise from knot to knot"),
    (document(isotonic([0.5, 0.6], [0])), "has 1 scores but 2 probabilities"),
    (document(isotonic([0.5, 1.1])), "probabilities must lie in [0, 1]"),
    (document(isotonic([-0.1, 1])), "probabilities must lie in [0, 1]"),
    (document(isotonic([])), "scores: value should have at least 1 item"),
    (document(isotonic([0.5, float("nan")])), "probabilities.1: input should be a finite number, got nan"),
    (document(isotonic([0.5, "0.6"])), "probabilities.1: input should be a valid number, got '0.6'"),
    (document(isotonic([0.5], "0")), "scores: input should be a valid tuple, got '0'"),  # type: ignore[arg-type]
    (document(isotonic([0.5] * 100_001)), "scores: value should have at most 100000 items"),
]


@pytest.mark.parametrize(("content", "match"), HOSTILE, ids=[match for _, match in HOSTILE])
def test_a_broken_or_hostile_file_is_one_line(tmp_path, content, match):
    file = tmp_path / "c.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=re.escape(match)) as caught:
        read_calibrators(file)
    assert "c.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_no_file_a_folder_bytes_and_a_huge_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        read_calibrators(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read as calibrators"):
        read_calibrators(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not JSON"):
        read_calibrators(tmp_path / "bytes.json")
    monkeypatch.setattr(calibrator_files, "_MOST_BYTES", 100)
    (tmp_path / "huge.json").write_text(" " * 101)
    with pytest.raises(InputError, match="has 101 bytes; calibrators take less than 100"):
        read_calibrators(tmp_path / "huge.json")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fit("plat", *votes()), ConfigError, "unknown calibration 'plat'; did you mean 'platt'"),
        (lambda: fit("platt", [0.5] * 9, [1] * 9), InputError, "at least 10 labels with gold, got 9; 50 or more"),
        (lambda: fit("platt", [0.5] * 10, [1] * 9), InputError, "score has 10 values but correct has 9"),
        (lambda: fit("platt", [0.5] * 9 + [None], [1] * 10), InputError, "score: 1 of 10 values are missing"),
        (lambda: fit("platt", [0.5] * 9 + [np.inf], [1] * 10), InputError, "score: 1 of 10 values are missing or not"),
        (lambda: fit("platt", ["a"] * 10, [1] * 10), InputError, "score must be numbers"),
        (lambda: fit("platt", [0.5] * 10, [1] * 9 + [2]), InputError, "correct must be 0 or 1, got 2"),
        (lambda: fit("beta", [1.5] * 10, [1] * 10), InputError, r"beta calibration takes scores in \[0, 1\], got 1.5"),
        (lambda: fit("beta", *votes()).apply([-1]), InputError, "got -1"),
        (lambda: fit("platt", *votes()).apply([np.nan]), InputError, "score: 1 of 1 values are missing or not finite"),
        (lambda: cross_fit("platt", *votes(), ids(300), folds=1), ConfigError, "folds must be at least 2, got 1"),
        (lambda: cross_fit("platt", *votes(), ids(3)), InputError, "items has 3 values but score has 300"),
        (lambda: cross_fit("platt", *votes(20), [None, *ids(19)]), InputError, "items: 1 of 20 labels have no item"),
        (
            lambda: cross_fit("platt", *votes(20), ["q"] * 20),
            InputError,
            "labels of at least 2 items, got those of 'q'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_calibrators_cannot_be_changed():
    found = fit("isotonic", *votes())
    assert isinstance(found.curve, Isotonic)
    with pytest.raises(ValueError, match="frozen"):
        found.num_labels = 3


def test_real_votes_become_probabilities():
    """Cross-fitted on real crowd votes, every kind is better calibrated than the share itself."""
    if not CROWD.is_dir():
        pytest.skip(f"the crowd data set is not there: {CROWD}")
    answers = pl.read_csv(CROWD / "s4_Dog_data.answer.csv", infer_schema=False)
    truth = pl.read_csv(CROWD / "s4_Dog_data.truth.csv", infer_schema=False)
    answers = answers.rename({"question": "item_id", "worker": "annotator_id"})
    labels = score(answers, ["share"]).filter("weak_label").join(truth, left_on="item_id", right_on="question")
    share, right = labels["share"], labels["answer"] == labels["truth"]
    plain = float(((share - right.cast(pl.Float64)) ** 2).mean())  # type: ignore[arg-type]
    for kind in KINDS:
        stated = cross_fit(kind, share, right, labels["item_id"])
        assert float(((stated - right.cast(pl.Float64)) ** 2).mean()) < plain  # type: ignore[arg-type]
        assert abs(stated.mean() - right.mean()) < 0.01  # type: ignore[operator]
