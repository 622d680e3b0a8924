"""Untrusted Markdown as harmless HTML.

Two locks, either of which would do: the parser knows no HTML and makes no image, and what it makes is cleaned by an
allow-list of tags, without attributes but for links to http, https and mailto.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_LONGEST = 50_000
_BUSIEST = 2000  # punctuation and line ends in one paragraph: the parser's time grows with their square
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_BUSY = re.compile(r"_|[^\w ]")
_TAGS = set(
    "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split()
)
_SCHEMES = {"http", "https", "mailto"}


def _image(self: RendererHTML, tokens: Sequence[Token], position: int, options: OptionsDict, env: EnvType) -> str:
    """An image as the text that it was written as: nothing is fetched from elsewhere."""
    token = tokens[position]
    return escape(f"![{token.content}]({token.attrGet('src') or ''})")


def _parser(breaks: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": breaks}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image)
    return parser


_PARSERS = {breaks: _parser(breaks) for breaks in (True, False)}


@lru_cache(maxsize=512)
def render(text: str, breaks: bool = True) -> str:
    """The text as HTML; as it stands, letter by letter, where its Markdown would take seconds to read.

    `breaks`: a line of the text is a line on the page, as in a chat; without, paragraphs are filled.
    """
    html = str(_PARSERS[breaks].render(text)) if _quick(text) else f"<pre>{escape(text)}</pre>"
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
        url_schemes=_SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def _quick(text: str) -> bool:
    if len(text) > _LONGEST:
        return False
    return all(len(_BUSY.findall(paragraph)) <= _BUSIEST for paragraph in _PARAGRAPH.split(text))
