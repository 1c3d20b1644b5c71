"""Checks an HTML page strictly: every tag is closed in order, and nothing is loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset(["meta", "link", "img", "br", "hr", "input", "wbr"])


@dataclass
class Page(HTMLParser):
    """What a page holds; building it raises for what is not well nested."""

    html: str
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        assert self.html.startswith("<!doctype html>")
        self.feed(self.html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1:] != ["style"]:
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for one, name, value in self.attributes if (one, name) == (tag, attribute)]


def read_page(content: bytes) -> Page:
    """Parse a page and hold it to what every page promises: no script, nothing from outside, anchors that lead."""
    page = Page(content.decode("utf-8"))
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for tag, name, value in page.attributes:
        if name in ("src", "srcset", "href", "action", "data", "poster"):
            assert value.startswith(("data:", "#")), f"<{tag} {name}={value!r}> is from elsewhere"
    assert "url(" not in page.html
    assert "@import" not in page.html
    identities = [value for _, name, value in page.attributes if name == "id"]
    assert len(identities) == len(set(identities))
    assert {link.removeprefix("#") for link in page.values("a", "href")} <= set(identities)
    assert len(page.values("img", "alt")) == page.tags.count("img")
    return page
