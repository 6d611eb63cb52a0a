"""Chat templates: rendered as `transformers` renders them, or that chat alone is refused."""

import datetime

import pytest

from radixroute.request.chat import NO_DATE, ChatMessage, ChatTemplate
from radixroute.request.errors import InvalidRequest
from tests.request import samples

CHAT = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "<b>hello</b> 'world' é"),
    ChatMessage("assistant", "hi"),
    ChatMessage("user", "more"),
)
TEMPLATES = {
    "generation": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}\n{% else %}[{{ m.content }}]{% endif %}{% endfor %}"
    ),
    "tojson": (
        "{{ messages | tojson(indent=2, sort_keys=True) }}"
        "{{ messages[1] | tojson(separators=(',', ':'), ensure_ascii=True) }}"
        "{{ {'b': 1, 'a': '<'} | tojson }}"
    ),
    "loop controls": (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}"
        "{% if m.role == 'assistant' %}{% break %}{% endif %}{% endfor %}"
    ),
    "white space": (
        "{% for m in messages %}\n    {% if true %}\n  {{ m.role }}\n    {% endif %}\n"
        "{% endfor %}\n"
    ),
    "namespace": (
        "{% set ns = namespace(n=0, self=2) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% endfor %}{{ ns.n }}{{ dict(a=1) }}{{ range(3) | list }}{{ 3 * 4 ** 2 }}{{ '-' * 5 }}"
    ),
    "macro": (
        "{% macro turn(m) -%}<{{ m['role'] | upper }}>{{ m['content'] | trim }}{%- endmacro %}"
        "{{ messages | map(attribute='role') | join(',') }}{% for m in messages[1:] %}"
        "{{ turn(m) }}{% endfor %}{% if add_generation_prompt %}GO{% endif %}{{ bos_token }}"
    ),
    "tools": "{% if tools is not none %}x{% endif %}{% if documents %}y{% endif %}{{ nothing }}",
}
SPECIALS = {"bos_token": "<s>"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_what_transformers_renders(name):
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    expected = utils._compile_jinja_template(TEMPLATES[name]).render(
        messages=[{"role": one.role, "content": one.content} for one in CHAT],
        tools=None,
        documents=None,
        add_generation_prompt=True,
        **SPECIALS,
    )
    assert ChatTemplate(TEMPLATES[name], SPECIALS).render(CHAT) == expected


@pytest.mark.parametrize("guarded", [True, False])
def test_the_date_is_the_callers_and_a_fixed_one_without(guarded):
    """A clock here would end every shared prefix at midnight without anybody's asking."""
    asks = "{{ strftime_now('%d %b %Y %H:%M') }}"
    source = f"{{% if strftime_now is defined %}}{asks}{{% endif %}}" if guarded else asks
    template = ChatTemplate(source, {})
    assert template.render(CHAT) == NO_DATE.strftime("%d %b %Y 00:00")
    assert template.render(CHAT, today=datetime.date(2031, 2, 3)) == "03 Feb 2031 00:00"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for x in %}", "line 1"),
        ("{% unheard_of %}", "unheard_of"),
        ("{{ 'x' | unheard_of }}", "unheard_of"),
        ("{% for i in range(2) %}" * 40 + "{% endfor %}" * 40, "compile"),
        ("{{ " + "(" * 5000 + " }}", "compile"),
        ("x" * (1024 * 1024 + 1), "characters"),
    ],
    ids=["syntax", "tag", "filter", "nesting", "depth", "size"],
)
def test_a_template_that_does_not_compile_refuses_chats_and_not_the_model(source, says):
    tokenizer = samples.byte_level(chat_template=source)
    with pytest.raises(InvalidRequest, match=says) as caught:
        tokenizer.encode_chat(CHAT)
    assert "send text or token_ids" in str(caught.value)
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10 ** 9 }}",
        "{{ (messages * 10 ** 7) | length }}",
        "{{ 10 ** (10 ** 8) }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set x = 'x' * 100000 %}{% for i in range(1000) %}{{ x }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ nothing.at_all }}",
        "{{ messages[99].content }}",
        "{{ messages[0].content() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ namespace(__class__=1) }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ raise_exception('no') }}",
        "{% include 'x' %}",
    ],
)
def test_what_goes_wrong_in_a_template_refuses_that_chat(source):
    with pytest.raises(InvalidRequest, match="template refuses"):
        ChatTemplate(source, {}).render(CHAT)
