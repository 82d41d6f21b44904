"""A container whose model is the fake engine, a token every `SECONDS_PER_STEP`: so it can end while it answers."""

import os

from handler.container.metrics import Metrics
from handler.container.process import Container
from handler.container.settings import ContainerSettings
from handler.inference.scheduler import Scheduler
from handler.loading import ModelLoading
from handler.service import TextService
from tests.fake_engine import FakeEngine
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VOCABULARY


def main() -> None:
    settings = ContainerSettings.from_environment(os.environ)
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=float(os.environ["SECONDS_PER_STEP"]))
    scheduler, metrics = Scheduler(engine, drafting=False), Metrics()
    tokenizer = tiny_tokenizer(VOCABULARY)
    service = TextService(MANIFEST, tokenizer, scheduler, settings, completed=metrics.completed)
    loading = ModelLoading(lambda: service)
    loading.start()
    Container(settings, loading, metrics).run()


if __name__ == "__main__":
    main()
