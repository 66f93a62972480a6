"""Reads a report: what it shows, where its links lead, and whether each tag is closed."""

from html.parser import HTMLParser

FROM_TRAINING = ["data", "forward", "network", "learning", "levels", "along"]
LOOK = ["samples", "strips", "denoising", "timing"]
MEASURED = [
    "table1",
    "consistency",
    "interpolation",
    "reconstruction",
    "likelihood",
    "solvers",
    "evaluation",
    "compare",
    "memorisation",
]
NAMES = [*FROM_TRAINING, *LOOK, *MEASURED]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that each tag is closed in its turn, and gathers what the page loads and shows."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.figures, self.missing, self.text = [], [], [], [], ""
        self.ids, self.targets, self.contents, self.headings, self.alternatives = [], [], [], [], []
        self.language = None
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.targets) <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        links = [found[name] for name in ("src", "href", "srcset", "data") if name in found]
        self.loads += [link for link in links if not link.startswith("#")]
        self.ids += [found["id"]] if "id" in found else []
        self.targets += [link[1:] for link in links if link.startswith("#")]
        self.contents += [link[1:] for link in links if "nav" in self.open]
        self.headings += [tag] if tag in ("h1", "h2", "h3") else []
        self.alternatives += [found["alt"]] if tag == "img" else []
        self.language = found.get("lang", self.language)
        if tag == "figure":
            self.figures.append(found["id"])
        if found.get("class") == "missing":
            self.missing.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
