"""The second heads of the discriminator: each against its published formula, in float64 and sample by sample."""

import math

import pytest
import torch
from recipes import batches, fit, make_model, weights

from condgen.conditions import Attributes, Category, ClassLabel, Codes, NoCondition, Number
from condgen.errors import CondgenError
from condgen.losses.auxiliary import ACGAN, D2DCE, InfoGAN, Matching

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CLASSES = ClassLabel(["a", "b", "c"])
LABELS = torch.tensor([0, 1, 1, 2, 0])


def features(width: int = 6) -> torch.Tensor:
    return torch.randn(5, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_acgan_is_the_mean_negative_log_probability_of_the_class():
    head = ACGAN(6, CLASSES).double()
    h = features()
    scores = (h @ head.classify.weight.T + head.classify.bias).tolist()
    expected = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(scores, LABELS.tolist(), strict=True)]
    assert head(h, LABELS).item() == pytest.approx(sum(expected) / 5, rel=1e-12)


def test_acgan_of_attributes_sums_cross_entropies_and_errors():
    attributes = Attributes([Category("kind", ("a", "b", "c")), Number("size", 0, 2), Category("sex", ("f", "m"))])
    head = ACGAN(6, attributes, numbers=4.0)
    h, wanted = features().float(), attributes.encode("kind=0-1,size=0.5,sex=0-1|1")[:5]
    rows = (h @ head.classify.weight.T + head.classify.bias).tolist()
    expected = 0.0
    for row, right in zip(rows, wanted.tolist(), strict=True):
        for scores, one_hot in ((row[:3], right[:3]), (row[4:], right[4:])):
            expected += math.log(sum(map(math.exp, scores))) - scores[one_hot.index(1)]
        off = abs(row[3] - right[3])
        expected += 4 * (off**2 / 0.2 if off < 0.1 else off - 0.05)
    assert head(h, wanted).item() == pytest.approx(expected / 5, rel=1e-5)
    with pytest.raises(CondgenError, match="condition=class"):  # real samples have no codes to learn from
        ACGAN(6, Codes([3], 1))


@pytest.mark.parametrize("temperature, margin", [(0.5, 0.98), (0.25, 0.6)])
def test_d2dce_is_equation_7(temperature, margin):
    """Kang et al. 2021, written out in Python's own floats."""
    torch.manual_seed(0)
    head = D2DCE(6, CLASSES, width=4, temperature=temperature, margin=margin).double()
    h = features()

    def unit(vector: list[float]) -> list[float]:
        return [x / math.hypot(*vector) for x in vector]

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    f = [unit(row) for row in (h @ head.embed.weight.T + head.embed.bias).tolist()]
    proxies = [unit(row) for row in head.proxies.weight.tolist()]
    losses = []
    for i, label in enumerate(LABELS.tolist()):
        positive = math.exp(min(dot(f[i], proxies[label]) - margin, 0) / temperature)
        others = [j for j, other in enumerate(LABELS.tolist()) if other != label]
        negative = sum(math.exp(max(dot(f[i], f[j]) - (1 - margin), 0) / temperature) for j in others)
        losses.append(-math.log(positive / (positive + negative)))
    assert head(h, LABELS).item() == pytest.approx(sum(losses) / 5, rel=1e-6)  # it normalizes in float32


