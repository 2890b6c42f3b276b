"""A report's page as a reader sees it."""

import re
from html.parser import HTMLParser

from sbikit.pages import write_report


class Text(HTMLParser):
    """Visible text, anchors, ids and image sources of a page; fails on tags that do not match."""

    VOID = {"meta", "link", "img", "source", "rect", "line", "circle", "br"}

    def __init__(self, html):
        super().__init__()
        self.words, self.ids, self.links, self.sources, self.open = [], [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.sources += [found[key] for key in ("src", "srcset") if key in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def section(html, anchor):
    """The text of a section."""
    start = html.index(f'<section id="{anchor}">')
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[start : html.index("</section>", start)]))


def sections(folder):
    """HTML, text and the anchors of a folder's report, written anew."""
    html = write_report(folder).read_text(encoding="utf-8")
    page = Text(html)
    return html, page, [i for i in page.ids if i != "verdict"]
