"""The page on which a person answers questions about images, one at a time. The server is `apps/labeling/server.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from facemask_train.report import html


@dataclass(frozen=True, slots=True)
class Choice:
    """A possible answer: the key to press, which is a lowercase letter, and a text."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one image.

    Attributes:
        detail: a sentence below it.
        alt: what the image shows, for those who cannot see it.
    """

    text: str
    detail: str
    alt: str
    choices: tuple[Choice, ...]


def page(title: str, lede: str, questions: Sequence[Question], answers: Mapping[int, str], *, nonce: str) -> bytes:
    """Return the page.

    Args:
        answers: the keys of the choices that were made already, by number of the question.
        nonce: allows the page's own script.
    """
    rows = [
        {
            "text": one.text,
            "detail": one.detail,
            "alt": one.alt,
            "choices": [{"key": choice.key, "text": choice.text} for choice in one.choices],
            "answer": answers.get(number, ""),
        }
        for number, one in enumerate(questions)
    ]
    data = json.dumps(rows).replace("<", "\\u003c")  # a file name must not end the script element
    # markup: JSON without "<" in an element that is not executed
    block = html.labeling(Markup(data), len(rows), nonce)
    return html.page(title, (), lede=lede, opening=(block,), nonce=nonce)
