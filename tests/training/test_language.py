"""The language model: causal, told by its condition, sampled as its options say, and trained, measured and sampled by command.

What it shares with the other families of one network is in test_single_network.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import condgen
from config.tiny_data import write_songci
from recipes import fit, make_model

import condgen as package
from condgen.conditions import Category, ClassLabel, Condition, Inpaint, Keywords, NoCondition
from condgen.errors import CondgenError
from condgen.generators.language import LanguageGenerator
from condgen.losses.next_token import NextToken
from condgen.spaces import Images
from condgen.tokens import STOP, UNKNOWN, Tokens

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SPACE = Tokens("abcdef,.", 12)
KEYWORDS = Keywords([Category("kind", ("one", "two"))], ["a", "bc", "def"], places=4, asked=2)
TINY = ("model.generator.network.width=16", "model.generator.network.layers=2", "model.generator.network.heads=2")


def small(*overrides: str, condition: Condition = KEYWORDS, space: Any = SPACE) -> Any:
    """A small model whose condition matters from the start."""
    model = make_model("model=language", *TINY, *overrides, condition=condition, space=space)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=stream)
    return model


def some(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw texts and conditions."""
    stream = torch.Generator().manual_seed(1)
    x = torch.randint(2, SPACE.size, (count, SPACE.length), generator=stream)
    for row in range(count):
        x[row, 3 + row % 9 :] = STOP
    return x, KEYWORDS.draw(count, stream)


@pytest.mark.parametrize("pointer", ["true", "false"])
@pytest.mark.parametrize("condition", [KEYWORDS, ClassLabel("ab"), NoCondition()], ids=["keywords", "class", "none"])
@torch.inference_mode()
def test_one_after_the_other_says_the_same_as_all_at_once(condition: Condition, pointer: str) -> None:
    network = small(f"model.generator.network.pointer={pointer}", condition=condition).generator.network.eval()
    x = some(5)[0]
    asked = condition.draw(5, torch.Generator().manual_seed(0))
    dropped = torch.tensor([False, True, False, False, True])
    pointed = network.pointed(x, asked, dropped)
    stream = network(x, asked, dropped).flatten(0, 1)
    at_once = network.logits(stream, None if pointed is None else pointed.flatten(0, 1)).unflatten(0, x.shape)
    memory = network.start(asked, dropped)
    before = torch.cat([torch.full((5, 1), STOP), x[:, :-1]], dim=1)
    steps = torch.stack([network.next(token, memory) for token in before.unbind(1)], dim=1)
    assert torch.allclose(at_once, steps, atol=1e-4)


def test_the_pointer_shows_what_is_missing_of_each_word() -> None:
    """Of def and bc after each character of a text, until they are written."""
    network = small().generator.network
    x = SPACE.tokens(["adebcdefa"])
    asked = KEYWORDS.encode("keywords=def bc")
    (shown,) = network.pointed(x, asked, torch.tensor([False]))
    letters = ["", "", *SPACE.vocabulary]
    steps = [{letters[token] for token in place} - {""} for place in shown[:10].tolist()]
    assert steps == [{"d", "b"}, {"d", "b"}, {"e", "b"}, {"f", "b"}, {"d", "c"}, {"d"}, {"e"}, {"f"}, set(), set()]
    assert (network.pointed(x, asked, torch.tensor([True])) == STOP).all()


@torch.inference_mode()
def test_nothing_sees_what_comes_after_it_and_dropped_rows_hear_nothing() -> None:
    network = small().generator.network.eval()
    x, asked = some(4)
    kept = torch.zeros(4, dtype=torch.bool)
    changed = x.clone()
    changed[:, 6:] = 3
    assert torch.allclose(network(x, asked, kept)[:, :7], network(changed, asked, kept)[:, :7], atol=1e-5)
    assert torch.allclose(network(x, asked, ~kept), network(x, KEYWORDS.encode("kind=two,keywords=bc").expand(4, -1), ~kept))
    for other in ("kind=one", "keywords=bc"):
        assert not torch.allclose(
            network(x, KEYWORDS.encode("").expand(4, -1), kept), network(x, KEYWORDS.encode(other).expand(4, -1), kept)
        )


def test_the_probabilities_of_all_texts_sum_to_one() -> None:
    space = Tokens("ab", 3)
    model = small(condition=NoCondition(), space=space).generator.eval()
    tokens = torch.cartesian_prod(*[torch.arange(space.size)] * 3)
    ended = tokens == STOP
    proper = tokens[(ended | ~ended.cumsum(1).bool()).all(1)]  # behind a stop there are only stops
    none = torch.zeros(len(proper), dtype=torch.bool)
    with torch.inference_mode():
        nats = model.nats(proper, torch.empty(len(proper), 0), NextToken().eval(), none).sum(1)
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_samples_have_the_probabilities_that_the_model_says_and_options_narrow_them() -> None:
    model = small().generator
    logits = torch.tensor([2.0, 9.0, 1.0, 0.0, -1.0]).repeat(20000, 1)
    u = (torch.arange(20000) + 0.5) / 20000

    def shares(**options: Any) -> list[float]:
        model.set_sampling(**options)
        return (torch.bincount(model.drawn(logits.clone(), u), minlength=5) / 20000).tolist()

    known = torch.tensor([2.0, -torch.inf, 1.0, 0.0, -1.0])
    assert shares() == pytest.approx(known.softmax(0).tolist(), abs=1e-3) and shares()[UNKNOWN] == 0
    assert shares(temperature=2.0) == pytest.approx((known / 2).softmax(0).tolist(), abs=1e-3)
    two = [0.7311, 0, 0.2689, 0, 0]
    assert shares(top_k=2) == pytest.approx(two, abs=1e-3)
    assert shares(top_p=0.7) == pytest.approx(two, abs=1e-3)  # the likeliest alone has 0.644
    assert shares(top_p=0.6) == shares(top_k=1) == [1, 0, 0, 0, 0]


