"""A range answered: each line once, whatever happens on the way."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.deadline import ANSWER_SECONDS
from handler.errors import DeadlineExceededError, InvalidRequestError, NoSuchObjectError
from handler.work.answering import PART_LINES, WRITE_SECONDS
from handler.work.bulk.part import answer_part
from handler.work.bulk.runs import Range, Run
from handler.work.lines import LARGEST_LINE
from tests.fake_engine import FakeEngine
from tests.functional.batch_place import Crash, WatchedStorage, greedy, request, requests, texts
from tests.functional.bulk.place import Place, running_place
from tests.functional.events.worker import GatedEngine
from tests.services import VOCABULARY

BOM = "\ufeff"


def whole(data: bytes | str) -> Range:
    return Range(first=0, end=len(data.encode() if isinstance(data, str) else data))


def milliseconds(seconds: float) -> int:
    """The time of an invocation that has so many seconds to answer in."""
    return int((seconds + WRITE_SECONDS + ANSWER_SECONDS) * 1000)


def test_answers_and_errors_lie_in_objects_of_the_ranges_own(place: Place) -> None:
    bad = '{"custom_id": "torn'
    data = "\r\n".join([f"{BOM}{request('a')}", request("b", max_tokens=-1), "", "[]", request("c"), bad])
    run = place.put(data)
    answer = place.answer(run, whole(data))

    folder = f"bulk/runs/{run.id}/parts/{0:015d}"
    sizes = {name: len(place.storage.read(answer[name]) or b"") for name in ("output", "errors")}
    assert answer == {
        "finished": True,
        "first": 0,
        "completed": 2,
        "failed": 3,
        "output": answer["output"],
        "output_bytes": sizes["output"],
        "errors": answer["errors"],
        "errors_bytes": sizes["errors"],
    }
    assert answer["output"].startswith(f"{folder}/output-")
    assert texts(place.lines(answer["output"])) == {"a": greedy("She a", 3), "c": greedy("She c", 3)}
    refused, *unread = place.lines(answer["errors"])
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("b", 400)
    list_at, torn_at = data.encode().index(b"[]"), data.encode().index(bad.encode())
    assert [each["error"] for each in unread] == [
        {
            "code": "invalid_request",
            "message": f"The line at byte {list_at} of the file: The line must hold a JSON object.",
        },
        {
            "code": "invalid_json_line",
            "message": f"The line at byte {torn_at} of the file: "
            "The line is not valid JSON: Unterminated string starting at, at character 14.",
        },
    ]
    # Another delivery finds it done.
    before = place.scheduler.submitted
    assert place.answer(run, whole(data)) == answer
    assert place.scheduler.submitted == before


def test_a_range_in_the_middle_is_read_alone_and_its_lines_found_by_their_byte(place: Place) -> None:
    first, second = f"{requests(2)}\n", f"{request('c')}\n{{\n"
    run = place.put(first + second)
    answer = place.answer(run, Range(first=len(first), end=len(first + second)))
    assert set(texts(place.lines(answer["output"]))) == {"c"}
    [error] = place.lines(answer["errors"])
    assert f"The line at byte {len(first + second) - 2} of the file" in error["error"]["message"]


def test_a_line_that_is_too_long_is_told_of_and_the_others_are_answered(place: Place) -> None:
    data = f"{request('a')}\n{request('long', prompt='x' * LARGEST_LINE)}\n{request('b')}"
    run = place.put(data)
    answer = place.answer(run, whole(data))
    assert (answer["completed"], answer["failed"]) == (2, 1)
    assert place.lines(answer["errors"])[0]["error"]["code"] == "line_too_long"


def test_chats_and_completions_may_be_mixed(place: Place) -> None:
    chat = request("chat").replace("/v1/completions", "/v1/chat/completions")
    chat = chat.replace('"prompt": "She chat"', '"messages": [{"role": "user", "content": "She"}]')
    data = f"{request('text')}\n{chat}"
    answer = place.answer(place.put(data), whole(data))
    kinds = {line["custom_id"]: line["response"]["body"]["object"] for line in place.lines(answer["output"])}
    assert kinds == {"text": "text_completion", "chat": "chat.completion"}


def test_what_is_done_when_a_worker_dies_is_not_done_again(place: Place) -> None:
    """It dies after the first part, and in a second life between its objects and the record of them."""
    data = requests(2 * PART_LINES)
    storage = WatchedStorage(place.storage.client, place.storage.bucket)
    deaths = {1: f"answers/{PART_LINES:09d}", 2: "/records/"}
    run = Run(storage, place.put(data).source, place.put(data).etag)
    for life, where in deaths.items():
        storage.before[where] = Crash(f"life {life}")
        with pytest.raises(Crash, match=f"life {life}"):
            answer_part(run, whole(data), place.loading, None)
        storage.before.clear()
    before = place.scheduler.submitted
    assert before < 4 * PART_LINES
    answer = place.answer(run, whole(data))
    assert place.scheduler.submitted == before
    assert len(texts(place.lines(answer["output"]))) == answer["completed"] == 2 * PART_LINES


def test_two_workers_on_one_part_agree(aws: str) -> None:
    """Both are generating before either is done, and without a seed they generate different texts."""
    data = requests(4, temperature=2)
    with running_place(GatedEngine(8)) as place, ThreadPoolExecutor(2) as pool:
        run = place.put(data)
        answers = list(pool.map(lambda _: place.answer(run, whole(data)), range(2)))
        assert place.scheduler.submitted == 8
        assert answers[0] == answers[1]
        assert len(place.lines(answers[0]["output"])) == 4


def test_near_the_deadline_it_stops_and_goes_on_later(aws: str) -> None:
    data = "\n".join([request("quick", max_tokens=0), request("slow", max_tokens=50)])
    with running_place(FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.04)) as place:
        run = place.put(data)
        assert place.answer(run, whole(data), milliseconds(1.2)) == {"finished": False}
        assert place.answer(run, whole(data), milliseconds(30))["completed"] == 2
        assert place.scheduler.submitted == 3  # the slow one twice


def test_what_was_answered_behind_a_slow_line_is_kept_when_time_is_up(aws: str) -> None:
    quick = [request(f"r{i}", max_tokens=1) for i in range(PART_LINES + 6)]
    data = "\n".join([request("slow", max_tokens=50), *quick])
    with running_place(FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.05)) as place:
        run = place.put(data)
        assert place.answer(run, whole(data), milliseconds(2)) == {"finished": False}
        before = place.scheduler.submitted
        assert place.answer(run, whole(data), milliseconds(60))["completed"] == PART_LINES + 7
        # Behind the slow one a part's worth was begun; of these none is done again.
        assert (before, place.scheduler.submitted) == (PART_LINES + 1, PART_LINES + 8)


def test_a_line_that_alone_takes_too_long_is_given_up_and_the_others_are_not(aws: str) -> None:
    data = "\n".join([request("endless", max_tokens=50), request("short", max_tokens=12)])
    with running_place(FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.03)) as place:
        run = place.put(data)
        turns = 0
        while not (answer := place.answer(run, whole(data), milliseconds(0.8)))["finished"]:
            turns += 1
            assert turns < 6
        assert set(texts(place.lines(answer["output"]))) == {"short"}
        [error] = place.lines(answer["errors"])
    assert (error["custom_id"], error["response"]["status_code"]) == ("endless", 504)
    assert error["response"]["body"]["error"]["message"] == (
        "The request alone takes longer than a worker has time; nothing was kept."
    )


def test_with_no_time_at_all_nothing_is_given_up(place: Place) -> None:
    data = requests(1)
    run = place.put(data)
    for _ in range(3):
        with pytest.raises(DeadlineExceededError):
            answer_part(run, whole(data), place.loading, time.time() + WRITE_SECONDS - 1)
    assert place.answer(run, whole(data))["completed"] == 1


def test_an_input_that_was_replaced_meanwhile_is_not_mixed_up(place: Place) -> None:
    run = place.put(requests(2))
    place.put(requests(3))
    with pytest.raises(NoSuchObjectError, match="removed or replaced since the run began"):
        place.answer(run, whole(requests(2)))


@pytest.mark.parametrize("part", [Range(first=0, end=0), Range(first=5, end=4), Range(first=0, end=10**9)])
def test_a_range_that_no_plan_has_is_refused(place: Place, part: Range) -> None:
    with pytest.raises(InvalidRequestError, match="`end` must be more than `first`, by at most 8388608"):
        place.answer(place.put(requests(1)), part)
