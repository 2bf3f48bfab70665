"""benchmarks/align.py: what it reckons, what it keeps after a kill, and that all contenders get the same batches."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.align import read_part, reckon, spread, taken_up, write
from benchmarks.align_worker import ALL, CONTENDERS, TOP, TREATMENTS, TRL, TRL_PLAIN, Ours, Stock, chosen_labels
from labelrel.errors import InputError

SETTINGS = {"items": 4, "steps": 1}


def turn(**seconds: float) -> dict[str, Any]:
    return {name: [{"treatment": "gold", "tokens": 100, "seconds": value}] for name, value in seconds.items()}


def record(*turns: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": SETTINGS,
        "start_seconds": dict.fromkeys(CONTENDERS, 10.0),
        "trunk": {"seconds": 50.0, "tokens": 500},
        "whole_tokens": {"gold": 1000, "wrong": 3000},
        "memory": {name: {"loaded": 1, "peak": 4 if name == TRL else 2} for name in CONTENDERS},
        "measured": list(turns),
    }


ONE = turn(top_layers=1, all_layers=4, trl_no_checkpointing=8, trl=10)
TWO = turn(top_layers=2, all_layers=4, trl_no_checkpointing=8, trl=10)


def test_a_whole_run_is_start_and_trunk_and_tokens_over_rate() -> None:
    found = reckon(record(ONE))["wall_seconds"]
    # tokens / s are 100, 25, 12.5 and 10; a start takes 10 s, the trunk 50 s
    assert found[TOP]["median"] == 10 + 50 + 10
    assert found[ALL]["median"] == 10 + 40
    assert found[TRL_PLAIN]["median"] == 10 + 80
    assert found[TRL]["median"] == 10 + 100
    assert found["six"]["median"] == 10 + 50 + 40  # two treatments here, in one process


def test_ratios_belong_to_a_round() -> None:
    found = reckon(record(ONE, TWO))
    assert found["ratios"]["trl / one method, all layers"] == spread([110 / 50])
    assert found["ratios"]["trl / six methods, top layers"] == spread([110 / 100, 110 / 140])
    assert found["peak_ratios"] == {
        "trl / all_layers": 2.0, "trl / top_layers": 2.0,
        "trl_no_checkpointing / all_layers": 1.0, "trl_no_checkpointing / top_layers": 1.0,
    }  # fmt: skip


def test_what_was_run_whole_is_what_was_measured() -> None:
    runs = [{"treatment": "gold", "tokens": 1000, "seconds": 7.0}, {"treatment": "wrong", "tokens": 3000, "seconds": 9}]
    found = reckon(record({**ONE, TOP: runs}))
    assert found["wall_seconds"]["six"]["median"] == 10 + 50 + 16


def test_a_spread_is_median_and_ends() -> None:
    assert spread([3, 1, 2]) == {"median": 2, "lowest": 1, "highest": 3}


def test_a_round_that_was_cut_short_is_lost_and_a_whole_run_is_not() -> None:
    cut = record(ONE, turn(top_layers=1))
    assert taken_up(cut, SETTINGS, fresh=False, whole=False)["measured"] == [ONE]
    assert taken_up(cut, SETTINGS, fresh=False, whole=True)["measured"] == cut["measured"]


@pytest.mark.parametrize(("changes", "fresh"), [({"items": 5}, False), ({}, True)])
def test_other_settings_start_anew(changes: dict[str, int], fresh: bool) -> None:
    found = taken_up(record(ONE), {**SETTINGS, **changes}, fresh=fresh, whole=False)
    assert (found["measured"], found["trunk"]) == ([], None)


def test_parts_are_written_beside_each_other(tmp_path: Path) -> None:
    out = tmp_path / "results" / "align.json"
    write(out, "rounds", record(ONE))
    write(out, "quality", {"tasks": {}})
    assert read_part(out, "quality") == {"tasks": {}}
    assert read_part(out, "rounds") == {**record(ONE), "summary": reckon(record(ONE))}
    assert read_part(out, "whole") is None


def test_six_treatments_of_the_same_items() -> None:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)], "choices": [["a", "b", "c"]] * 40})
    items = items.with_columns(gold_label=pl.Series([str(n % 3) for n in range(40)]))
    found = {name: chosen_labels(items, name) for name in TREATMENTS}
    right = {name: (t["answer"] == items["gold_label"].head(t.height)).mean() for name, t in found.items()}
    assert right | {"mixed": 0.5, "weighted_mixed": 0.5} == {
        "gold": 1, "wrong": 0, "mixed": 0.5, "weighted": 1, "weighted_mixed": 0.5, "half": 1,
    }  # fmt: skip
    assert 0.2 < right["mixed"] < 0.8
    assert found["mixed"]["answer"].equals(found["weighted_mixed"]["answer"])
    assert [found[name].height for name in TREATMENTS] == [40, 40, 40, 40, 40, 20]
    assert {name for name, t in found.items() if t["weight"].n_unique() > 1} == {"weighted", "weighted_mixed"}
    assert set(found["wrong"]["answer"]) <= {"0", "1", "2"}


@pytest.fixture
def spec(make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    """What a worker is told, with a tiny model and four questions."""
    tokenizer = tiny_tokenizer
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [
        {"ctx": f"Someone counts to {n}" + " and goes on" * n, "endings": [" ".join("abcd"[: k + 1]) for k in range(4)]}
        for n in range(4)
    ]
    lines = [json.dumps({**row, "label": n}) for n, row in enumerate(rows)]
    (tmp_path / "hellaswag_validation.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "items": 4, "min_tokens": 0, "batch_size": 2, "learning_rate": 1e-3, "top_layers": 2, "threads": 1,
        "device": "cpu", "whole_steps": 3, "hellaswag": str(tmp_path), "model": str(tmp_path / "model"),
        "trunk": str(tmp_path / "trunk"),
    }  # fmt: skip


def test_all_layers_and_top_layers_see_the_same_batches(spec: dict[str, Any]) -> None:
    whole, top = Ours(ALL, spec), Ours(TOP, spec)
    whole.warm()
    top.warm()
    trunk = top.trunk()
    assert whole.trunk() is None
    assert trunk is not None
    # every prompt once with all of its endings: tokens are bytes, and a target has its blank
    contexts, endings = sum(len(f"Someone counts to {n}") + 12 * n for n in range(4)), 4 * (2 + 4 + 6 + 8)
    assert trunk["tokens"] == contexts + endings
    one, other = whole.train("gold", 2, 0), top.train("gold", 2, 0)
    assert one["tokens"] == other["tokens"] == whole.tokens("gold", whole.plan("gold", 2, 0))
    # the last step's loss: the first step changed all layers here and the top ones there, a little
    assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
    assert whole.whole_tokens().keys() == set(TREATMENTS)
    # which is larger is not for this process to say: the tests before have left memory that goes back meanwhile
    assert whole.memory()["peak"] > 0
    assert whole.memory()["loaded"] > 0


def test_short_items_are_passed_over_or_told(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.align_worker._DRAWN", 2)
    longest = max(len(example.prompt) for example in Ours(ALL, spec).examples["gold"])
    long = Ours(ALL, {**spec, "items": 1, "min_tokens": 40})
    assert [len(example.prompt) >= 40 for example in long.examples["gold"]] == [True]
    with pytest.raises(InputError, match=f"0 of 4 items have {longest + 1} tokens, 2 are asked for"):
        Ours(ALL, {**spec, "items": 2, "min_tokens": longest + 1})


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning", "ignore:.gradient_checkpointing:FutureWarning",
    "ignore:.*pin_memory.*:UserWarning", "ignore:.*chat template.*:UserWarning",
)  # fmt: skip
def test_trl_sees_the_batches_that_we_see(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    seen: list[str] = []

    class Watched(trl.SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
            tokens = [row[mask.bool()] for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
            seen.extend(self.processing_class.decode(row) for row in tokens)
            return super().compute_loss(model, inputs, *args, **more)

    monkeypatch.setattr(trl, "SFTTrainer", Watched)
    contender = Stock(TRL_PLAIN, spec)
    contender.loaded.tokenizer.eos_token = "<pad>"
    contender.warm()
    seen.clear()
    done = contender.train("wrong", 3, 1)
    texts = contender.texts["wrong"]
    plan = contender.plan("wrong", 3, 1)
    assert seen == [f"{''.join(texts[index])}<pad>" for batch in plan for index in batch]
    assert done["tokens"] == sum(len("".join(texts[index])) for batch in plan for index in batch)
