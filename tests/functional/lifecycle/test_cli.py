"""The command line: what a person types, sees and is told."""

import io
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from handler.api.keys import KeysTable
from lifecycle import cli, collecting, watching
from lifecycle.card import model_card
from lifecycle.checkpoint import read_checkpoint
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint, old_style
from tests.evaluations import evaluated
from tests.functional.lifecycle.test_watching import answering


def lifecycle(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run a command in this process; the exit status."""
    monkeypatch.setattr(sys, "argv", ["lifecycle", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    assert isinstance(code, int | None)
    return code or 0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, store: WritableStore) -> None:
    monkeypatch.setenv("MODELS_BUCKET", store.bucket)
    monkeypatch.setenv("KEYS_TABLE", "api-keys")
    monkeypatch.setenv("COLUMNS", "200")


def test_from_a_folder_to_a_live_model(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old_style(tmp_path / "source")
    assert lifecycle(monkeypatch, "import", tmp_path / "source", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'out'}: source, 37,120 parameters in F32, 300 tokens, context of 64\n"
    )

    evaluated(read_checkpoint(tmp_path / "out"), {"emma": 700.0})
    assert lifecycle(monkeypatch, "publish", tmp_path / "out", "--name", "tiny") == 0
    version = capsys.readouterr().out.removesuffix("\n")
    assert store.versions("tiny") == [version]

    assert lifecycle(monkeypatch, "promote", "tiny", version) == 0
    assert lifecycle(monkeypatch, "promote", "tiny", version, "--alias", "canary") == 0
    assert lifecycle(monkeypatch, "promote", "tiny", version) == 0
    assert capsys.readouterr().out == (
        f"live of tiny: nothing -> {version}\nthe first version; perplexity per word 700.00 on emma\n"
        f"canary of tiny: nothing -> {version}\n{version} is what is live\n"
        f"live of tiny points to {version} already\n"
    )

    assert lifecycle(monkeypatch, "list") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if version in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "tiny",
        version,
        "canary, live",
        store.manifest("tiny", version).created,
        "37,120",
        "F32",
        "source",
    ]


def test_there_and_back_again(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (publish(checkpoint(tmp_path / f"c{i}", seed=i).folder, store, "tiny").version for i in range(2))
    assert lifecycle(monkeypatch, "history", "tiny") == 0
    assert lifecycle(monkeypatch, "promote", "tiny", first, "--force", "--why", "a [test]") == 0
    assert lifecycle(monkeypatch, "promote", "tiny", second, "--force") == 0
    assert lifecycle(monkeypatch, "rollback", "tiny", "--why", "worse") == 0
    nobody = "FORCED, although nobody evaluated {}: `lifecycle evaluate` its checkpoint folder, and publish that again,"
    assert capsys.readouterr().out == (
        f"live of tiny has no history\n"
        f"live of tiny: nothing -> {first}\n{nobody.format(first)} which adds the evaluation\n"
        f"live of tiny: {first} -> {second}\n{nobody.format(second)} which adds the evaluation\n"
        f"live of tiny: {second} -> {first}\n"
    )

    monkeypatch.setenv("COLUMNS", "400")
    assert lifecycle(monkeypatch, "history", "tiny") == 0
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    assert [row[2:6] for row in rows] == [
        ["promote", "nothing", first, "a [test]"],
        ["promote", first, second, ""],
        ["rollback", second, first, "worse"],
    ]
    assert [row[6].partition(" ")[0] for row in rows] == ["FORCED:", "FORCED:", ""]


def test_a_promotion_is_waited_for(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    version = publish(checkpoint(tmp_path / "c").folder, store, "tiny").version
    with answering(None, version) as address:
        assert lifecycle(monkeypatch, "promote", "tiny", version, "--force", "--wait", address) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"{address} answers with no version",
        f"{address} answers with {version}",
        f"{version} has arrived",
    ]


def test_what_nothing_needs_is_removed_when_it_is_confirmed(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = publish(checkpoint(tmp_path / "c").folder, store, "tiny").version
    assert lifecycle(monkeypatch, "gc", "tiny", "--yes") == 0
    assert capsys.readouterr().out == f"stays: {version} (written less than 1 day ago)\nthere is nothing to remove\n"

    monkeypatch.setattr(collecting, "GRACE", timedelta(0))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert lifecycle(monkeypatch, "gc", "tiny", "--dry-run") == 0
    assert lifecycle(monkeypatch, "gc", "tiny") == 1
    assert capsys.readouterr().out == f"goes: {version}\n" * 2 + "Remove it? [y/N]: "
    assert store.versions("tiny") == [version]
    assert lifecycle(monkeypatch, "gc", "tiny", "--yes") == 0
    assert store.versions("tiny") == []


def test_a_card_is_printed(
    tmp_path: Path, store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = publish(checkpoint(tmp_path / "c").folder, store, "tiny").version
    assert lifecycle(monkeypatch, "card", "tiny", version) == 0
    assert capsys.readouterr().out == model_card(store, "tiny", version)


def test_an_empty_bucket_is_told(
    store: WritableStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lifecycle(monkeypatch, "list") == 0
    assert capsys.readouterr().out == "models-bucket holds no published model\n"


def test_names_to_type_again_are_whole_in_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lifecycle(monkeypatch, "publish", checkpoint(tmp_path / "out").folder, "--name", "tiny")
    version = capsys.readouterr().out.strip()
    monkeypatch.setenv("COLUMNS", "80")
    lifecycle(monkeypatch, "list")
    assert version in capsys.readouterr().out

    lifecycle(monkeypatch, "promote", "tiny", version, "--force")
    capsys.readouterr()
    lifecycle(monkeypatch, "history", "tiny")
    told = capsys.readouterr().out
    assert version in told
    assert "…" not in told


def test_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    boto3.client("dynamodb").create_table(
        TableName="api-keys",
        KeySchema=[{"AttributeName": "key_hash", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key_hash", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    limits = ("--requests-per-minute", "60", "--tokens-per-day", "123456")
    assert lifecycle(monkeypatch, "keys", "create", "alice [laptop]", *limits) == 0
    created = capsys.readouterr()
    key = created.out.removesuffix("\n")
    found = KeysTable("api-keys").find(key)
    assert found is not None
    assert (found.requests_per_minute, found.tokens_per_day) == (60, 123_456)
    key_id = found.id
    assert created.err == f"key {key_id} for alice [laptop]; it cannot be shown again\n"

    assert lifecycle(monkeypatch, "keys", "list") == 0
    listed = capsys.readouterr().out
    assert key_id in listed
    assert "alice [laptop]" in listed
    assert key not in listed

    assert lifecycle(monkeypatch, "keys", "revoke", key_id) == 0
    assert capsys.readouterr().out.startswith(f"key {key_id} for alice [laptop] is revoked since ")
    assert KeysTable("api-keys").find(key) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["promote", "tiny", "v0123456789abcdef"], "manifest.json does not exist: S3 answered 404"),
        (["promote", "tiny", "v0123456789abcdef", "--alarm", "x"], "alarm needs --wait, the address at which"),
        (["promote", "tiny", "v0123456789abcdef", "--wait", "ftp://x"], "wait must be an http or https address"),
        (["rollback", "tiny"], "tiny has no alias live"),
        (["history", "Tiny"], "name must match [a-z0-9][a-z0-9._-]{0,63}, not 'Tiny'"),
        (["card", "tiny", "v1"], "version must be v and 16 hex digits, not 'v1'"),
        (["gc", "tiny", "--bucket", "no-such-bucket"], "does not exist: S3 answered 404 NoSuchBucket"),
        (["promote", "Tiny", "v0123456789abcdef"], "name must match [a-z0-9][a-z0-9._-]{0,63}, not 'Tiny'"),
        (["publish", "/nowhere", "--name", "tiny"], "/nowhere is not a folder"),
        (["import", "/nowhere", "--out", "/tmp/never"], "/nowhere is not a folder with a config.json"),
        (["prepare", "/nowhere", "--out", "/tmp/never"], "source: /nowhere holds no *.txt or *.jsonl file"),
        (["prepare", "s3://no-such-bucket/x", "--out", "/tmp/never"], "s3://no-such-bucket/x does not exist"),
        (["train", "/nowhere", "--out", "/tmp/never"], "texts: /nowhere is not a folder with at least one *.txt file"),
        (["evaluate", "/nowhere", "--text", "/nowhere"], "/nowhere is not a folder"),
        (["compare", "/nowhere", "/nowhere"], "/nowhere is not a folder"),
        (["list", "--bucket", "no-such-bucket"], "s3://no-such-bucket/models/ does not exist"),
        (["keys", "list"], "The keys table 'api-keys' cannot be used"),
    ],
)
def test_what_went_wrong_is_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lifecycle(monkeypatch, *words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("words", [["list"], ["keys", "list"]])
def test_what_aws_needs_is_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert lifecycle(monkeypatch, *words) == 1
    error = capsys.readouterr().err
    assert "Unable to locate credentials" in error or "You must specify a region" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old_style(tmp_path / "source")
    (tmp_path / "file").touch()
    assert lifecycle(monkeypatch, "import", tmp_path / "source", "--out", tmp_path / "file" / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(tmp_path / "file") in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["publish"],
        ["prepare"],
        ["evaluate", "x"],
        ["promote", "tiny"],
        ["keys", "revoke"],
        ["nonsense"],
        ["list", "--x"],
    ],
)
def test_bad_usage_is_told_with_status_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lifecycle(monkeypatch, *words) == 2
    assert "Usage: lifecycle" in capsys.readouterr().err


def test_help_is_there_at_once() -> None:
    """No library that takes long to import is needed for it; a clock would measure the machine."""
    heavy = ["torch", "numpy", "transformers", "huggingface_hub", "boto3", "tokenizers"]
    program = (
        "import sys; from lifecycle import cli; sys.argv = ['lifecycle', '--help']\n"
        "try:\n    cli.main()\n"
        f"finally:\n    print('imported:', [name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    started = time.monotonic()
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert time.monotonic() - started < 5
    assert run.stderr == "imported: []\n"
    words = "import prepare train evaluate compare publish promote rollback gc list keys"
    for word in words.split():
        assert f" {word} " in run.stdout
