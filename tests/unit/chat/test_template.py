"""Chat templates: the plain one, a model's own, and hostile ones."""

from collections.abc import Iterator

import pytest

import handler.chat.renderer
from handler.chat.renderer import Renderer
from handler.chat.template import FILE, PLAIN_STOPS, ChatTemplate
from handler.errors import CorruptModelError, InvalidRequestError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who are you? {{ 7 * 7 }}"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "Whose?"},
]

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


def template(text: str, renderer: Renderer) -> ChatTemplate:
    return ChatTemplate.of({FILE: memoryview(text.encode())}, renderer)


def test_the_plain_template_names_who_speaks_and_leaves_the_last_word_to_the_model(renderer: Renderer) -> None:
    plain = ChatTemplate.of({}, renderer)
    assert plain.prompt(MESSAGES, begin=END, end=END) == (
        "System: Be brief.\nUser: Who are you? {{ 7 * 7 }}\nAssistant: A model.\nUser: Whose?\nAssistant:"
    )
    assert plain.stops == PLAIN_STOPS


def test_a_models_own_template_takes_its_place(renderer: Renderer) -> None:
    own = template(
        "{{ bos_token }}{% for message in messages %}{% if loop.index > 2 %}{% break %}{% endif %}\n"
        "<{{ message['role'] }}>{{ message['content'] | trim | tojson }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
        renderer,
    )
    assert own.stops == ()
    assert own.prompt(MESSAGES, begin=END, end=END) == (
        f'{END}<system>"Be brief."{END}\n<user>"Who are you? {{{{ 7 * 7 }}}}"{END}\n<assistant>'
    )


def test_a_template_that_is_no_text_is_corrupt(renderer: Renderer) -> None:
    with pytest.raises(CorruptModelError, match=r"chat_template\.jinja is not UTF-8"):
        ChatTemplate.of({FILE: memoryview(b"\xff")}, renderer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{% for", "unexpected"),
        ("{{ messages[0].content.nothing.at.all }}", "has no attribute 'nothing'"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader for this environment"),
        ("{{ range(10 ** 9) | list }}", "Range too big"),
        ("{{ 'a' * 10 ** 10 }}", "more memory than it may have"),
        ("{{ 'a' * 2_000_000 }}", "more than 1,000,000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
    ],
)
def test_what_a_template_must_not_do_is_told_and_does_no_harm(renderer: Renderer, text: str, message: str) -> None:
    with pytest.raises(
        InvalidRequestError, match="`messages` cannot be rendered by the model's chat template: "
    ) as caught:
        template(text, renderer).prompt(MESSAGES, begin=END, end=END)
    assert message in caught.value.message
    assert len(caught.value.message) < 300
    assert template("still {{ 'here' }}", renderer).prompt(MESSAGES, begin=END, end=END) == "still here"


@pytest.mark.parametrize(
    "text",
    [
        "{{ 3 ** (10 ** 9) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_takes_for_ever_is_stopped(
    renderer: Renderer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler.chat.renderer, "RENDER_SECONDS", 0.3)
    with pytest.raises(InvalidRequestError, match=r"it takes longer than 0\.3 s"):
        template(text, renderer).prompt(MESSAGES, begin=END, end=END)
    monkeypatch.setattr(handler.chat.renderer, "RENDER_SECONDS", 10)
    assert template("still {{ 'here' }}", renderer).prompt(MESSAGES, begin=END, end=END) == "still here"


def test_a_template_sees_nothing_of_our_environment(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fresh = Renderer()
    assert (
        template("{{ environ is defined }}{{ os is defined }}", fresh).prompt(MESSAGES, begin=END, end=END)
        == "FalseFalse"
    )
    fresh.close()