def test_d2dce_of_one_class_has_no_negatives():
    head = D2DCE(6, CLASSES, width=4)
    assert head(features().float(), torch.zeros(5, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)


def test_infogan_reads_categories_and_numbers():
    codes = Codes(categories=[3, 2], continuous=2)
    head = InfoGAN(6, codes, continuous=0.5).double()
    asked = codes.draw(5, torch.Generator().manual_seed(1)).double()
    h = features()
    output = head.read(h)
    expected = 0.5 * 0.5 * ((output[:, 5:] - asked[:, 5:]) ** 2).sum(1)
    for part in (slice(0, 3), slice(3, 5)):
        probability = (output[:, part].softmax(1) * asked[:, part]).sum(1)
        expected = expected - probability.log()
    torch.testing.assert_close(head(h, asked), expected.mean())


def test_which_samples_each_method_learns_from():
    h, fake = features().float(), features().float() + 1
    acgan, lean = ACGAN(6, CLASSES, weight=2.0), ACGAN(6, CLASSES, of_fake=False)
    losses, charge = acgan.discriminator_losses(h, LABELS, fake, LABELS.flip(0))
    assert charge.item() == pytest.approx(2 * (acgan(h, LABELS) + acgan(fake, LABELS.flip(0))).item(), rel=1e-6)
    assert losses.keys() == {"auxiliary_real", "auxiliary_fake"}
    assert lean.discriminator_losses(h, LABELS, fake, LABELS)[0].keys() == {"auxiliary_real"}
    assert D2DCE(6, CLASSES).discriminator_losses(h, LABELS, fake, LABELS)[0].keys() == {"auxiliary_real"}
    codes = Codes()
    asked = codes.draw(5, torch.Generator())
    assert InfoGAN(6, codes).discriminator_losses(h, asked, fake, asked)[0].keys() == {"auxiliary_fake"}


@pytest.mark.parametrize("name", ["acgan", "d2dce"])
def test_the_generator_is_pulled_towards_its_class(name):
    """With D's adversarial loss silenced, G's updates lower the head's loss of what it generates."""
    losses = []
    for updates in (1, 30):
        model = make_model("model=cgan_mlp", f"auxiliary={name}", "loss.scale=0", "model.generator_optimizer.lr=1e-3")
        fit(model, batches(1) * updates, log_every_n_steps=1)
        losses.append(model.latest["auxiliary_g"])
    assert losses[1] < 0.9 * losses[0]


def test_the_head_moves_with_the_discriminator_only():
    model = make_model("model=cgan_mlp", "auxiliary=acgan", "model.generator_optimizer.lr=0.5")
    before = weights(model.auxiliary)
    trainer = fit(model, batches(1))
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(model.auxiliary), strict=True))
    judged = {id(p) for p in trainer.optimizers[1].param_groups[0]["params"]}
    assert judged == {id(p) for part in (model.discriminator, model.auxiliary) for p in part.parameters()}


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ACGAN(6, NoCondition()), "condition=class"),
        (lambda: D2DCE(6, Codes()), "condition=class"),
        (lambda: Matching(6, NoCondition()), "choose another condition"),
        (lambda: InfoGAN(6, CLASSES), "condition=codes"),
        (lambda: make_model("model=cgan_conv", "auxiliary=infogan", condition=Codes()), "projection=false"),
        (lambda: make_model("model=cgan_mlp", condition=Codes()), "embedding=null"),
    ],
)
def test_what_cannot_work_is_refused(make, words):
    with pytest.raises(CondgenError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_matching_is_infonce_over_the_batch_and_equal_conditions_are_no_negatives():
    torch.manual_seed(0)
    head = Matching(6, CLASSES, width=4, temperature=0.5)
    h, labels = torch.randn(3, 6), torch.tensor([0, 1, 0])
    samples = torch.nn.functional.normalize(head.embed(h), dim=1)
    asked = torch.nn.functional.normalize(head.read(torch.eye(CLASSES.width)[labels]), dim=1)
    score = lambda i, j: (2 * samples[i] @ asked[j]).exp()  # noqa: E731
    others = {0: [0, 1], 1: [0, 1, 2], 2: [1, 2]}  # 0 and 2 are asked for the same
    terms = [
        -(score(i, i) / sum(score(*pair) for pair in pairs)).log()
        for i, known in others.items()
        for pairs in ([(i, j) for j in known], [(j, i) for j in known])
    ]
    torch.testing.assert_close(head(h, labels), torch.stack(terms).mean())
