"""A container whose model is the fake engine, a token every `SECONDS_PER_STEP`: so it can end while it answers."""

import os
import sys

from handler.container.__main__ import serve
from handler.container.settings import ContainerSettings
from handler.inference.scheduler import Scheduler
from handler.loading import ModelLoading
from handler.service import TextService
from tests.fake_engine import FakeEngine
from tests.models import tiny_tokenizer
from tests.services import MANIFEST, VOCABULARY


def main() -> int:
    settings = ContainerSettings.from_environment(os.environ)
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=float(os.environ["SECONDS_PER_STEP"]))
    scheduler = Scheduler(engine, drafting=False)
    loading = ModelLoading(lambda: TextService(MANIFEST, tiny_tokenizer(VOCABULARY), scheduler, settings))
    loading.start()
    return serve(settings, loading)


if __name__ == "__main__":
    sys.exit(main())
