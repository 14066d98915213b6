"""Where a training stands: condgen's own counts, and the state of Lightning's loops that follows from them."""

import pytest
from recipes import Save, batches, fit, make_model

from condgen.run.checkpoint import read
from condgen.training.counts import Counts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
STORED = {
    "state_dict": {},
    "epoch_loop.state_dict": {"kept": 1},
    "epoch_loop.batch_progress": {"lost": 2},
    "epoch_progress": {},
}


def progress(ready, completed, processed=None):
    return {"ready": ready, "started": ready, "processed": ready if processed is None else processed, "completed": completed}


def test_loops_of_a_checkpoint_within_an_epoch():
    """Of epochs the third has begun; of its batches the fifth is processed, and complete once the checkpoint is written."""
    loops = Counts(updates=25, batches=25, epochs=2, batch=5).loops(STORED)
    assert loops["epoch_progress"] == {"total": progress(3, 2, 2), "current": progress(3, 2, 2)}
    batches = {"total": progress(25, 24), "current": progress(5, 4), "is_last_batch": False}
    assert loops["epoch_loop.batch_progress"] == batches
    assert loops["epoch_loop.state_dict"] == {"kept": 1} and loops.keys() == STORED.keys()


def test_loops_of_a_checkpoint_between_two_epochs():
    loops = Counts(updates=20, batches=20, epochs=2, batch=0).loops(STORED)
    assert loops["epoch_progress"] == {"total": progress(2, 2), "current": progress(2, 2)}
    assert loops["epoch_loop.batch_progress"] == {"total": progress(20, 20), "current": progress(0, 0), "is_last_batch": False}


@pytest.mark.parametrize("batch", [2, 4, 6])
def test_they_are_those_that_lightning_writes_within_an_epoch(batch, tmp_path):
    """An undisturbed run's own checkpoint: where nothing was restarted, its counters are right."""
    model = make_model("model=cgan_mlp", "model.alternation.discriminator_steps=2")
    fit(model, batches(5), max_epochs=2, callbacks=[Save(tmp_path / "model.ckpt", batch)])
    checkpoint = read(tmp_path / "model.ckpt")
    counts, written = Counts(**checkpoint["counts"]), checkpoint["loops"]["fit_loop"]
    assert counts == Counts(updates=batch // 2, batches=batch, epochs=batch // 5, batch=batch % 5)
    assert counts.loops(written) == written
