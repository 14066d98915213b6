"""Random numbers from a key: equal keys draw equal numbers, and processes share what one would have drawn."""

import pytest
import torch

from condgen.randomness import generator, mix, shard


def draw(*key):
    return torch.randn(8, generator=generator(*key))


def test_a_key_decides_the_stream():
    assert torch.equal(draw(0, "noise", 3), draw(0, "noise", 3))


def test_every_part_of_the_key_matters():
    keys = [
        (0, "noise", 3),
        (1, "noise", 3),
        (0, "order", 3),
        (0, "noise", 4),
        (0, "noise"),
        (0, "noise", 3, 0),
        (0, "noise", "3"),
    ]
    assert len({mix(*key) for key in keys}) == len(keys)
    assert len({tuple(draw(*key).tolist()) for key in keys}) == len(keys)


def test_a_seed_is_what_torch_takes():
    assert all(0 <= mix(seed, "x") < 2**63 for seed in range(-50, 50))


def test_the_hash_is_the_same_tomorrow():
    """Runs of before must resume: the value was computed once and is kept here."""
    assert mix(0, "noise", 1) == 2_376_061_928_063_757_211


def test_the_global_state_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draw(5, "noise")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(draw(5, "noise"), first)


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_shards_together_are_the_whole(world):
    rows = torch.arange(24).view(12, 2)
    shares = [shard(rows, rank, world) for rank in range(world)]
    assert torch.equal(torch.cat(shares), rows) and {len(share) for share in shares} == {12 // world}
