"""English and Spanish: complete, the browser's choice first, and the reader's after that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.problems import STATUS
from tests.support.browser import Visit
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium


@pytest.fixture
def words(visit: Visit) -> dict[str, dict[str, str]]:
    """The dictionaries, by language."""
    read: dict[str, dict[str, str]] = visit.page.evaluate(
        "import('/web/words.js').then(({ WORDS }) => WORDS)"
    )
    return read


def test_the_dictionaries_say_the_same_things(words: dict[str, dict[str, str]]) -> None:
    """The same keys in the same order, with the same blanks, and no key without words."""
    english, spanish = words["en"], words["es"]
    assert list(english) == list(spanish)
    for key in english:
        blanks = [sorted(re.findall(r"\{\w+\}", said[key])) for said in (english, spanish)]
        assert blanks[0] == blanks[1], key
        assert english[key].strip()
        assert spanish[key].strip()


def test_every_problem_has_words(words: dict[str, dict[str, str]]) -> None:
    """What happened, and what to do."""
    for slug in STATUS:
        assert {f"problem.{slug}", f"problem.{slug}.do"} <= set(words["en"])


def test_every_emotion_of_the_embedded_model_has_a_name(words: dict[str, dict[str, str]]) -> None:
    """In both languages."""
    for label in open_bundle(DEFAULT_BUNDLE).manifest.labels:
        assert f"label.{label}" in words["es"]


def test_every_word_is_used(words: dict[str, dict[str, str]]) -> None:
    """Nothing is translated for nobody."""
    folder = Path(__file__).parents[2] / "service" / "web"
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in folder.iterdir()
        if path.suffix in {".js", ".html"} and path.name != "words.js"
    )
    made = ("problem.", "label.", "answer.", "timeline.")  # keys that are put together
    unused = {
        key
        for key in words["en"]
        if not key.startswith(made) and not re.search(rf"[\"'`]{re.escape(key)}[\"'`]", source)
    }
    assert unused == set()


@pytest.mark.parametrize(
    ("locale", "language"), [("en-US", "en"), ("es-MX", "es"), ("fr-FR", "en")]
)
def test_the_browser_s_language_comes_first(
    visiting_page: Visiting, locale: str, language: str
) -> None:
    """English where it is neither."""
    with visiting_page(locale=locale) as visit:
        visit.open()
        assert visit["html"].get_attribute("lang") == language
        expect(visit["#record"]).to_have_text({"en": "Record", "es": "Grabar"}[language])


def test_another_can_be_chosen(visit: Visit, clips: dict[str, Path]) -> None:
    """At any time: what is on the page already changes, and it is remembered."""
    visit.choose(clips["silence.wav"])
    expect(visit["#verdict"]).to_have_text("No speech found")
    visit.choose(clips["text.wav"])
    visit.trouble()
    visit["#language"].select_option("es")
    assert visit["html"].get_attribute("lang") == "es"
    expect(visit["[role=alert] h2"]).to_have_text("Esto no es una grabación")
    visit.page.reload()
    visit["html[data-ready]"].wait_for()
    expect(visit["#record"]).to_have_text("Grabar")
    visit.choose(clips["speech.wav"], clips["silence.wav"])
    expect(visit["#files [data-state=done]"]).to_have_count(2)
    expect(visit["#files"]).to_contain_text("Sin voz")
    visit.shot("files-spanish")
