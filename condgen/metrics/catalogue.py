"""The metrics there are: how each is called, shown and read. Imports nothing heavy, for commands that only print figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from condgen.errors import CondgenError


@dataclass(frozen=True)
class Metric:
    """How a figure is shown and read.

    Attributes:
        title: for tables.
        better: "higher", "lower", or "one" for figures that are 1 for real images.
        meaning: one sentence.
        format: of the number, as for `format`.
        bias: what its expectation depends on beside the distributions, see `condgen.metrics.floors`: the number of samples, or
            of both sides, in whose inverse it is linear; the logarithm of that of samples; the ratio of both; or nothing.
    """

    title: str
    better: Literal["higher", "lower", "one"]
    meaning: str
    format: str = ".3f"
    bias: Literal["none", "samples", "samples and real", "logarithm", "ratio"] = "none"


BOTH: Final = "samples and real"
METRICS = {
    "fid": Metric("FID", "lower", "Fréchet distance of the features of generated and real images.", ".2f", BOTH),
    "intra_fid": Metric("intra-class FID", "lower", "FID within a class, mean over the classes.", ".2f", BOTH),
    "intra_fid_worst": Metric("worst intra-class FID", "lower", "FID within the class where it is highest.", ".2f", BOTH),
    "is": Metric("IS", "higher", "Inception score: how sure and how varied the extractor's classes are.", ".2f", "samples"),
    "kid": Metric("KID", "lower", "Kernel distance of the features; unbiased, so 0 for equal distributions.", ".5f"),
    "precision": Metric("precision", "higher", "Share of generated images that lie among real ones."),
    "recall": Metric("recall", "higher", "Share of real images that lie among generated ones.", bias="logarithm"),
    "density": Metric("density", "higher", "How deep among real images generated ones lie; 1 for real images."),
    "coverage": Metric("coverage", "higher", "Share of real images that have a generated one near by.", bias="ratio"),
    "label_accuracy": Metric("label accuracy", "higher", "Share of images that show the class that was asked for."),
    "diversity": Metric("diversity", "one", "Mean distance within a class over that of real images, mean over the classes."),
    "diversity_worst": Metric("least diversity", "higher", "Diversity of the class where it is least."),
    "nearest": Metric("nearest", "one", "Median distance to a training image over that of unseen real images; copies: 0."),
    "authenticity": Metric(
        "authenticity", "higher", "Share of images that are no copies of training images; read it beside that of real images."
    ),
    "sfid": Metric("sFID", "lower", "FID of spatial features of an early layer: where things are, and texture.", ".2f", BOTH),
    "swd": Metric("SWD", "lower", "Sliced Wasserstein distance of patches, in thousandths, mean over the levels.", ".1f"),
    "swd_fine": Metric("SWD, fine", "lower", "The same of what the full resolution adds: edges, grain.", ".1f"),
    "swd_coarse": Metric("SWD, coarse", "lower", "The same of the coarsest level: shapes and colours.", ".1f"),
    "l1": Metric("L1", "lower", "Mean absolute difference, in 0..1, from the real image that the condition is of.", ".4f"),
    "ssim": Metric("SSIM", "higher", "Structural similarity to the real image that the condition is of; 1 for that image."),
    "lsd": Metric("LSD", "lower", "Distance in dB of spectra from the real sound whose mel image the condition is.", ".2f"),
    "lsd_short": Metric(
        "LSD, short window", "lower", "The same with a window of half the mel image's: when things sound.", ".2f"
    ),
    "lsd_long": Metric("LSD, long window", "lower", "The same with twice the window: fine lines.", ".2f"),
    "attribute_accuracy": Metric(
        "attribute accuracy", "higher", "Share of images that show the category asked for, mean over the categories."
    ),
    "attribute_accuracy_unseen": Metric(
        "accuracy of unseen", "higher", "The same of combinations of categories that no training image has."
    ),
    "attribute_error": Metric("attribute error", "lower", "Mean absolute error of numbers, as a share of their range."),
    "attribute_error_unseen": Metric("error of unseen", "lower", "The same of combinations that no training image has."),
    "cas": Metric(
        "CAS",
        "higher",
        "Accuracy on real images of a classifier that was trained on generated ones; floor: on training images.",
    ),
    "elbo": Metric("ELBO", "higher", "Lower bound of the mean log-likelihood of real images in nats.", ".2f"),
    "iwae": Metric("IWAE bound", "higher", "The same from importance samples, which make it tighter.", ".2f"),
    "log_likelihood": Metric("log-likelihood", "higher", "Mean log-likelihood of real images in nats.", ".2f"),
    "bits_per_dim": Metric("bits/dim", "lower", "Negative log-likelihood (or its bound) of real images, bits a dimension."),
    "bits_per_char": Metric("bits/character", "lower", "What a model pays for held-out texts, told their attributes."),
    "bits_per_char_untold": Metric("the same, untold", "lower", "What it pays for them without knowing their attributes."),
    "form_obeyed": Metric(
        "form obeyed", "higher", "Share of texts with just the phrases, in letters, of a training text of the kind asked for."
    ),
    "keywords_present": Metric("keywords present", "higher", "Share of the words asked for that their text holds."),
    "distinct_2": Metric("distinct-2", "higher", "Different pairs of letters over all; falls with the number of texts."),
    "repetition": Metric("repetition", "lower", "Share of a text's pairs of letters that it held before."),
    "copied_8grams": Metric("copied 8-grams", "lower", "Share of eight characters in a row that a training text holds."),
    "hype": Metric("HYPE∞", "higher", "Share of people's answers, real or generated, that are wrong; 0.5 where they guess."),
    "hype_fake": Metric("generated taken for real", "higher", "Share of generated images that people take for real ones."),
    "hype_real": Metric("real taken for generated", "higher", "Share of real images that people take for generated ones."),
    "human_accuracy": Metric("people's accuracy", "higher", "Share of generated images of which people name the class."),
    "human_accuracy_real": Metric("the same on real", "higher", "Share of real images of which people name the class."),
    "preference": Metric("looks more real", "higher", "Share of pairs in which it looks more real to people than the other."),
    "preference_condition": Metric(
        "shows it better", "higher", "Share of pairs in which it shows its condition better, to people, than the other."
    ),
}
"""All metrics by the names under which figures are stored."""
LIKELIHOODS = ("elbo", "iwae", "log_likelihood", "bits_per_dim")
"""Those that a model itself says of real images; what of, and from how many draws, stands in the protocol."""
TEXT = (
    *("bits_per_char", "bits_per_char_untold", "form_obeyed", "keywords_present"),
    *("distinct_2", "repetition", "copied_8grams"),
)
"""Those of texts, see `condgen.metrics.text`."""
JUDGED = ("hype", "hype_fake", "hype_real", "human_accuracy", "human_accuracy_real", "preference", "preference_condition")
"""Those that people's answers are counted into, by ``condgen study``."""
LOOKING_AT_TRAIN = {"nearest", "authenticity"}
"""Those that compare with the training images, of which there are many."""
SWD = ("swd", "swd_fine", "swd_coarse")
"""Those of patches, by no network."""
TEXTURE = ("sfid", *SWD)
"""Those that look at more of an image than its last features, see `condgen.metrics.texture`."""
SPECTRAL = ("lsd", "lsd_short", "lsd_long")
"""Those of waveforms and the real ones whose image they were made of."""
ELSEWHERE = ("cas", "l1", "ssim", *SPECTRAL, *TEXTURE)
"""What is not computed from features: ``cas`` trains a network, the others compare samples or look at texture."""


def chosen(metrics: Sequence[str] | str) -> list[str]:
    """Return the names of ``metrics``: a list, or "all" that are of generated images but the slow ``cas``, asked for by name.

    Those of texts are for ``condgen evaluate`` of a model that makes texts.

    Raises:
        CondgenError: a name is unknown.
    """
    if metrics == "all":
        return [name for name in METRICS if name not in ("cas", *LIKELIHOODS, *TEXT, *JUDGED)]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    require_metrics(names)
    return names


def require_metrics(metrics: Sequence[str]) -> None:
    """Raise CondgenError for a name that no metric has, or one that only people measure."""
    for name in metrics:
        if name not in METRICS:
            raise CondgenError(f"There is no metric {name!r}; there are {', '.join(METRICS)}.")
        if name in JUDGED:
            raise CondgenError(f"{name} is a judgement of people: condgen study asks them.")
