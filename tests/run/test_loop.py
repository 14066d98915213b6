"""Which hooks of a step Lightning calls."""

import lightning as L
from recipes import batches, fit, make_model

from condgen.run.loop import STEP, pass_by


def test_hooks_that_nobody_has_are_passed_by_and_the_others_called():
    class Watch(L.Callback):
        seen = 0

        def on_train_batch_end(self, *arguments: object) -> None:
            self.seen += 1

        def on_train_end(self, *arguments: object) -> None:
            self.seen += 100

    watch, model = Watch(), make_model("model=cvae_mlp")
    for hooked in (watch, model):
        pass_by(hooked)
    assert [name for name in STEP if getattr(watch, name)] == ["on_train_batch_end"]
    kept = ["on_train_batch_start", "on_after_backward", "on_before_optimizer_step"]
    assert [name for name in STEP if getattr(model, name)] == kept
    fit(model, batches(2), callbacks=[watch])
    assert watch.seen == 102 and model.counts.updates == 2
