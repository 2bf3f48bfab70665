"""Models of meaning: batches, padding and caches change nothing, and folders of another kind are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from labelrel.errors import ConfigError, InputError
from labelrel.models.meaning import EmbeddingMeaning, EntailmentMeaning
from labelrel.scoring.meaning import cluster_answers

LABELS = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
TEXTS = ["Paris", "the city of Paris", "Rome", "a", "", "Paris is the capital of France, and of nothing else", "42"]

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture(scope="module")
def save_bert(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Callable[..., Path]:
    """Return a maker of folders with a random two-layer BERT of 64 positions."""
    import transformers

    def save(kind: str, **changes: Any) -> Path:
        config = transformers.BertConfig(
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=1.0,  # so that the logits of different texts differ
            **changes,
        )
        folder = tmp_path_factory.mktemp(kind)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)  # one of those with which the judge says each label of many pairs
            getattr(transformers, kind)(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def encoder(save_bert: Callable[..., Path]) -> Path:
    return save_bert("BertModel")


@pytest.fixture(scope="module")
def judge(save_bert: Callable[..., Path]) -> Path:
    return save_bert("BertForSequenceClassification", id2label=LABELS)


def alone(folder: Path, tokenizer: Any, text: str) -> np.ndarray:
    """The embedding of a text by itself, so that there is no padding to leave out."""
    import transformers

    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    mean = hidden.mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


def test_embeddings_are_means_over_the_tokens_whatever_the_batch(encoder: Path, tiny_tokenizer: Any) -> None:
    texts = [text for text in TEXTS if text]
    vectors = EmbeddingMeaning(str(encoder)).embed(texts)
    assert vectors.shape == (len(texts), 32)
    expected = np.stack([alone(encoder, tiny_tokenizer, text) for text in texts])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_embeddings_come_back_in_the_order_asked_and_are_made_once(encoder: Path) -> None:
    model = EmbeddingMeaning(str(encoder))
    seen: list[int] = []
    model._model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    first = model.embed(TEXTS)
    again = model.embed([TEXTS[2], TEXTS[0], TEXTS[2]])
    assert np.array_equal(again, first[[2, 0, 2]])
    assert seen == [len(TEXTS)]
    assert model.embed([]).shape == (0, 32)


def test_batches_do_not_mix_texts_up(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelrel.models import meaning

    whole = EmbeddingMeaning(str(encoder)).embed(TEXTS)
    monkeypatch.setattr(meaning, "_BATCH", 2)
    np.testing.assert_allclose(EmbeddingMeaning(str(encoder)).embed(TEXTS), whole, atol=1e-5)


def test_same_is_a_cosine_of_at_least_the_threshold(encoder: Path, tiny_tokenizer: Any) -> None:
    a, b = "Paris", "the city of Paris"
    cosine = float(alone(encoder, tiny_tokenizer, a) @ alone(encoder, tiny_tokenizer, b))
    for threshold, expected in ((cosine - 1e-3, True), (cosine + 1e-3, False)):
        assert EmbeddingMeaning(str(encoder), threshold=threshold)([(a, b, "Where?"), (b, a, None)]) == [expected] * 2
    assert EmbeddingMeaning(str(encoder), threshold=1.0)([(a, a, None), (a, b, None)]) == [True, False]


def entails(model: Any, tokenizer: Any, premise: str, hypothesis: str) -> bool:
    with torch.inference_mode():
        logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits[0]
    return LABELS[int(logits.argmax())] == "ENTAILMENT"


def test_entailment_must_hold_both_ways(judge: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    from labelrel.models import meaning

    model = transformers.BertForSequenceClassification.from_pretrained(judge).eval()
    texts = ["fig", "kiwi", "plum", "lime", "rust", "jade", "sky", "moss", "rose", "sea", "leaf", "ruby"]
    pairs = [(a, b, "Who?" if i % 2 else None) for a in texts for i, b in enumerate(texts) if a < b]
    expected, one_way = [], 0
    for a, b, question in pairs:
        first, second = (a, b) if question is None else (f"{question} {a}", f"{question} {b}")
        there, back = entails(model, tiny_tokenizer, first, second), entails(model, tiny_tokenizer, second, first)
        expected.append(there and back)
        one_way += there != back
    assert one_way  # often enough the one entails the other and not the other way round
    assert 0 < sum(expected) < len(expected)
    monkeypatch.setattr(meaning, "_BATCH", 16)
    assert EntailmentMeaning(str(judge))(pairs) == expected


def test_a_direction_is_asked_once(judge: Path) -> None:
    model = EntailmentMeaning(str(judge))
    seen: list[int] = []
    model._model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    model([("a", "b", None), ("b", "a", None), ("a", "b", None)])
    assert seen == [2]


def test_texts_longer_than_the_model_reads_are_cut(encoder: Path, judge: Path) -> None:
    long = "word " * 100
    assert np.isfinite(EmbeddingMeaning(str(encoder)).embed([long])).all()
    EntailmentMeaning(str(judge))([(long, long + "!", long)])


def test_they_cluster(encoder: Path) -> None:
    answers = pl.DataFrame({"item_id": ["q"] * 4, "answer": ["Paris", "Rome", "Paris", None]})
    assert cluster_answers(answers, EmbeddingMeaning(str(encoder), threshold=-1.0)).to_list() == ["0", "0", "0", None]
    assert cluster_answers(answers, EmbeddingMeaning(str(encoder), threshold=1.0)).to_list() == ["0", "1", "0", None]


def test_models_are_frozen(encoder: Path) -> None:
    model = EmbeddingMeaning(str(encoder))._model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_an_encoder_without_a_pooler_is_taken(encoder: Path, tmp_path: Path) -> None:
    import transformers

    transformers.BertModel.from_pretrained(encoder, add_pooling_layer=False).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path)
    vectors = EmbeddingMeaning(str(tmp_path)).embed(["Paris"])
    np.testing.assert_allclose(vectors, EmbeddingMeaning(str(encoder)).embed(["Paris"]), atol=1e-6)


def test_an_encoder_is_no_judge(encoder: Path) -> None:
    with pytest.raises(InputError, match=r"lacks weights \(classifier\.bias, classifier\.weight\)"):
        EntailmentMeaning(str(encoder))


def test_a_judge_needs_a_label_for_entailment(save_bert: Callable[..., Path]) -> None:
    unnamed = save_bert("BertForSequenceClassification", num_labels=3)
    with pytest.raises(InputError, match=r"no label 'entailment' \(its labels: LABEL_0, LABEL_1, LABEL_2\)") as caught:
        EntailmentMeaning(str(unnamed))
    assert "\n" not in str(caught.value)


def test_not_entailment_is_not_entailment(save_bert: Callable[..., Path]) -> None:
    two = save_bert("BertForSequenceClassification", id2label={0: "not_entailment", 1: "entailment"})
    assert EntailmentMeaning(str(two))._entailment == 1


@pytest.mark.parametrize("threshold", [-1.1, 1.5, float("nan")])
def test_a_threshold_is_a_cosine(encoder: Path, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"must lie in \[-1, 1\], got"):
        EmbeddingMeaning(str(encoder), threshold=threshold)


def test_folders_without_a_model_are_told_in_one_line(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"used whole; write '.*', without @layers"):
        EmbeddingMeaning(f"{encoder}@layers=1")
    with pytest.raises(InputError, match=r"no config\.json"):
        EmbeddingMeaning(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        EmbeddingMeaning(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("option", "kind"), [("--embedder", "encoder"), ("--entailment", "judge")])
def test_score_asks_the_model_which_answers_mean_the_same(option, kind, request, tmp_path):
    from typer.testing import CliRunner

    from labelrel.cli import app
    from labelrel.scoring import score

    folder = request.getfixturevalue(kind)
    answers = pl.DataFrame({"item_id": ["q"] * len(TEXTS), "answer": TEXTS})
    answers.write_parquet(tmp_path / "a.parquet")
    arguments = [
        "score",
        tmp_path / "a.parquet",
        "-m",
        "semantic_entropy",
        option,
        folder,
        "-o",
        tmp_path / "s.parquet",
    ]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.stderr or result.exception
    same = EmbeddingMeaning(str(folder), threshold=0.85) if kind == "encoder" else EntailmentMeaning(str(folder))
    clustered = answers.with_columns(meaning=cluster_answers(answers, same))
    assert pl.read_parquet(tmp_path / "s.parquet").equals(score(clustered, ["semantic_entropy"]))
    assert 1 < clustered["meaning"].n_unique() <= len(TEXTS)
