"""Packed sequences of any length: classify words as Python names or English, with an answer after each letter.

    python examples/packed_words.py [--short]

The names are keywords, builtins and their methods, modules and functions of the standard library; the words are those in the
prose of Python's language reference. All consist of lower-case letters, and words that are both ("list") are excluded.
``collate_fn`` returns lists of tensors of different lengths, and the steps pack them, as documented.
"""

from __future__ import annotations

import builtins
import importlib
import keyword
import random
import re
import sys
from collections import Counter
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import rnn
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Options, TrainingModule, build

MODULES = "functools itertools json locale math operator os random re shutil socket statistics string subprocess threading time"

Sample = tuple[Tensor, Tensor]  # a word's letters, 0 to 25, and for each of them the label: 1 is a name
Batch = tuple[list[Tensor], list[Tensor]]


def vocabulary() -> list[tuple[str, int]]:
    """Return all words with their labels, shuffled."""
    identifiers = {*keyword.kwlist, *sys.stdlib_module_names, *dir(builtins)}
    for owner in (*vars(builtins).values(), *map(importlib.import_module, MODULES.split())):
        identifiers.update(dir(owner))
    names = {name for name in identifiers if re.fullmatch("[a-z]{3,}", name)}
    prose = "\n".join(line for line in "\n".join(topics.values()).splitlines() if re.match("[A-Z]?[a-z]", line))
    counts = Counter(re.findall(r"(?<![^\s(])[a-z]{3,}(?=[,;:.)]?\s)", prose))
    english = {word for word, n in counts.items() if n > 1}
    words = [(name, 1) for name in sorted(names - set(counts))] + [(word, 0) for word in sorted(english - names)]
    random.Random(0).shuffle(words)
    return words


def sample(word: str, is_name: int) -> Sample:
    """Return a word as tensors."""
    return torch.tensor([ord(letter) - ord("a") for letter in word]), torch.full((len(word),), is_name)


def collate_fn(batch: list[Sample]) -> Batch:
    """Return lists of tensors of different lengths."""
    x = [item[0] for item in batch]
    y = [item[1] for item in batch]
    return x, y


def loader(words: list[tuple[str, int]], *, shuffle: bool = False) -> DataLoader[Any]:
    """Return batches of 32 words."""
    samples: Any = [sample(word, is_name) for word, is_name in words]  # a list is a dataset
    return DataLoader(samples, batch_size=32, shuffle=shuffle, collate_fn=collate_fn)


class Reader(TrainingModule):
    """A GRU that classifies a word after each of its letters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(26, 32)
        self.gru = nn.GRU(32, 96)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(96, 2))

    def forward(self, x: rnn.PackedSequence) -> tuple[Tensor, Tensor]:
        """Return scores after each letter (letters, 2), and after the last letter of each word (words, 2)."""
        out, last = self.gru(x._replace(data=self.embedding(x.data)))
        return self.head(out.data), self.head(last[0])

    def training_step(self, batch: Batch, batch_nb: int) -> dict[str, Any]:
        """Return the mean loss over all letters, weighted by their number."""
        x = rnn.pack_sequence(batch[0], enforce_sorted=False)
        y = rnn.pack_sequence(batch[1], enforce_sorted=False)
        scores, _ = self(x)
        return {"loss": cross_entropy(scores, y.data), "weight": len(y.data)}

    def validation_step(self, batch: Batch, batch_nb: int) -> dict[str, Tensor]:
        """Return the metric that early stopping monitors: the mean loss over all letters."""
        x = rnn.pack_sequence(batch[0], enforce_sorted=False)
        y = rnn.pack_sequence(batch[1], enforce_sorted=False)
        scores, _ = self(x)
        return {"val_loss": cross_entropy(scores, y.data)}

    def test_step(self, batch: Batch, batch_nb: int) -> dict[str, int]:
        """Return how many words are classified correctly after their last letter, and how many there are."""
        _, scores = self(rnn.pack_sequence(batch[0], enforce_sorted=False))
        answers = torch.stack([labels[-1] for labels in batch[1]])
        return {"right": int((scores.argmax(dim=1) == answers).sum()), "words": len(answers)}

    def test_end(self, outputs: list[dict[str, int]]) -> dict[str, float]:
        """Return the accuracy over all test words: the last batch may be smaller."""
        return {"test_acc": sum(output["right"] for output in outputs) / sum(output["words"] for output in outputs)}

    def configure_optimizers(self) -> torch.optim.Adam:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)

    @torch.no_grad()
    def name_probabilities(self, word: str) -> list[float]:
        """Return the probability after each letter that the word is a name."""
        scores, _ = self(rnn.pack_sequence([sample(word, 0)[0]]))
        probabilities: list[float] = scores.softmax(dim=1)[:, 1].tolist()
        return probabilities


def main(short: bool = False) -> tuple[float, float]:
    """Train, test, print some answers; return the accuracy on the test words, and that of a constant answer."""
    words = vocabulary()
    n = len(words) // 5
    test_words = words[:n]
    torch.manual_seed(0)
    reader = Reader()
    machine = build(
        Options(
            max_nb_epochs=8 if short else 60,
            val_check_interval=1.0,
            early_stop_callback=EarlyStopping(patience=6),
            seed=0,
            device="cpu",
        ),
        reader,
        train_dataloader=loader(words[2 * n :], shuffle=True),
        val_dataloaders=loader(words[n : 2 * n]),
        test_dataloaders=loader(test_words),
    )
    result = machine.run()

    print("\nProbability of a name, after each letter:")
    reader.eval()
    for word, is_name in test_words[:12]:
        letters = (f"{letter} {p:<4.0%}" for letter, p in zip(word, reader.name_probabilities(word), strict=True))
        print(f"{word:>16} ({'name' if is_name else 'word'})  {' '.join(letters)}".rstrip())
    accuracy = result.metrics["test_acc"]
    base = max(Counter(is_name for _, is_name in test_words).values()) / n
    print(f"\naccuracy on {n} unseen words: {accuracy:.1%}; of a constant answer: {base:.1%}")
    return accuracy, base


if __name__ == "__main__":
    main(short="--short" in sys.argv)
