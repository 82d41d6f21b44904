"""Promoting and going back: past the gate or not, recorded, by two at the same time, and while versions are removed."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from handler.errors import ConflictError, CorruptModelError, InvalidRequestError, NotInRegistryError
from handler.registry.names import MANIFEST, alias_key, file_key, history_prefix
from lifecycle.aliases import Move, history
from lifecycle.checkpoint import Checkpoint
from lifecycle.promoting import promote, rollback
from lifecycle.publishing import publish
from lifecycle.quality import QualityError
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.evaluations import evaluated
from tests.functional.lifecycle.meddling import InterruptedPublisherError, interrupt, meddled


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Checkpoint]:
    return [checkpoint(tmp_path / f"c{seed}", seed=seed) for seed in range(3)]


@pytest.fixture
def versions(store: WritableStore, checkpoints: list[Checkpoint]) -> list[str]:
    """Three published versions, the later ones a little worse on the text that all were evaluated on."""
    perplexities = [{"emma": 700.0, "moby": 900.0}, {"emma": 705.0, "moby": 900.0}, {"emma": 690.0, "moby": 930.0}]
    return [
        publish(evaluated(made, values).folder, store, "tiny").version
        for made, values in zip(checkpoints, perplexities, strict=True)
    ]


def where(store: WritableStore) -> dict[str, str]:
    return {alias: state.version for alias, state in store.aliases("tiny").items()}


def told(move: Move) -> tuple[int, str, str | None, str]:
    return move.serial, move.action, move.before, move.version


def test_an_alias_moves_from_version_to_version_and_every_move_is_recorded(
    store: WritableStore, versions: list[str]
) -> None:
    first, second, _ = versions
    moves = [
        promote(store, "tiny", first, "live", why="the first"),
        promote(store, "tiny", second, "live"),
        rollback(store, "tiny", "live", why="it rhymes"),
    ]
    promote(store, "tiny", second, "canary")
    assert where(store) == {"live": first, "canary": second}
    assert history(store, "tiny", "live") == moves
    assert [told(move) for move in moves if move] == [
        (1, "promote", None, first),
        (2, "promote", first, second),
        (3, "rollback", second, first),
    ]
    assert [move.why for move in moves if move] == ["the first", "", "it rhymes"]
    assert [move.verdict for move in moves if move] == [
        "the first version; perplexity per word 700.00 on emma, 900.00 on moby",
        f"perplexity per word 700.00 ({first}) -> 705.00 on emma, +0.71%; at most +1.00% on each of 2 shared text(s)",
        "",
    ]
    assert not any(move.forced for move in moves if move)


def test_promoting_what_is_live_writes_nothing(store: WritableStore, versions: list[str]) -> None:
    promote(store, "tiny", versions[0], "live")
    read_only = meddled(store, "put_object", None, interrupt)
    assert promote(read_only, "tiny", versions[0], "live") is None


def test_going_back_twice_leads_two_promotions_back(store: WritableStore, versions: list[str]) -> None:
    for version in versions:
        promote(store, "tiny", version, "live", force=True)
    assert rollback(store, "tiny", "live").version == versions[1]
    assert rollback(store, "tiny", "live").version == versions[0]
    with pytest.raises(InvalidRequestError, match=f"live of tiny points to {versions[0]}, and nothing was promoted"):
        rollback(store, "tiny", "live")
    promote(store, "tiny", versions[2], "live", force=True)
    assert rollback(store, "tiny", "live").version == versions[0]


def test_without_an_alias_there_is_nothing_to_go_back_from(store: WritableStore, versions: list[str]) -> None:
    with pytest.raises(NotInRegistryError, match="tiny has no alias live"):
        rollback(store, "tiny", "live")
    assert history(store, "tiny", "live") == []


def test_an_alias_written_by_hand_can_be_moved_and_taken_back(store: WritableStore, versions: list[str]) -> None:
    key = alias_key("tiny", "live")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=versions[0].encode())
    promote(store, "tiny", versions[1], "live")
    assert rollback(store, "tiny", "live").version == versions[0]
    store.client.put_object(Bucket=store.bucket, Key=key, Body=versions[0].encode())  # and its record is gone
    promote(store, "tiny", versions[1], "live")
    assert [move.serial for move in history(store, "tiny", "live")] == [1, 2]


def test_a_worse_version_is_refused_unless_it_is_forced(store: WritableStore, versions: list[str]) -> None:
    promote(store, "tiny", versions[0], "live")
    refusal = rf"of tiny stays where it is: perplexity per word 900\.00 \({versions[0]}\) -> 930\.00 on moby, \+3\.33%"
    with pytest.raises(QualityError, match=refusal):
        promote(store, "tiny", versions[2], "live")
    with pytest.raises(QualityError, match=refusal):  # other aliases are held to what is live
        promote(store, "tiny", versions[2], "canary")
    assert where(store) == {"live": versions[0]}

    forced = promote(store, "tiny", versions[2], "live", why="its prose", force=True)
    assert forced is not None
    assert (forced.forced, forced.why) == (True, "its prose")
    assert "+3.33%; at most +1.00%" in forced.verdict
    assert history(store, "tiny", "live")[-1] == forced


def test_the_limit_is_a_matter_of_choice_and_of_record(store: WritableStore, versions: list[str]) -> None:
    promote(store, "tiny", versions[0], "live")
    move = promote(store, "tiny", versions[2], "live", max_rise=0.05)
    assert move is not None
    assert not move.forced
    assert move.verdict.endswith("+3.33%; at most +5.00% on each of 2 shared text(s)")


def test_what_nobody_evaluated_is_refused(store: WritableStore, checkpoints: list[Checkpoint]) -> None:
    first, second = (publish(made.folder, store, "tiny").version for made in checkpoints[:2])
    with pytest.raises(QualityError, match=f"nobody evaluated {first}: `lifecycle evaluate` its checkpoint folder"):
        promote(store, "tiny", first, "live")
    assert promote(store, "tiny", first, "live", force=True) is not None
    publish(evaluated(checkpoints[1], {"emma": 700.0}).folder, store, "tiny")
    with pytest.raises(QualityError, match=f"nobody evaluated {first}, which is live"):
        promote(store, "tiny", second, "live")
    publish(evaluated(checkpoints[0], {"moby": 900.0}).folder, store, "tiny")
    with pytest.raises(
        QualityError, match=f"{second} was evaluated on emma, and {first}, which is live, on moby: evaluate both"
    ):
        promote(store, "tiny", second, "live")


@pytest.mark.parametrize("before", [False, True], ids=["new alias", "alias there"])
def test_of_two_promoters_one_wins_and_the_other_hears_of_it(
    store: WritableStore, versions: list[str], *, before: bool
) -> None:
    if before:
        promote(store, "tiny", versions[0], "live")
    moved: list[Move | None] = []
    overtaken = meddled(
        store, "put_object", 2 if before else 1, lambda: moved.append(promote(store, "tiny", versions[1], "live"))
    )
    came_from = versions[0] if before else "nothing"
    with pytest.raises(
        ConflictError, match=f"live of tiny was moved by somebody else .* from {came_from} to {versions[2]}"
    ):
        promote(overtaken, "tiny", versions[2], "live", force=True)
    assert where(store) == {"live": versions[1]}
    assert history(store, "tiny", "live")[-1:] == moved  # and of the other's move there is no record
    assert len(history(store, "tiny", "live")) == 1 + before


def test_many_promoters_at_once_leave_one_unbroken_history(store: WritableStore, versions: list[str]) -> None:
    def run(number: int) -> None:
        for turn in range(4):
            with suppress(ConflictError):
                promote(store, "tiny", versions[(number + turn) % 3], "live", why=f"{number}", force=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    moves = history(store, "tiny", "live")
    assert [move.serial for move in moves] == list(range(1, len(moves) + 1))
    assert [move.before for move in moves] == [None, *(move.version for move in moves[:-1])]
    assert where(store) == {"live": moves[-1].version}


def test_a_mover_who_dies_before_the_move_leaves_the_history_as_it_was(
    store: WritableStore, versions: list[str]
) -> None:
    promote(store, "tiny", versions[0], "live")
    before = history(store, "tiny", "live")
    with pytest.raises(InterruptedPublisherError):
        promote(meddled(store, "put_object", 2, interrupt), "tiny", versions[1], "live")
    assert history(store, "tiny", "live") == before
    promote(store, "tiny", versions[1], "live")
    assert [move.serial for move in history(store, "tiny", "live")] == [1, 2]


def test_a_write_whose_answer_was_lost_is_no_conflict(store: WritableStore, versions: list[str]) -> None:
    """boto3 sends the write again, and S3 refuses it because it was already done."""

    def lost_and_asked_again() -> None:
        raise ClientError(
            {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": 412}},  # type: ignore[typeddict-item]
            "PutObject",
        )

    promote(meddled(store, "put_object", 1, lost_and_asked_again, after=True), "tiny", versions[0], "live")
    assert where(store) == {"live": versions[0]}


def test_a_version_that_is_not_published_cannot_be_promoted(store: WritableStore, versions: list[str]) -> None:
    with pytest.raises(NotInRegistryError, match=r"versions/v0123456789abcdef/manifest\.json does not exist"):
        promote(store, "tiny", "v0123456789abcdef", "live")
    with pytest.raises(InvalidRequestError, match="version must be v and 16 hex digits, not 'latest'"):
        promote(store, "tiny", "latest", "live")
    with pytest.raises(InvalidRequestError, match="why may have at most 1000 characters; given: 1001"):
        promote(store, "tiny", versions[0], "live", why="x" * 1001)
    assert where(store) == {}


def test_a_version_with_a_missing_file_cannot_be_promoted_nor_gone_back_to(
    store: WritableStore, versions: list[str]
) -> None:
    promote(store, "tiny", versions[0], "live")
    promote(store, "tiny", versions[1], "live")
    store.delete(file_key("tiny", versions[0], "tokenizer.json"))
    with pytest.raises(NotInRegistryError, match=r"tokenizer\.json does not exist"):
        promote(store, "tiny", versions[0], "canary")
    with pytest.raises(NotInRegistryError, match=r"tokenizer\.json does not exist"):
        rollback(store, "tiny", "live")
    assert where(store) == {"live": versions[1]}


@pytest.mark.parametrize("before", [False, True], ids=["new alias", "alias there"])
def test_an_alias_does_not_stay_on_a_version_that_was_removed_meanwhile(
    store: WritableStore, versions: list[str], *, before: bool
) -> None:
    if before:
        promote(store, "tiny", versions[0], "live")
    collected = meddled(
        store, "put_object", 2 if before else 1, lambda: store.delete(file_key("tiny", versions[1], MANIFEST))
    )
    with pytest.raises(ConflictError, match=f"{versions[1]} of tiny was removed by a garbage collection"):
        promote(collected, "tiny", versions[1], "live")
    assert where(store) == ({"live": versions[0]} if before else {})
    assert [move.action for move in history(store, "tiny", "live")] == (
        ["promote", "promote", "take back"] if before else ["promote"]
    )


@pytest.mark.parametrize(
    "record",
    [
        "nonsense",
        "[]",
        "{}",
        json.dumps({"serial": "1", "at": "now", "by": "me", "action": "promote", "before": None, "version": "v" * 17}),
        json.dumps(
            {"serial": 1, "at": "now", "by": "me", "action": "steal", "before": None, "version": "v" + "0" * 16}
        ),
    ],
)
def test_a_damaged_record_is_told(store: WritableStore, versions: list[str], record: str) -> None:
    for key in (alias_key("tiny", "live"), history_prefix("tiny", "live") + "00000001.json"):
        body = record if key.endswith("json") else f"{versions[0]}\n{record}"
        store.client.put_object(Bucket=store.bucket, Key=key, Body=body.encode())
        with pytest.raises(CorruptModelError, match=f"s3://models-bucket/{key} must hold the record of a move"):
            history(store, "tiny", "live")
        store.client.put_object(Bucket=store.bucket, Key=key, Body=versions[0].encode())
