"""The GPU service's containers: when there are how many, and what is paid for."""

from collections.abc import Iterable

import pytest

from lifecycle.planning.batch import Times
from lifecycle.planning.gpu_service import GpuService, Scaling
from lifecycle.planning.simulate import Function, Gpu, simulate
from lifecycle.planning.speeds import FunctionSpeed, GpuSpeed
from lifecycle.planning.traffic import Request, Traffic

# An answer of 101 tokens is written in 1 s by the GPU, whatever else it writes, and in 4 s by the function.
SPEED = GpuSpeed(1e9, ((1, 100.0), (64, 6400.0)))
FUNCTION = FunctionSpeed(prefill=1e9, decode=25, start=(2.0, 2.0, 2.0), front_start=0.5, weights_bytes=0)


def every(seconds: float, begin: float, end: float, output: int = 101) -> list[Request]:
    """Requests at a steady pace."""
    count = round((end - begin) / seconds)
    return [Request(begin + index * seconds, 1, output) for index in range(count)]


def traffic(requests: Iterable[Request], seconds: float) -> Traffic:
    return Traffic(tuple(requests), seconds, (1.0,))


def test_a_tandem_wakes_works_and_sleeps() -> None:
    """Busy from 600 s on, two requests a second.

    The alarm of 660 s starts a container, which is there at 960 s and takes what comes from then on. At 1800 s the
    calls end. Fifteen minutes are quiet, which end from 1860 s to 2700 s; then it goes.
    """
    played = traffic(every(0.5, 600, 1800), 3600)
    scaling = Scaling(least=0, start_seconds=300, idle_minutes=15)
    found = simulate(played, Function(FUNCTION), Gpu(SPEED, scaling))
    assert found.on_gpu == pytest.approx((1800 - 960) / (1800 - 600))
    assert found.usage.gpu_seconds == 2700 - 660
    assert (found.refused, found.most_containers) == (0, 1)
    by_gpu = found.answer < 2
    assert by_gpu.sum() == found.usage.forwarded == 1680
    # Cold starts apart, the function's environments were busy for 4 s an answer, and 1 s a forwarded one.
    assert set(found.answer[~by_gpu].round(3)) == {4.04, 6.0}
    assert set(found.answer[by_gpu].round(3)) == {1.0}
    assert found.usage.function_seconds == pytest.approx(found.answer.sum())


def test_a_front_that_starts_is_late_to_forward() -> None:
    """Two at a time, six minutes apart: the environments of the first pair are there still, a third is not."""
    requests = [Request(1.0, 1, 101), Request(1.0, 1, 101), *(Request(361.0, 1, 101) for _ in range(3))]
    found = simulate(traffic(requests, 400), Function(FUNCTION), Gpu(SPEED, Scaling(least=1)))
    assert found.answer == pytest.approx([1.5, 1.5, 1.0, 1.0, 1.5], abs=1e-6)
    assert found.first_token == pytest.approx([0.5, 0.5, 0.0, 0.0, 0.5], abs=1e-6)
    assert (found.usage.starts, found.on_gpu) == (3, 1.0)


def test_too_little_traffic_wakes_nobody() -> None:
    found = simulate(traffic(every(1.1, 0, 3600), 3600), Function(FUNCTION), Gpu(SPEED, Scaling(least=0)))
    assert (found.on_gpu, found.usage.gpu_seconds, found.most_containers) == (0, 0, 0)


def test_what_a_full_container_does_not_take_the_function_answers() -> None:
    """Thirty at once, room for ten, and nobody else to ask but the front's own processors."""
    at_once = [Request(1.0, 1, 101)] * 30
    scaling = Scaling(least=1, most=1, room=10)
    both = simulate(traffic(at_once, 100), Function(FUNCTION), Gpu(SPEED, scaling))
    alone = simulate(traffic(at_once, 100), None, Gpu(SPEED, scaling))
    assert [both.on_gpu, both.refused] == pytest.approx([1 / 3, 0])
    assert [alone.on_gpu, alone.refused] == pytest.approx([1 / 3, 2 / 3])
    assert len(alone.answer) == 10


def test_containers_follow_the_requests_in_flight() -> None:
    """Forty in flight are two containers' worth, once they are so for a minute; with none, there is one after quiet."""
    times = Times(40)
    service = GpuService(SPEED, Scaling(least=1, in_flight=32, start_seconds=100, idle_minutes=5), times)
    service.advance(50.0)
    for index in range(40):
        assert service.offer(50.0, index, Request(50.0, 1, 18_001))
    assert service.advance(119.0) == []
    assert service.most_containers == 1
    service.advance(121.0)
    assert service.most_containers == 2
    # All end 180 s after they came, at 230 s. From the look at 240 s on it is quiet: the second goes at 480 s.
    assert len(service.advance(235.0)) == 40
    service.advance(500.0)
    assert service.seconds == 480 - 120
    service.finish(1000.0)
    assert service.seconds == 360 + 1000


def test_a_container_that_goes_answers_what_it_has() -> None:
    """The last of a day takes ten minutes; the container, given up after one quiet one, is paid for until then."""
    times = Times(1)
    service = GpuService(SPEED, Scaling(least=0, wake_requests=1, start_seconds=10, idle_minutes=1), times)
    service.call()
    service.advance(75.0)
    assert service.offer(75.0, 0, Request(75.0, 1, 60_001))
    assert service.advance(1000.0) == [0]
    assert times.last[0] == pytest.approx(675)
    assert service.seconds == 720 - 60
    assert not service.offer(1000.0, 0, Request(1000.0, 1, 1))
