"""`DataModule`, the optional base class of data modules."""

from __future__ import annotations

from typing import Any

from fsmtrain.hyperparameters import KeepsHyperparameters


class DataModule(KeepsHyperparameters):
    """The loaders of a run in one object, with what prepares them: ``trainer.fit(model, datamodule=data)``.

    Every method is optional, and any object with some of them is a data module, also one of Lightning's. In a run
    ``prepare_data`` is called once, then ``setup``, then the loaders are asked for; ``teardown`` is called at its end. A loader
    that a data module has no method for is asked of the model. It may also have ``transfer_batch_to_device(batch, device)``,
    ``on_exception(exception)``, and ``state_dict()`` with ``load_state_dict(state)``, which are part of checkpoints; a resumed
    run calls the latter after it has asked for the loaders.

    Attributes:
        trainer: The trainer or machine of the run; None before the first one.
        hparams: The hyperparameters, if the subclass sets them.

    Example:
        >>> import torch
        >>> from fsmtrain import DataModule
        >>> class Ones(DataModule):
        ...     def __init__(self, batch_size=2):
        ...         self.save_hyperparameters()
        ...
        ...     def setup(self, stage):
        ...         self.data = torch.ones(8, 3)
        ...
        ...     def train_dataloader(self):
        ...         return torch.utils.data.DataLoader(self.data, batch_size=self.hparams.batch_size, shuffle=True)
        >>> Ones(batch_size=4).hparams
        HParams(batch_size=4)
    """

    trainer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles contain: all but the trainer."""
        return {name: value for name, value in vars(self).items() if name != "trainer"}

    def prepare_data(self) -> None:
        """Download, or write to disk, what the loaders need: once, and before `setup`."""

    def setup(self, stage: str) -> None:
        """Make the data sets: `stage` is ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

        A fit asks for the train and the val loaders; one that goes on to a test has the stage ``"test"``, too.
        """

    def train_dataloader(self) -> Any:
        """Return the train loader."""

    def val_dataloader(self) -> Any:
        """Return the val loader, or a list of them."""

    def test_dataloader(self) -> Any:
        """Return the test loader, or a list of them."""

    def predict_dataloader(self) -> Any:
        """Return the loader to predict on, or a list of them."""

    def teardown(self, stage: str) -> None:
        """Clean up at the end of the run, also after an error: once for each stage that was set up."""