def test_guidance_is_the_difference_that_the_condition_makes() -> None:
    model = small().generator
    asked = KEYWORDS.encode("kind=one,keywords=def")
    plain, guided = (model.set_sampling(guidance=w) or model.sample(asked, 40, seed=3) for w in (1.0, 3.0))
    assert not torch.equal(plain, guided) and guided.shape == (40, 12) and guided.dtype == torch.int64
    assert torch.equal(guided, model.sample(asked, 40, seed=3)) and (guided != UNKNOWN).all()
    ended = (guided == STOP).cumsum(1).bool()
    assert (guided[ended] == STOP).all()
    for option, said in (({"top_p": 1.5}, "top_p"), ({"top_k": 0}, "top_k"), ({"truncation": 1.0}, "truncation")):
        with pytest.raises(CondgenError, match=said):
            model.set_sampling(**option)  # type: ignore[arg-type]
    with pytest.raises(CondgenError, match="guidance"):
        small("model.generator.condition_dropout=0").generator.set_sampling(guidance=2.0)


def test_it_learns_its_condition() -> None:
    """Texts of one kind are all a, of the other all b: told the kind a text costs next to nothing, untold a bit."""
    space = Tokens("ab", 4)
    kinds = ClassLabel("ab")
    label = torch.arange(64) % 2
    x = (label + 2)[:, None].repeat(1, 4)
    options = ("model.options.ema=0", "model.options.warmup=0", "model.options.decay=null", "model.optimizer.lr=1e-2")
    model = make_model("model=language", *TINY, *options, condition=kinds, space=space)
    fit(model, [(x, label)] * 60, [(x, label)])
    assert model.validation["val/loss"] < 0.1 and model.validation["val/untold"] == pytest.approx(0.25, abs=0.1)
    assert torch.equal(model.generator.sample(torch.tensor([0, 1])), x[:2])


def test_what_it_cannot_make_or_see_is_refused() -> None:
    with pytest.raises(CondgenError, match="language model makes none"):
        small(space=Images((1, 28, 28)))
    for other in ("cvae_mlp", "flow_points"):
        with pytest.raises(CondgenError, match="set model=language"):
            make_model(f"model={other}", "model.options.expects=null", condition=NoCondition(), space=SPACE)
    with pytest.raises(CondgenError, match="image"):
        small(condition=Inpaint((1, 8, 8)))
    with pytest.raises(CondgenError, match="must divide"):
        small("model.generator.network.heads=3")


def test_from_the_table_to_figures(tmp_path: Path) -> None:
    """Trained, stopped and gone on with to the same bits, asked, and measured by the commands."""
    file = write_songci(tmp_path / "songci.jsonl.gz")
    network = [f"{key}" for key in TINY]
    common = ["data.batch_size=8", "trainer.precision=32-true", "logger=none", *network]
    train = ["train", "data=songci", "model=language", f"data.source.file={file}", "data.split=[0.5,0.25,0.25]", *common]
    for name, epochs in (("whole", 2), ("cut", 1)):
        result = condgen(
            *train, f"trainer.max_epochs={epochs}", "model.options.decay=null", f"hydra.run.dir={name}", cwd=tmp_path
        )
        assert result.code == 0, result
    assert condgen("resume", "cut", "trainer.max_epochs=2", cwd=tmp_path).code == 0
    whole, cut = (package.load(tmp_path / name) for name in ("whole", "cut"))
    assert isinstance(whole, LanguageGenerator)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    assert list((tmp_path / "whole" / "samples").glob("*.png"))
    assert "none of them" in condgen("sample", "whole", "--out", "x.png", "--condition", "keywords=雪", cwd=tmp_path).sentence()
    asked = ("--condition", "tune=乙,keywords=春 月", "--count", 2, "--top-p", 0.9, "--out")
    for name in ("x.npz", "x.txt", "x"):
        assert condgen("sample", "whole", *asked, name, cwd=tmp_path).code == 0
    single = [file.read_text() for file in sorted((tmp_path / "x").glob("*.txt"))]
    assert len(single) == 2 and (tmp_path / "x.txt").read_text() == "\n".join(single)
    measured = condgen("evaluate", "whole", "samples=100", "sampling.top_k=5", cwd=tmp_path)
    assert measured.code == 0, measured
    (path,) = (tmp_path / "whole" / "evaluation").glob("*/metrics.json")
    (record,) = json.loads(path.read_text())["quality"]
    assert set(record["figures"]) == {*record["floors"], "bits_per_char", "bits_per_char_untold"}
    assert record["floors"]["form_obeyed"] == 1 and record["protocol"]["top_k"] == 5
    assert len(path.with_name("samples.txt").read_text().split("# ")) == 101
    assert "of texts" in condgen("evaluate", "whole", "suite=[fid]", cwd=tmp_path).sentence()
