"""Names: what is accepted, what is refused, and which keys they lead to."""

import pytest

from handler.errors import InvalidRequestError
from handler.registry.names import alias_key, file_key, model_name

VERSION = "v0123456789abcdef"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gpt2", "gpt2"),
        ("openai-community/gpt2", "gpt2"),
        ("distilbert/DistilGPT2", "distilgpt2"),
        ("/models/My.Model_1/", "my.model_1"),
        ("./somewhere/../else/tiny", "tiny"),
    ],
)
def test_a_model_is_named_after_the_last_component_of_its_source(source: str, name: str) -> None:
    assert model_name(source) == name


@pytest.mark.parametrize("source", ["", "/", "someone/-model", "someone/two words", "someone/" + "a" * 65, "a/modèle"])
def test_a_source_that_gives_no_name_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # an empty source is the working directory's name
    with pytest.raises(InvalidRequestError, match="name must match") as refused:
        model_name(source)
    assert refused.value.param == "name"


def test_keys_follow_the_registry_layout() -> None:
    assert file_key("gpt2", VERSION, "config.json") == f"models/gpt2/versions/{VERSION}/config.json"
    assert file_key("gpt2", VERSION, "manifest.json") == f"models/gpt2/versions/{VERSION}/manifest.json"
    assert alias_key("gpt2", "live") == "models/gpt2/aliases/live"


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        (("GPT2", VERSION, "config.json"), "name"),
        (("..", VERSION, "config.json"), "name"),
        (("gpt2", "live", "config.json"), "version"),
        (("gpt2", "v0123456789ABCDEF", "config.json"), "version"),
        (("gpt2", VERSION + "0", "config.json"), "version"),
        (("gpt2", VERSION, "../config.json"), "path"),
        (("gpt2", VERSION, "/etc/passwd"), "path"),
        (("gpt2", VERSION, "config.json\n"), "path"),
    ],
)
def test_parts_that_do_not_match_are_refused(parts: tuple[str, str, str], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        file_key(*parts)
    assert refused.value.param == param


def test_an_alias_is_a_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"alias must match .*, not 'a/b'"):
        alias_key("gpt2", "a/b")
