"""Metrics that add up: the figures of one process against plain numpy, and of four processes against those of one."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy.spatial.distance import cdist, pdist

from condgen.metrics import FrechetDistance, InceptionScore, KernelDistance, LabelAccuracy, PrecisionRecall
from condgen.metrics.features import Features
from condgen.metrics.generated import Generated
from condgen.metrics.states import CAPACITY, Reservoir, hashed
from condgen.metrics.suite import Known, Suite, measure
from condgen.randomness import mix

K, D, N = 5, 24, 600
WHOLE = ["fid", "intra_fid", "is", "kid", "precision", "recall", "density", "coverage", "label_accuracy", "diversity"]
WHOLE += ["intra_fid_worst", "diversity_worst", "nearest", "authenticity"]


def features(count, seed, shift=0.0):
    """Features of images of K classes, as ReLU leaves them: correlated, some units dead, some rare."""
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (count,), generator=stream)
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(9)) * torch.logspace(0.5, -2, D)
    centres = torch.randn(K, D, generator=torch.Generator().manual_seed(8))
    x = torch.relu((torch.randn(count, D, generator=stream) + centres[labels]) @ mixing + shift)
    x[:, :3] = 0
    logits = torch.randn(count, K, generator=stream) * 2 + 3 * torch.eye(K)[labels]
    return Features(x, logits, labels, logits.argmax(1))


REAL, TRAIN, GENERATED = features(500, 1), features(900, 2), features(N, 3, 0.05)


def frechet(x, y):
    """Heusel et al. 2017, equation 6, in float64."""
    (m, s), (n, t) = ((side.double().numpy().mean(0), np.cov(side.double().numpy(), rowvar=False)) for side in (x, y))
    values, vectors = np.linalg.eigh(s)
    root = vectors * np.sqrt(values.clip(0))  # s is root @ root.T
    middle = np.sqrt(np.linalg.eigvalsh(root.T @ t @ root).clip(0)).sum()
    return ((m - n) ** 2).sum() + np.trace(s + t) - 2 * middle


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


def by_numpy(real, train, generated):
    """All figures by their published definitions, without torch but for the random subsets."""
    x, y, t = (side.features.double().numpy() for side in (real, generated, train))
    found = {"fid": frechet(real.features, generated.features)}
    intra = [frechet(real.features[real.labels == k], generated.features[generated.labels == k]) for k in range(K)]
    found |= {"intra_fid": np.mean(intra), "intra_fid_worst": max(intra)}
    p = generated.logits.double().softmax(1).numpy()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(mix(0, "inception score"))).numpy()
    parts = np.split(p[order], 10)
    found["is"] = np.mean([np.exp((q * np.log(q / q.mean(0))).sum(1).mean()) for q in parts])
    near, wide = np.sort(cdist(x, x), 1)[:, [3, 5]].T
    between, reach = cdist(y, x), np.sort(cdist(y, y), 1)[:, 3]
    found["precision"], found["recall"] = (between <= near).any(1).mean(), (reach >= between.T).any(1).mean()
    found["density"], found["coverage"] = (between <= wide).sum() / (5 * N), (between.min(0) <= wide).mean()
    stream, scores = torch.Generator().manual_seed(mix(0, "kid")), []
    for _ in range(100):
        a, b = (side[torch.randperm(len(side), generator=stream)[:500].numpy()] for side in (x, y))
        aa, bb, ab = ((u @ v.T / D + 1) ** 3 for u, v in ((a, a), (b, b), (a, b)))
        scores.append(((aa.sum() - aa.trace()) + (bb.sum() - bb.trace())) / (500 * 499) - 2 * ab.mean())
    found["kid"] = np.mean(scores)
    found["label_accuracy"] = (generated.recognized == generated.labels).double().mean().item()
    spread = [[pdist(z[side.labels.numpy() == k]).mean() for side, z in ((generated, y), (real, x))] for k in range(K)]
    found["diversity"] = np.mean([a / b for a, b in spread])
    found["diversity_worst"] = min(a / b for a, b in spread)
    across = cdist(y, t)
    found["nearest"] = lower_median(across.min(1)) / lower_median(cdist(x, t).min(1))
    others = cdist(t, t) + np.diag(np.full(len(t), np.inf))
    found["authenticity"] = (across.min(1) > others.min(1)[across.argmin(1)]).mean()
    return found


def test_all_figures_are_those_of_plain_numpy():
    found = measure(GENERATED, REAL, metrics=WHOLE, train=TRAIN).figures
    expected = by_numpy(REAL, TRAIN, GENERATED)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-6), name  # features are float32, and so are distances


def test_blocks_and_their_order_change_nothing():
    known = Known.of(REAL, TRAIN)
    suite = Suite(WHOLE, GENERATED, known, N)
    for place in reversed(torch.arange(N).split(77)):
        suite.update(GENERATED[place], place)
    whole = measure(GENERATED, REAL, metrics=WHOLE, train=TRAIN, known=known)
    found = suite.compute(REAL, TRAIN)
    assert found.figures == pytest.approx(whole.figures, rel=1e-9) and found.confusion == whole.confusion


# --- the sample of rows ---


def test_a_reservoir_keeps_a_fair_sample_that_depends_on_no_order():
    rows = torch.arange(5000)
    kept = []
    for order in (rows, rows.flip(0)):
        reservoir = Reservoir({"x": torch.empty(0, 1)}, capacity=400, seed=1)
        for part in order.split(90):
            reservoir.update(part[:, None].float(), place=part)
            assert sum(map(len, reservoir.place)) <= 800
        kept.append(reservoir.compute())
    assert torch.equal(kept[0]["place"], kept[1]["place"]) and torch.equal(kept[0]["x"][:, 0].long(), kept[0]["place"])
    assert len(kept[0]["place"]) == 400 and abs(kept[0]["x"].mean() - 2500) < 4 * 5000 / 12**0.5 / 20
    other = Reservoir({"x": torch.empty(0, 1)}, capacity=400, seed=2)
    other.update(rows[:, None].float(), place=rows)
    assert 10 < len(set(other.compute()["place"].tolist()) & set(kept[0]["place"].tolist())) < 70
    assert len(hashed(rows, 3).unique()) == 5000


# --- several processes ---


def share(rank, world):
    return [place for i, place in enumerate(torch.arange(N).split(50)) if i % world == rank]


def counted(found, sent):
    """Let the collectives of this process note how many bytes it puts into them."""
    for name in ("all_reduce", "all_gather"):
        real = getattr(dist, name)

        def wrapped(*arguments, real=real, **options):
            tensor = arguments[0] if isinstance(arguments[0], torch.Tensor) else arguments[1]
            sent.append(tensor.numel() * tensor.element_size())
            return real(*arguments, **options)

        setattr(dist, name, wrapped)


def figures_of_one_process(rank, world, file, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    sent = []
    counted(dist, sent)
    suite = Suite(WHOLE, GENERATED, Known.of(REAL, TRAIN), N)
    for place in share(rank, world):
        suite.update(GENERATED[place], place)
    Generated.sync(SimpleNamespace(suite=suite, parts={}, paired=[]), torch.device("cpu"))
    result = {"suite": suite.compute(REAL, TRAIN).figures, "sent": sum(sent)}
    alone = {
        "fid": FrechetDistance(REAL.features),
        "intra_fid": FrechetDistance(REAL.features, REAL.labels),
        "is": InceptionScore(K, splits=1),
        "kid": KernelDistance(REAL.features, subset_size=500),
        "accuracy": LabelAccuracy(K),
        "four": PrecisionRecall(REAL.features),
        "few": KernelDistance(REAL.features, capacity=100),
    }
    for place in share(rank, world) if rank < 3 else []:  # the last has nothing
        some = GENERATED[place]
        for name, metric in alone.items():
            own = {"intra_fid": (some.features, some.labels), "is": (some.logits,), "accuracy": (some.recognized, some.labels)}
            metric.update(*own.get(name, (some.features,)))
    result |= {name: metric.compute() for name, metric in alone.items()}
    result["few rows"] = len(alone["few"].place[0])  # its own of the hundred, after all others' hashes were seen
    torch.save(result, f"{out}/{rank}")
    dist.destroy_process_group()


def test_four_processes_measure_what_one_does(tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.start_processes(figures_of_one_process, (4, tmp_path / "meeting", tmp_path), nprocs=4, start_method="fork")
    found = [torch.load(tmp_path / str(rank), weights_only=False) for rank in range(4)]
    whole = measure(GENERATED, REAL, metrics=WHOLE, train=TRAIN).figures
    for rank in found:
        assert rank["suite"] == pytest.approx(whole, rel=1e-7)
        assert rank["sent"] < 8 * (D * D * (K + 1) + 30 * D) + N // 4 * (4 * D + 24) + 4096  # sums, and a share of the rows
    three = torch.cat([place for rank in range(3) for place in share(rank, 4)])
    expected = GENERATED[three]
    for rank in found:
        assert float(rank["fid"]) == pytest.approx(float(FrechetDistance(REAL.features)(expected.features)), rel=1e-9)
        intra = FrechetDistance(REAL.features, REAL.labels)(expected.features, expected.labels)
        assert float(rank["intra_fid"]) == pytest.approx(float(intra), rel=1e-9)
        assert float(rank["is"]) == pytest.approx(float(InceptionScore(K, splits=1)(expected.logits)), rel=1e-9)
        assert float(rank["accuracy"]) == float((expected.recognized == expected.labels).double().mean())
        assert rank["four"] == PrecisionRecall(REAL.features)(expected.features)
        assert rank["kid"] == found[0]["kid"] and abs(rank["kid"] - whole["kid"]) < 0.5 * abs(whole["kid"]) + 0.05
    assert sum(rank["few rows"] for rank in found) == 100 and CAPACITY == 10_000
