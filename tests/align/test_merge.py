"""Adapters that other tools load, and merging: the same logits from a plain model, whole or not at all."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from labelrel import pipeline
from labelrel.align.card import write_card
from labelrel.align.lora import adapter_parameters, add_adapter, save_adapter
from labelrel.align.merge import fit_adapter
from labelrel.config import Lora
from labelrel.errors import ConfigError, InputError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning"  # peft reads it; transformers will drop it
)
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model.eval()(input_ids=IDS).logits
    return result


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from transformers.utils import logging

    level = logging.get_verbosity()
    yield
    logging.set_verbosity(level)
    logging.enable_progress_bar()


@pytest.fixture
def base(make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A model folder."""
    folder = tmp_path / "base"
    make_model().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


Tuned = Callable[..., tuple[Path, torch.Tensor]]


@pytest.fixture
def tuned(make_model: Callable[..., Any], tmp_path: Path) -> Tuned:
    """Write a run folder with an adapter that changes the logits; return it and the logits."""

    def make(named: str = "tiny", top_layers: int | None = 2, **lora: Any) -> tuple[Path, torch.Tensor]:
        model = add_adapter(make_model(), Lora(rank=4, alpha=8.0, **lora), top_layers=top_layers, seed=5)
        generator = torch.Generator().manual_seed(3)
        for parameter in adapter_parameters(model):
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.2
        run = tmp_path / "run"
        (run / "adapter").mkdir(parents=True)
        save_adapter(model, run / "adapter", base=named)
        write_card(run / "adapter", {"model": named})
        record = {"method": "filter", "role": "method", "seed": 5, "model": named}
        (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return run, logits(model)

    return make


def spoil(run: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the adapter's tensors in place."""
    file = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


# --- other tools ---------------------------------------------------------------------------------


@pytest.mark.parametrize("top_layers", [2, None])
def test_plain_peft_loads_an_adapter(make_model: Callable[..., Any], tuned: Tuned, top_layers: int | None) -> None:
    run, expected = tuned(top_layers=top_layers)
    assert not torch.equal(logits(make_model()), expected)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(make_model(), run / "adapter")), expected)


@pytest.mark.parametrize("top_layers", [2, None])
def test_transformers_alone_loads_an_adapter(
    make_model: Callable[..., Any], tuned: Tuned, top_layers: int | None
) -> None:
    run, expected = tuned(top_layers=top_layers)
    model = make_model()
    model.load_adapter(str(run / "adapter"))
    torch.testing.assert_close(logits(model), expected)


# --- merge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [{}, {"variant": "dora"}, {"variant": "rslora"}])
def test_merged_model_is_plain_and_says_the_same(
    base: Path, tuned: Tuned, tmp_path: Path, tiny_tokenizer: Any, lora: dict[str, Any]
) -> None:
    run, expected = tuned(named=str(base), **lora)
    result = pipeline.merge(run, out=tmp_path / "deep" / "merged", quiet=True)
    assert (result["model"], result["out"]) == (str(base), str(tmp_path / "deep" / "merged"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "deep" / "merged")
    assert not any("lora" in name for name in plain.state_dict())
    torch.testing.assert_close(logits(plain), expected, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "deep" / "merged")
    assert tokenizer("Colour of fig:")["input_ids"] == tiny_tokenizer("Colour of fig:")["input_ids"]


def test_merged_folder_has_a_card_and_no_folder_of_this_machine(base: Path, tuned: Tuned, tmp_path: Path) -> None:
    run, _ = tuned(named=str(base))
    pipeline.merge(run, out=tmp_path / "merged", quiet=True)
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in card
    assert "- method: `filter`" in card
    (code,) = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('folder = "."', f"folder = {str(tmp_path / 'merged')!r}"), names)
    assert names["model"].config.num_hidden_layers == 4
    for file in (tmp_path / "merged").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
        assert file.stat().st_mode & 0o777 == 0o644, file.name


