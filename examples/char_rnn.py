"""Truncated backpropagation through time: a character-level language model on text that comes with every Python.

    python examples/char_rnn.py [--short]

The text is Python's language reference, as ``help()`` shows it. Each batch is 32 passages of 512 letters, which
``truncated_bptt_steps=64`` cuts into 8 splits. Each split has a forward, a backward and a step of its own, and hands the LSTM's
state on to the next under ``"hiddens"``. At the end the model generates some text.
"""

from __future__ import annotations

import math
import sys
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Options, TrainingModule, build

PARAGRAPHS = dict.fromkeys("\n\n".join(topics.values()).split("\n\n"))  # each once: some topics repeat parts of others
TEXT = "\n\n".join(PARAGRAPHS)
LETTERS = "".join(sorted(set(TEXT)))
PASSAGE = 512  # letters in a sequence

Hiddens = tuple[Tensor, Tensor]


class Writer(TrainingModule):
    """An LSTM that predicts the next letter."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), 64)
        self.lstm = nn.LSTM(64, width, batch_first=True)
        self.head = nn.Linear(width, len(LETTERS))
        self.perplexities: list[float] = []

    def forward(self, x: Tensor, hiddens: Hiddens | None = None) -> tuple[Tensor, Hiddens]:
        """Return scores (batch, time, letters) of the letter after each of x (batch, time), and the final state."""
        out, hiddens = self.lstm(self.embedding(x), hiddens)
        return self.head(out), hiddens

    def training_step(self, batch: list[Tensor], batch_nb: int, hiddens: Hiddens | None) -> dict[str, Any]:
        """Return the loss of a split. `hiddens` is None in a batch's first split, then that of the split before, detached."""
        x, y = batch
        scores, hiddens = self(x, hiddens)
        return {"loss": cross_entropy(scores.flatten(0, 1), y.flatten()), "hiddens": hiddens}

    def validation_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the loss of whole passages."""
        x, y = batch
        scores, _ = self(x)
        return {"val_loss": cross_entropy(scores.flatten(0, 1), y.flatten())}

    def on_validation_end(self, metrics: dict[str, Any]) -> None:
        """Print the perplexity on unseen text: the number of equally likely letters with the same uncertainty."""
        self.perplexities.append(math.exp(metrics["val_loss"]))
        print(f"epoch {self.current_epoch}, step {self.global_step:4}: perplexity {self.perplexities[-1]:.2f}")

    def configure_optimizers(self) -> torch.optim.Adam:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=6e-3)

    @torch.no_grad()
    def write(self, beginning: str, n: int, temperature: float = 0.6) -> str:
        """Continue a text by n letters; a lower temperature is more cautious."""
        x, hiddens, text = encoded(beginning)[None], None, beginning
        for _ in range(n):
            scores, hiddens = self(x, hiddens)
            x = torch.multinomial((scores[:, -1] / temperature).softmax(dim=1), 1)
            text += LETTERS[int(x)]
        return text


def encoded(text: str) -> Tensor:
    """Return the index of each letter."""
    place = {letter: i for i, letter in enumerate(LETTERS)}
    return torch.tensor([place[letter] for letter in text])


def passages(text: str) -> TensorDataset:
    """Return passages and the letter that follows each of their letters, both of shape (n, PASSAGE)."""
    letters = encoded(text)
    n = (len(letters) - 1) // PASSAGE
    return TensorDataset(letters[: n * PASSAGE].view(n, PASSAGE), letters[1 : n * PASSAGE + 1].view(n, PASSAGE))


def main(short: bool = False) -> tuple[list[float], str]:
    """Train, then generate text; return the perplexity of each epoch, and the text."""
    cut = len(TEXT) * 9 // 10
    torch.manual_seed(0)
    writer = Writer(width=32 if short else 128)
    machine = build(
        Options(
            max_nb_epochs=1 if short else 8,
            truncated_bptt_steps=64,
            gradient_clip_val=1.0,
            val_check_interval=0.25 if short else 1.0,
            seed=0,
            device="cpu",
            progress_bar=False,
        ),
        writer,
        train_dataloader=DataLoader(passages(TEXT[:cut]), batch_size=32, shuffle=True, drop_last=True),
        val_dataloaders=DataLoader(passages(TEXT[cut:]), batch_size=32),
    )
    print(f"{len(TEXT):,} letters, {len(LETTERS)} different: guessing has a perplexity of {len(LETTERS)}")
    machine.run()
    text = writer.write("The ", 100 if short else 600)
    print(f"\n{text}")
    return writer.perplexities, text


if __name__ == "__main__":
    main(short="--short" in sys.argv)
