"""Loading a model folder: what comes back is frozen, in float32, cut where asked, and named by its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.errors import ConfigError, InputError
from labelrel.models.decoder import Decoder
from labelrel.models.load import load_model, pick_device
from labelrel.models.packing import Prompt, pack
from labelrel.models.reference import Reference

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any], tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def spare(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def reference(folder: Path, layers: int | None = None) -> Reference:
    return Reference("folder", str(folder), layers)


def test_loaded_model_gives_the_same_logits(saved: Path, tiny_model: Any, tiny_tokenizer: Any) -> None:
    loaded = load_model(reference(saved))
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(loaded.model(ids).logits, tiny_model(ids).logits)
    assert loaded.tokenizer("colour")["input_ids"] == tiny_tokenizer("colour")["input_ids"]
    assert loaded.num_layers == 4
    assert loaded.reference == str(saved)


def test_loaded_model_is_frozen_in_evaluation_mode_and_float32(saved: Path) -> None:
    model = load_model(reference(saved)).model
    assert not model.training
    assert {p.requires_grad for p in model.parameters()} == {False}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_half_precision_weights_are_loaded_as_float32_on_the_cpu(
    make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    make_model().to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert {p.dtype for p in load_model(reference(tmp_path)).model.parameters()} == {torch.float32}


def test_a_family_without_fused_attention_is_loaded_too(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """GPT-J has eager attention only; its options are scored as by the plain model."""
    from transformers import AutoModelForCausalLM, GPTJConfig

    torch.manual_seed(0)
    shape = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
    plain = AutoModelForCausalLM.from_config(GPTJConfig(**shape, initializer_range=0.2)).eval()
    plain.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(reference(tmp_path))
    prompt = Prompt((1, 2, 3), ((4, 5), (6,)))
    found = Decoder(loaded.model).token_logprobs([prompt], pack([prompt]))
    expected = []
    for branch in prompt.branches:
        logits = plain(input_ids=torch.tensor([[*prompt.prefix, *branch]])).logits[0].log_softmax(-1)
        expected += [float(logits[2 + n, token].detach()) for n, token in enumerate(branch)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_cut_model_is_the_first_layers_with_norm_and_head(saved: Path, tiny_model: Any) -> None:
    loaded = load_model(reference(saved, layers=2))
    assert loaded.num_layers == 2
    tiny_model.model.layers = tiny_model.model.layers[:2]
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = tiny_model(ids, use_cache=False).logits
    assert torch.equal(loaded.model(ids, use_cache=False).logits, expected)
    assert loaded.reference == f"{saved}@layers=2"


def test_cut_model_keeps_the_kinds_of_its_layers(
    make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    make_model("gemma3", layer_types=kinds).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(reference(tmp_path, layers=3))
    assert list(loaded.model.config.layer_types) == kinds[:3]


def test_more_layers_than_the_model_has_are_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"asks for 5 layers; the model has 4\."):
        load_model(reference(saved, layers=5))


def test_fingerprint_is_of_the_weights_not_of_the_place(saved: Path, spare: Path) -> None:
    assert load_model(reference(saved)).fingerprint == load_model(reference(spare)).fingerprint


def test_fingerprint_tells_other_weights_and_other_cuts_apart(
    saved: Path, make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    make_model(initializer_range=0.1).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    seen = {load_model(r).fingerprint for r in (reference(saved), reference(saved, 2), reference(tmp_path))}
    assert len(seen) == 3


def test_fingerprint_is_taken_from_the_record_of_a_fetched_model(spare: Path) -> None:
    before = load_model(reference(spare)).fingerprint
    (spare / "labelrel.json").write_text(json.dumps({"weights_sha256": {"model.safetensors": "0" * 64}}))
    with_record = load_model(reference(spare)).fingerprint
    (spare / "labelrel.json").write_text(json.dumps({"weights_sha256": {"model.safetensors": "1" * 64}}))
    assert len({before, with_record, load_model(reference(spare)).fingerprint}) == 3


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such_model"}))


def no_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize("spoil", [break_config, unknown_kind, no_language_model, no_tokenizer])
def test_folder_that_holds_no_loadable_model_is_one_line(spare: Path, spoil: Callable[[Path], None]) -> None:
    spoil(spare)
    with pytest.raises(InputError, match="cannot be loaded: ") as caught:
        load_model(reference(spare))
    assert str(spare) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        load_model(reference(tmp_path / "nowhere"))


def test_code_in_a_model_folder_is_never_run(spare: Path) -> None:
    config = json.loads((spare / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (spare / "config.json").write_text(json.dumps(config))
    (spare / "code.py").write_text(f"open({str(spare / 'ran')!r}, 'w')\nraise SystemExit\n")
    with pytest.raises(InputError, match="cannot be loaded: "):
        load_model(reference(spare))
    assert not (spare / "ran").exists()


def test_pick_device_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [pick_device(name).type for name in ("cpu", "cuda", "auto")] == ["cpu", "cuda", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [pick_device(name).type for name in ("cpu", "auto")] == ["cpu", "cpu"]


def test_cuda_where_there_is_none_says_what_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"base\.device is 'cuda' .* use 'cpu' or 'auto'"):
        pick_device("cuda")
