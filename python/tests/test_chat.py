# SPDX-License-Identifier: MIT
"""Conversations, in a template's form."""

import pytest

import pith

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture
def template():
    return pith.ChatTemplate(TEMPLATE)


def test_an_answer(model, template):
    pieces = []
    answer = model.chat(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who lived in the old house?"}],
        template=template,
        on_text=pieces.append,
        max_tokens=12,
        temperature=0,
        policy="chain(gate,h2o(rows=1024))",
    )
    assert answer.text == "".join(pieces) and answer.text
    assert answer.finish == "length" and len(answer.tokens) == 12
    assert answer.stats["policy"].startswith("gate(tau=0),h2o(rows=1024")


def test_a_conversation_goes_on(model, template):
    options = dict(max_tokens=10, temperature=0)
    chat = model.conversation("Be brief.", template=template, policy="none")
    first = chat.ask("Who lived in the old house?", **options)
    second = chat.ask("And who lives there now?", **options)
    assert [role for role, _ in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert second.prompt_tokens < first.prompt_tokens + 30
    assert chat.messages[2][1] == first.text and chat.messages[4][1] == second.text
    messages = [{"role": role, "content": text} for role, text in chat.messages[:4]]
    again = model.chat(messages, template=template, policy="none", **options)
    assert again.text
    chat.reset()
    assert chat.messages == [("system", "Be brief.")]


def test_what_a_callback_raises_ends_the_answer(model, template):
    def fails(text):
        raise RuntimeError("enough")

    chat = model.conversation(template=template)
    with pytest.raises(RuntimeError, match="enough"):
        chat.ask("Hello", on_text=fails, max_tokens=20)
    assert chat.ask("Hello", max_tokens=5).text is not None


def test_refuses(model, template):
    with pytest.raises(pith.Error):
        model.chat([{"role": "user", "content": "Hello"}])  # the model has no template
    for messages in ([], [{"role": "assistant", "content": "I"}], [{"role": "user"}], [{"role": "user", "content": 3}]):
        with pytest.raises(pith.ArgumentError):
            model.chat(messages, template=template)
    with pytest.raises(pith.Error):
        pith.ChatTemplate("{% for %}")
        model.chat([{"role": "user", "content": "Hello"}], template=pith.ChatTemplate("{% for %}"))


def test_a_real_model(smollm2):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    answer = smollm2.chat(messages, max_tokens=20, temperature=0)
    assert len(answer.text) > 20
    ids = smollm2.tokenizer.chat(messages)
    stream = smollm2.generate(ids, max_tokens=20, temperature=0)
    assert stream.text() == answer.text
    text = smollm2.tokenizer.render(messages)
    assert smollm2.tokenizer.encode(text, "parse_only") == ids
    assert "<|im_start|>user\nWhat is the capital of France?<|im_end|>" in text
