"""A container whose model is being loaded for ever, inside torch: so it can end before it has begun."""

import os

import torch

from handler.container.metrics import Metrics
from handler.container.process import Container
from handler.container.settings import ContainerSettings
from handler.loading import ModelLoading
from handler.service import TextService


def load() -> TextService:
    while True:
        torch.zeros(100_000)


def main() -> None:
    settings = ContainerSettings.from_environment(os.environ)
    loading = ModelLoading(load)
    loading.start()
    Container(settings, loading, Metrics()).run()


if __name__ == "__main__":
    main()
