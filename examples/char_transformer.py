"""A character transformer on streamed text, for a number of steps, in bfloat16, that a kill cannot harm.

    python examples/char_transformer.py [--short]

The text is Python's language reference, as ``help()`` shows it. Paragraphs of different lengths are streamed and padded; each
batch returns the number of its characters as ``"weight"``, so that each counts the same in a window of accumulated batches.
The run saves every 20 steps. Kill it, with ``kill -9`` too: the same command continues where it was, and ends with the same
weights. While it trains it prints what it would write.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from fsmtrain import ModelCheckpoint, Trainer, TrainingModule
from fsmtrain.callbacks import PrintSamples

PARAGRAPHS = [*dict.fromkeys("\n\n".join(topics.values()).split("\n\n"))]  # each once: some topics repeat parts of others
LETTERS = "".join(sorted(set("".join(PARAGRAPHS)) | {"\n"}))
CONTEXT = 128  # the letters that the model sees at most
PADDING = -100  # the target of what is no letter: cross_entropy ignores it


class Passages(IterableDataset[Tensor]):
    """The letters of paragraphs, in passages of at most `CONTEXT` + 1. An endless stream shuffles them anew each time."""

    def __init__(self, paragraphs: list[str], *, endless: bool) -> None:
        self.paragraphs, self.endless = paragraphs, endless

    def __iter__(self) -> Iterator[Tensor]:
        if not self.endless:
            yield from self._passages(range(len(self.paragraphs)))
            return
        generator = torch.Generator().manual_seed(0)  # of its own: a resumed run, which begins the stream again, meets the same
        while True:
            yield from self._passages(torch.randperm(len(self.paragraphs), generator=generator).tolist())

    def _passages(self, order: Iterable[int]) -> Iterator[Tensor]:
        for i in order:
            letters = encoded(self.paragraphs[i] + "\n")
            for begin in range(0, len(letters) - 1, CONTEXT):
                yield letters[begin : begin + CONTEXT + 1]


def encoded(text: str) -> Tensor:
    """Return the index of each letter."""
    place = {letter: i for i, letter in enumerate(LETTERS)}
    return torch.tensor([place[letter] for letter in text])


def collate(passages: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return letters and the letter that follows each of them, both (batch, time), padded to the longest passage."""
    x = pad_sequence([passage[:-1] for passage in passages], batch_first=True)
    y = pad_sequence([passage[1:] for passage in passages], batch_first=True, padding_value=PADDING)
    return x, y


class Writer(TrainingModule):
    """A transformer that predicts the next letter."""

    def __init__(self, width: int = 64, layers: int = 2, lr: float = 4e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.letters, self.places = nn.Embedding(len(LETTERS), width), nn.Embedding(CONTEXT, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (batch, time, letters) of the letter after each of x (batch, time)."""
        time = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(time, device=x.device)
        states = self.letters(x) + self.places(torch.arange(time, device=x.device))
        scores: Tensor = self.head(self.layers(states, mask=mask, is_causal=True))
        return scores

    def loss(self, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """Return the mean loss of the letters of a batch, and their number."""
        x, y = batch
        scores = self(x)
        return {"loss": cross_entropy(scores.flatten(0, 1), y.flatten(), ignore_index=PADDING), "weight": (y != PADDING).sum()}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_nb: int) -> dict[str, Any]:
        """Return the loss, which counts by the number of letters."""
        return self.loss(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_nb: int) -> dict[str, Any]:
        """Return the loss as a metric, which counts in the mean by the number of letters."""
        found = self.loss(batch)
        return {"val_loss": found["loss"], "weight": found["weight"]}

    def on_validation_end(self, metrics: dict[str, float]) -> None:
        """Print the perplexity on unseen text: the number of equally likely letters with the same uncertainty."""
        print(f"step {self.global_step:4}: perplexity {math.exp(metrics['val_loss']):.2f}", flush=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a warm-up over 50 steps, then a decay with the root of the steps."""
        adam = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=0.01)
        schedule = LambdaLR(adam, lambda step: min((step + 1) / 50, math.sqrt(50 / (step + 1))))
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def write(self, beginning: str, n: int, temperature: float = 0.6) -> str:
        """Continue a text by n letters; a lower temperature is more cautious."""
        x = encoded(beginning)[None].to(self.device)
        for _ in range(n):
            scores = self(x[:, -CONTEXT:])[:, -1].float()
            x = torch.cat([x, torch.multinomial((scores / temperature).softmax(dim=1), 1)], dim=1)
        return "".join(LETTERS[i] for i in x[0].tolist())


def main(short: bool = False, resume: str | os.PathLike[str] | None = "auto", **flags: Any) -> tuple[Writer, Trainer]:
    """Train, with further flags of the trainer; return the model and the trainer."""
    random.seed(0)
    val = set(random.sample(range(len(PARAGRAPHS)), len(PARAGRAPHS) // 20))
    train_text = [paragraph for i, paragraph in enumerate(PARAGRAPHS) if i not in val]
    val_text = [paragraph for i, paragraph in enumerate(PARAGRAPHS) if i in val]
    torch.manual_seed(0)
    writer = Writer(width=32, layers=1, lr=1e-2) if short else Writer()
    trainer = Trainer(
        max_steps=20 if short else 600,
        accumulate_grad_batches=2,
        val_check_interval=20 if short else 200,
        limit_val_batches=2 if short else 10,
        gradient_clip_val=1.0,
        precision="bf16",
        seed=0,
        resume=resume,
        callbacks=[
            ModelCheckpoint(every_n_steps=5 if short else 20),
            PrintSamples(lambda model: model.write("The ", 60), every_n_steps=10 if short else 100),
        ],
        **flags,
    )
    stream = DataLoader(Passages(train_text, endless=True), batch_size=8 if short else 32, collate_fn=collate)
    trainer.fit(writer, stream, DataLoader(Passages(val_text, endless=False), batch_size=32, collate_fn=collate))
    return writer, trainer


if __name__ == "__main__":
    main(short="--short" in sys.argv)