def test_merging_twice_gives_the_same_bytes(base: Path, tuned: Tuned, tmp_path: Path) -> None:
    run, _ = tuned(named=str(base))
    for name in ("one", "two"):
        pipeline.merge(run, out=tmp_path / name, quiet=True)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_first_layers_of_a_base_are_merged_as_they_are_used(
    base: Path, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    import copy

    cut = make_model()
    cut.model.layers = torch.nn.ModuleList(list(cut.model.layers)[:2])
    cut.config = copy.deepcopy(cut.config)
    cut.config.num_hidden_layers = 2
    model = add_adapter(cut, Lora(rank=2, alpha=4.0), top_layers=None, seed=0)
    for parameter in adapter_parameters(model):
        parameter.data += 0.1
    (tmp_path / "adapter").mkdir()
    save_adapter(model, tmp_path / "adapter", base=f"{base}@layers=2")
    pipeline.merge(tmp_path / "adapter", out=tmp_path / "merged", quiet=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert plain.config.num_hidden_layers == 2
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=0)


def test_a_folder_that_is_there_is_refused_and_force_replaces_a_model_only(
    base: Path, tuned: Tuned, tmp_path: Path
) -> None:
    run, expected = tuned(named=str(base))
    out = tmp_path / "merged"
    out.mkdir()
    (out / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"is there already; .* --force"):
        pipeline.merge(run, out=out, quiet=True)
    assert [f.name for f in out.iterdir()] == ["config.json"]
    pipeline.merge(run, out=out, force=True, quiet=True)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out)), expected, atol=1e-5, rtol=0)
    for folder, match in ((run, "holds no model, so --force"), (base, "holds .*base, which is needed")):
        with pytest.raises(InputError, match=match):
            pipeline.merge(run, out=folder, force=True, quiet=True)
    assert (run / "run.json").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; name a folder"):
        pipeline.merge(run, out=tmp_path / "file", force=True, quiet=True)


def test_a_full_disk_leaves_nothing_half_written(base: Path, tuned: Tuned, tmp_path: Path) -> None:
    run, _ = tuned(named=str(base))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # less than the weights: writing fails as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written to .*merged: .*nothing is left there"):
            pipeline.merge(run, out=tmp_path / "out" / "merged", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


# --- adapters that do not fit --------------------------------------------------------------------


def test_base_is_the_one_the_adapter_names_or_another_with_a_warning(
    base: Path, tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = tuned(named="elsewhere")
    pipeline.merge(run, model=str(base), out=tmp_path / "merged")
    assert f"merge: the adapter was trained on elsewhere, not on {base}" in capsys.readouterr().err
    config = run / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": None}), encoding="utf-8")
    with pytest.raises(ConfigError, match="names no base; name the model it was trained on with --model"):
        pipeline.merge(run, out=tmp_path / "other", quiet=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_size": 64}, "does not fit the model: .*size mismatch"),
        ({"num_hidden_layers": 3}, r"has no place for .*layers\.3.* \(14 such tensors\)"),
        ({"num_hidden_layers": 2}, "does not fit the model|has no place for"),
    ],
)
def test_adapter_of_another_model_is_refused(
    make_model: Callable[..., Any], tuned: Tuned, changes: dict[str, int], match: str
) -> None:
    run, _ = tuned()
    with pytest.raises(InputError, match=match):
        fit_adapter(make_model(**changes), run / "adapter")


def test_adapter_that_lacks_layers_is_refused(make_model: Callable[..., Any], tuned: Tuned) -> None:
    run, _ = tuned(top_layers=None)
    with pytest.raises(InputError, match=r"needs .*layers\.4.*, which the adapter lacks"):
        fit_adapter(make_model(num_hidden_layers=5), run / "adapter")


@pytest.mark.parametrize("embeddings", [False, True])
def test_adapters_made_by_plain_peft_fit(make_model: Callable[..., Any], tmp_path: Path, embeddings: bool) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, modules_to_save=["lm_head"])
    theirs = get_peft_model(make_model(), config)
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=embeddings)
    torch.testing.assert_close(logits(fit_adapter(make_model(), tmp_path / "theirs")), logits(theirs))


def test_values_that_are_not_finite_are_not_merged(base: Path, tuned: Tuned, tmp_path: Path) -> None:
    run, _ = tuned(named=str(base))
    spoil(run, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    with pytest.raises(InputError, match="cannot be merged: NaNs detected"):
        pipeline.merge(run, out=tmp_path / "merged", quiet=True)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("break_", "match"),
    [
        (
            lambda run: (run / "adapter" / "adapter_model.safetensors").unlink(),
            "holds no adapter .*safetensors is missing",
        ),
        (lambda run: (run / "adapter" / "adapter_model.safetensors").write_bytes(b"no"), "is damaged or does not fit"),
        (lambda run: (run / "adapter" / "adapter_config.json").write_text("{"), "is not JSON"),
    ],
)
def test_damaged_adapter_is_one_line(base: Path, tuned: Tuned, tmp_path: Path, break_: Any, match: str) -> None:
    run, _ = tuned(named=str(base))
    break_(run)
    with pytest.raises(InputError, match=match):
        pipeline.merge(run, out=tmp_path / "merged", quiet=True)


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder: .*nowhere"):
        pipeline.merge(tmp_path / "nowhere", out=tmp_path / "merged", quiet=True)
