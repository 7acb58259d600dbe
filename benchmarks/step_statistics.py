"""Do the weights of a spiking network fail on short windows, or its running batch statistics?

    python benchmarks/step_statistics.py RUN [RUN ...]

Judges each run on val twice: with the running statistics that its training left, which all time steps share, and with
those of the judged windows themselves, step by step where the network was trained so. Nothing is learned in between.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from evlift.assembly import create_task, evaluation_feeder, open_classifier
from evlift.datasets.base import Batch

WINDOWS = ("full", "saccade", "first300")


@contextmanager
def own_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation by the statistics of each batch; the running ones stay as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        raise SystemExit(
            "Expected a network with batch normalisation, such as vgg-snn, but this one has none."
        )
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum


def accuracy(network: nn.Module, batch: Batch) -> float:
    """Share of the batch that the network reads."""
    with torch.no_grad():
        said = network(batch.events).logits.mean(dim=1).argmax(dim=1)  # [B, T, K] → [B]
    return float((said == batch.event_target).float().mean())


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN")
    print(f"{'':40s}{'window':>10s}{'running':>10s}{'own':>8s}")
    for folder in parser.parse_args().runs:
        trained = open_classifier(folder)
        task = create_task(trained.recipe)
        feeder = evaluation_feeder(trained, task)
        for window in WINDOWS:
            batch = next(feeder.evaluation("val", window=window, batch_size=len(task.val)))
            running = accuracy(trained.network, batch)
            with own_statistics(trained.network):
                own = accuracy(trained.network, batch)
            print(f"{trained.place.name[:38]:40s}{window:>10s}{running:10.3f}{own:8.3f}")


if __name__ == "__main__":
    main()
