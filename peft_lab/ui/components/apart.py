"""Options of a list that read alike, told apart: Streamlit knows an option by its words, so that of two equal ones the
first would be taken for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

END = 4  # characters of an id, enough among what was made in one second


def apart(titles: Mapping[str, str]) -> dict[str, str]:
    """The titles by id, in their order; those that several ids have end with what their ids end with."""
    often = Counter(titles.values())
    return {
        identity: f"{title} · {identity[-END:]}" if often[title] > 1 else title
        for identity, title in titles.items()
    }
