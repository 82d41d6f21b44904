"""Training with S3: text is read from there, a run moves from machine to machine by it, a published model is tuned."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from handler.errors import InvalidRequestError, NotInRegistryError
from lifecycle import published
from lifecycle.data.preparing import prepare
from lifecycle.data.splits import Shares
from lifecycle.promoting import LIVE, promote
from lifecycle.published import checkpoint_folder
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.trainer import train
from tests.books import write_books
from tests.checkpoints import checkpoint
from tests.pages import write_pages
from tests.runs import interrupted, log_of

SETTINGS = TrainingSettings(
    hold_out=("tower",), vocabulary=300, context=16, width=16, layers=2, heads=2, steps=12, warmup=2, eval_every=4,
    precision="fp32",
)  # fmt: skip
STATE = "s3://models-bucket/runs/one"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The same bits need the same number of threads."""
    torch.set_num_threads(1)


def test_a_run_goes_on_on_another_machine(tmp_path: Path, store: WritableStore) -> None:
    texts = write_books(tmp_path / "texts")
    train(texts, tmp_path / "whole", SETTINGS)

    with interrupted(10), pytest.raises(KeyboardInterrupt):
        train(texts, tmp_path / "first", SETTINGS, state=STATE)
    shutil.rmtree(tmp_path / "first")
    train(texts, tmp_path / "second", SETTINGS, state=STATE)

    assert log_of(tmp_path / "second") == log_of(tmp_path / "whole")
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "second"))
    assert one.read_bytes() == other.read_bytes()
    listed = store.client.list_objects_v2(Bucket=store.bucket, Prefix="runs/")["Contents"]
    assert [item["Key"] for item in listed] == [
        "runs/one/log.jsonl",
        "runs/one/settings.json",
        "runs/one/state.safetensors",
    ]


def test_what_lies_in_s3_counts(tmp_path: Path, store: WritableStore) -> None:
    """A machine comes back to a run that another one has finished, and takes no step of it again."""
    texts = write_books(tmp_path / "texts")
    with interrupted(5), pytest.raises(KeyboardInterrupt):
        train(texts, tmp_path / "here", SETTINGS, state=STATE)
    train(texts, tmp_path / "there", SETTINGS, state=STATE)

    with interrupted(0):
        train(texts, tmp_path / "here", SETTINGS, state=STATE)

    assert log_of(tmp_path / "here") == log_of(tmp_path / "there")


def test_another_run_in_s3_is_refused(tmp_path: Path, store: WritableStore) -> None:
    texts = write_books(tmp_path / "texts")
    train(texts, tmp_path / "first", SETTINGS, state=STATE)

    with pytest.raises(InvalidRequestError, match=r"dropout was 0\.1 and is 0\.3"):
        train(texts, tmp_path / "second", dataclasses.replace(SETTINGS, dropout=0.3), state=STATE)


def test_a_bucket_that_is_not_there_is_told(tmp_path: Path, store: WritableStore) -> None:
    texts = write_books(tmp_path / "texts")

    with pytest.raises(NotInRegistryError, match=r"s3://no-such-bucket/runs/settings\.json"):
        train(texts, tmp_path / "out", SETTINGS, state="s3://no-such-bucket/runs")


def test_text_in_s3_is_the_text_in_a_folder(tmp_path: Path, store: WritableStore) -> None:
    shares = Shares(0.2, 0.2)
    folder = write_books(tmp_path / "texts")
    write_pages(folder / "pages.jsonl", 40)
    (folder / "notes.md").touch()
    for path in folder.iterdir():
        store.client.upload_file(str(path), store.bucket, f"corpus/{path.name}")

    prepare(f"s3://{store.bucket}/corpus/", tmp_path / "remote", vocabulary=300, shares=shares)
    prepare(str(folder), tmp_path / "local", vocabulary=300, shares=shares)

    names = {path.name for path in (tmp_path / "local").iterdir()} - {"report.json"}
    for name in names:
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name
    for prefix in ("nothing/", "corpus/notes"):
        with pytest.raises(InvalidRequestError, match=f"s3://models-bucket/{prefix} holds no"):
            prepare(f"s3://{store.bucket}/{prefix}", tmp_path / "out")


def test_a_published_model_is_a_folder_again(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "CACHE", tmp_path / "cache")
    original = checkpoint(tmp_path / "model")
    manifest = publish(original.folder, store, "tiny")
    promote(store, "tiny", manifest.version, LIVE, why="a test", force=True)

    folder = checkpoint_folder("tiny@live", store.bucket)

    assert folder == tmp_path / "cache" / "tiny" / manifest.version
    for name in (*original.files, "provenance.json"):
        assert (folder / name).read_bytes() == (original.folder / name).read_bytes()
    # What is there is not fetched again: a version never changes.
    store.client.delete_object(Bucket=store.bucket, Key=f"models/tiny/versions/{manifest.version}/manifest.json")
    assert checkpoint_folder("tiny@live", store.bucket) == folder
    with pytest.raises(NotInRegistryError, match="aliases/canary does not exist"):
        checkpoint_folder("tiny@canary", store.bucket)
