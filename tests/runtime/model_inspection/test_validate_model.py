"""Models and callbacks of another trainer's own classes are refused with what to do."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from torch import nn

from fsmtrain import Trainer, build
from fsmtrain.errors import ModelError, OptionsError
from fsmtrain.options import Options
from tests.models import Linear, batches

PACKAGES = ["lightning.pytorch.core.module", "pytorch_lightning.core.module"]


def of_lightning(name: str, module: str, base: type) -> Any:
    """An object whose class is derived from a stand-in for one of Lightning's."""
    cls = type(name, (base,), {"__module__": module, "optimizer_step": lambda self, *args, **more: None})
    return type("Own", (cls,), {})()


@pytest.mark.parametrize("module", PACKAGES)
def test_a_real_lightning_module_is_refused_with_the_base_class_to_take(module: str) -> None:
    model = of_lightning("LightningModule", module, nn.Module)
    package = module.split(".")[0]
    text = rf"model: Own is a {package}\.LightningModule.*derive it from fsmtrain\.LightningModule instead"
    trainer = Trainer(max_nb_epochs=1, runs_dir=None)
    for call in (
        lambda: trainer.fit(model, batches(2)),
        lambda: trainer.test(model, batches(2)),
        lambda: trainer.validate(model, batches(2)),
        lambda: build(Options(), model, train_dataloader=batches(2)),
    ):
        with pytest.raises(ModelError, match=text) as raised:
            call()
        assert str(raised.value).count(". ") == 0, "one sentence"
    assert not {"lightning", "pytorch_lightning"} & sys.modules.keys()


def test_our_own_lightning_module_and_a_user_s_class_of_that_name_are_accepted() -> None:
    class LightningModule(Linear):
        pass

    Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False).fit(LightningModule(), batches(2))


@pytest.mark.parametrize("module", ["lightning.pytorch.callbacks.callback", "pytorch_lightning.callbacks"])
def test_a_real_lightning_callback_is_refused(module: str) -> None:
    callback = of_lightning("Callback", module, object)
    with pytest.raises(
        OptionsError, match=r"Own is a (lightning|pytorch_lightning)\.Callback.*derive it from fsmtrain\.Callback"
    ):
        build(Options(), Linear(), train_dataloader=batches(2), callbacks=[callback])
