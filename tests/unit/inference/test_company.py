"""A sample depends on its prompt, seed and number alone, not on what is generated beside it."""

from collections.abc import Iterator, Sequence

import pytest

from handler.inference.protocol import GenerationRequest, SamplingParams
from handler.inference.scheduler import Scheduler
from tests.generations import tokens_of
from tests.models import ENGINES, config_json, step_engine

WARM = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, repetition_penalty=1.1, frequency_penalty=0.2, seed=2**63)
PROMPTS = ((5,), (17, 0, 255, 3), tuple(range(20, 40)))


@pytest.fixture(params=ENGINES)
def scheduler(request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    """Over few slots, so that some choices wait while others run."""
    scheduler = Scheduler(step_engine(request.param, config_json(), slots=3))
    yield scheduler
    scheduler.close()


def request(prompts: Sequence[tuple[int, ...]], n: int = 1, params: SamplingParams = WARM) -> GenerationRequest:
    return GenerationRequest(prompts=tuple(prompts), sampling=(params,) * len(prompts), n=n, max_tokens=12)


def test_prompts_of_a_list_are_answered_as_if_alone(scheduler: Scheduler) -> None:
    alone = [tokens_of(scheduler.submit(request([prompt])))[0] for prompt in PROMPTS]
    together = tokens_of(scheduler.submit(request(PROMPTS)))
    assert [together[index] for index in range(3)] == alone


def test_more_samples_do_not_change_the_first(scheduler: Scheduler) -> None:
    one = tokens_of(scheduler.submit(request(PROMPTS[1:2])))
    five = tokens_of(scheduler.submit(request(PROMPTS[1:2], n=5)))
    assert five[0] == one[0]
    assert len({tuple(tokens) for tokens in five.values()}) == 5


def test_requests_side_by_side_do_not_touch_each_other(scheduler: Scheduler) -> None:
    alone = [tokens_of(scheduler.submit(request([prompt], n=2))) for prompt in PROMPTS]
    generations = [scheduler.submit(request([prompt], n=2)) for prompt in PROMPTS]
    assert [tokens_of(generation) for generation in generations] == alone


def test_another_seed_is_another_sample(scheduler: Scheduler) -> None:
    other = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, seed=1)
    assert tokens_of(scheduler.submit(request(PROMPTS))) != tokens_of(scheduler.submit(request(PROMPTS, params=other)))
