"""Two optimizers, each at its own interval: a small GAN that draws handwritten digits in the terminal.

    python examples/gan.py [--short]

The discriminator steps at every batch. The generator steps at every second one, with the mean of both batches' gradients: that
is one guard, ``Guards(step={1: every_n_batches(2)})``. While one of the two trains, only its own parameters require grad, so no
``detach()`` is needed.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Guards, Trainer, TrainingModule, every_n_batches

NOISE = 32
SHADES = " ░▒▓█"


class Gan(TrainingModule):
    """A generator that turns noise and a label into an 8 x 8 image, and a discriminator of real and generated images."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            *(nn.Linear(NOISE + 10, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 64), nn.Sigmoid()),
        )
        self.discriminator = nn.Sequential(
            *(nn.Linear(64 + 10, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3)),
            *(nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3)),
            nn.Linear(128, 1),
        )

    def draw(self, labels: Tensor) -> Tensor:
        """Generate an image (n, 64) for each label (n,)."""
        noise = torch.randn(len(labels), NOISE, device=labels.device)
        images: Tensor = self.generator(torch.cat([noise, one_hot(labels, 10)], dim=1))
        return images

    def judge(self, images: Tensor, labels: Tensor, *, as_real: bool) -> Tensor:
        """Return the discriminator's loss if these images should be classified as real, or as fake."""
        scores = self.discriminator(torch.cat([images, one_hot(labels, 10)], dim=1))
        # 0.9 instead of 1: a discriminator that is never quite sure leaves the generator a gradient.
        return binary_cross_entropy_with_logits(scores, torch.full_like(scores, 0.9 if as_real else 0.0))

    def training_step(self, batch: list[Tensor], batch_nb: int, optimizer_i: int) -> dict[str, Any]:
        """Return the loss of the optimizer that trains now."""
        images, labels = batch
        drawn = self.draw(labels)
        if optimizer_i == 0:
            loss = self.judge(images, labels, as_real=True) + self.judge(drawn, labels, as_real=False)
            return {"loss": loss, "progress_bar": {"discriminator": loss}}
        loss = self.judge(drawn, labels, as_real=True)
        return {"loss": loss, "progress_bar": {"generator": loss}}

    def configure_optimizers(self) -> tuple[Adam, Adam]:
        """Return the optimizers of discriminator and generator, which take turns in this order."""
        return (
            Adam(self.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
            Adam(self.generator.parameters(), lr=2e-3, betas=(0.5, 0.999)),
        )


def as_text(images: Tensor) -> str:
    """Return images (n, 64) side by side as text, with two characters per pixel."""
    rows = (images.cpu().clamp(0, 1) * (len(SHADES) - 1)).round().int().view(-1, 8, 8).transpose(0, 1).tolist()
    return "\n".join("  ".join("".join(2 * SHADES[pixel] for pixel in line) for line in row) for row in rows)


def fraction_recognized(images: Tensor, wanted: Tensor, known: TensorDataset) -> float:
    """Return the fraction of images whose nearest neighbour among known images has the wanted label."""
    known_images, labels = known.tensors
    nearest = labels[torch.cdist(images, known_images).argmin(dim=1)]
    return (nearest == wanted).float().mean().item()


def train(max_nb_epochs: int) -> tuple[Gan, list[int]]:
    """Train; return the model, and how many steps each optimizer has made."""
    data, _, _ = digits()
    torch.manual_seed(0)
    gan = Gan()
    trainer = Trainer(max_nb_epochs=max_nb_epochs, seed=0, device="cpu", guards=Guards(step={1: every_n_batches(2)}))
    result = trainer.fit(gan, DataLoader(data, batch_size=64, shuffle=True, drop_last=True))
    return gan, result.counters.optimizer_steps


def main(short: bool = False) -> tuple[Tensor, float]:
    """Train; return a drawing of each digit (10, 64), and the fraction of 500 others that are recognized."""
    data, _, others = digits()
    gan, (of_discriminator, of_generator) = train(20 if short else 100)
    gan.eval()
    with torch.no_grad():
        drawn = gan.draw(torch.arange(10))
        wanted = torch.arange(500) % 10
        recognized = fraction_recognized(gan.draw(wanted), wanted, data)
    print(f"\n{of_discriminator} steps of the discriminator, {of_generator} of the generator; then it drew 0 to 9:\n")
    print(as_text(drawn[:5]), as_text(drawn[5:]), sep="\n\n")
    print(f"\n{recognized:.1%} of 500 drawings look most like a real image of the digit that was meant")
    images, labels = others.tensors
    print(f"(of real images that it has not seen, {fraction_recognized(images, labels, data):.1%} do)")
    return drawn, recognized


if __name__ == "__main__":
    main(short="--short" in sys.argv)
