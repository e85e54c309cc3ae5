"""How well ``"auto"`` chooses: on the adapters' own texts, and on texts that are none of theirs.

Texts come as users give them, without an instruction. Knows a router and texts; never a tensor or a data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flan_lora.serving.background import BackgroundText
from flan_lora.serving.completion import Route, Text
from flan_lora.serving.router import Router

FOREIGN = (
    "def add(a, b):\n    return a + b",
    "SELECT name, price FROM items WHERE price > 10 ORDER BY name;",
    "Preheat the oven to 180 degrees, beat three eggs with the sugar and fold in the flour.",
    "Turn left after the bridge, follow the road for two miles and park behind the station.",
    "The tenant shall give the landlord written notice of no fewer than thirty days.",
    "E = mc^2, F = ma, p = mv, V = IR",
    "404 Not Found nginx/1.18.0",
    "Monday 12 C rain, Tuesday 14 C clouds, Wednesday 17 C sun, wind from the west",
    "ISBN 0-19-853453-1, 2nd ed., pp. 114-117, hardcover, 24.99",
    "Take one tablet twice a day with water and do not exceed the stated dose.",
    "git commit -m 'fix typo' && git push origin main",
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7",
    "Guten Morgen, ich haette gern zwei Brote und ein Stueck Kuchen.",
    "Il pleut depuis ce matin et les rues sont vides.",
    "GCTA ATGC CCGT TAAG GGCA TTAC CGAT",
    "Flight BA117 departs from gate B32 at 18:45; boarding closes twenty minutes before.",
    "Quarterly revenue rose 4.2 percent to 1.3 billion, margins narrowed by 30 basis points.",
    "x = 3, y = 7, solve 2x + 5y - z = 12 for z",
    "Knit two, purl two, repeat to the end of the row, then turn the work.",
    "WARNING: disk /dev/sda1 is 91 % full (inode usage 12 %)",
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod",
    "Translate the following sentence into Spanish: where is the library",
    '{"id": 17, "tags": ["red", "blue"], "ok": true}',
    "Goal by the number nine in the 84th minute, corner from the right, header, two one.",
)
"""Code, lists, instructions, other languages: written for this; nothing is trained or fitted on them."""


@dataclass(frozen=True, slots=True)
class RoutingShare:
    """Where the texts of one adapter went. The three shares add up to 1."""

    adapter: str
    num_texts: int
    right_share: float
    wrong_share: float
    """To another adapter."""
    abstained_share: float
    most_confused_with: str | None
    """The adapter that most of the wrong ones went to."""


@dataclass(frozen=True, slots=True)
class ForeignShare:
    """How many texts of one kind, that belongs to no adapter, were taken by one: false accepts."""

    kind: str
    num_texts: int
    accepted_share: float
    mostly_by: str | None
    """The adapter that took most of them."""


@dataclass(frozen=True)
class RoutingReport:
    """Of all adapters, and of texts for none of them."""

    shares: tuple[RoutingShare, ...]
    kinds: tuple[ForeignShare, ...]
    """Of the foreign texts, in the order in which the kinds come."""
    num_foreign: int
    accepted: tuple[tuple[str, str], ...]
    """(foreign text, adapter that took it): false accepts."""

    @property
    def accuracy(self) -> float:
        """Right ones of all texts of adapters, abstentions counted as not right."""
        total = sum(share.num_texts for share in self.shares)
        return sum(share.right_share * share.num_texts for share in self.shares) / total

    @property
    def false_accept_share(self) -> float:
        """Of the foreign texts."""
        return len(self.accepted) / self.num_foreign if self.num_foreign else 0.0


def report(
    router: Router, texts: Mapping[str, Sequence[Text]], foreign: Sequence[BackgroundText] | None = None
) -> RoutingReport:
    """Route every text and count.

    Args:
        texts: adapter -> texts that belong to it, none of which its routing profile has seen.
        foreign: texts that belong to no adapter, and that no profile was fitted against; None: `FOREIGN`.

    Raises:
        RequestError: no adapter with a routing profile takes a text's inputs.
    """
    shares = [_share(name, router.routes(own)) for name, own in texts.items() if own]
    given = [BackgroundText(text) for text in FOREIGN] if foreign is None else foreign
    went = [route.adapter for route in router.routes([item.text for item in given])]
    kinds = dict.fromkeys(item.kind for item in given)
    by_kind = [
        _foreign(kind, [adapter for item, adapter in zip(given, went, strict=True) if item.kind == kind])
        for kind in kinds
    ]
    accepted = [(item.text, adapter) for item, adapter in zip(given, went, strict=True) if adapter]
    return RoutingReport(tuple(shares), tuple(by_kind), len(given), tuple(accepted))


def _foreign(kind: str, went: Sequence[str | None]) -> ForeignShare:
    taken = [adapter for adapter in went if adapter]
    return ForeignShare(kind, len(went), len(taken) / len(went), _most(taken))


def _most(adapters: Sequence[str]) -> str | None:
    return max(sorted(set(adapters)), key=adapters.count, default=None)


def _share(name: str, routes: Sequence[Route]) -> RoutingShare:
    went = [route.adapter for route in routes]
    wrong = [adapter for adapter in went if adapter and adapter != name]
    num = len(routes)
    return RoutingShare(name, num, went.count(name) / num, len(wrong) / num, went.count(None) / num, _most(wrong))
