"""The viewer's page in Chromium."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

import evlift
from evlift.viewer import open_viewer
from helpers import tiny

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two seconds of a bar that moves to the right."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 2_000_000, 40_000))
    x = (t * 33 // 2_000_000 + rng.integers(0, 3, len(t))).clip(0, 33)
    stream = evlift.EventStream.from_columns(
        t, x, rng.integers(0, 34, len(t)), rng.random(len(t)) < 0.6, sensor_size=(34, 34)
    )
    path = tmp_path_factory.mktemp("recordings") / "bar.npz"
    evlift.write_events(path, stream)
    return path


@pytest.fixture(scope="module")
def viewer(recording, tmp_path_factory):
    run = evlift.train(tiny(), tmp_path_factory.mktemp("runs") / "tiny")
    with open_viewer(recording, run.folder, port=0) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, daemon=True)
        thread.start()
        yield viewer
        viewer.shutdown()
        thread.join()


@pytest.fixture
def page(browser, viewer):
    browser.open(viewer.url)
    browser.wait("document.getElementById('said').textContent.includes('events in')")
    yield browser
    assert browser.complaints() == []
    asked = browser.requests()
    assert [url for url in asked if not url.startswith(viewer.url)] == []


def time_of(page) -> float:
    return float(page.run("document.getElementById('time').value"))


def test_what_is_on_the_page(page):
    assert page.find("h1").text == "bar.npz"
    assert "34 × 34" in page.find("#about").text
    assert "40,000 events" in page.find("#about").text
    assert page.find("#answer").is_displayed()
    labels = page.run(
        "[...document.querySelectorAll('input, select')].every((e) => e.labels.length || e.ariaLabel)"
    )
    assert labels
    assert page.find("#picture").get_attribute("aria-label").startswith(tuple("0123456789"))
    assert len(page.find("#rate path.all").get_attribute("d")) > 1000


PIXELS = (
    "const k = document.createElement('canvas').getContext('2d', {willReadFrequently: true});"
    "k.drawImage(document.getElementById('picture'), 0, 0); const d = k.getImageData(0, 0, 34, 34).data;"
)


def test_the_picture_shows_where_the_bar_is(page):
    def bar() -> float:
        return page.run(
            f"(() => {{ {PIXELS} let sum = 0, n = 0;"
            "for (let i = 0; i < 34 * 34; i++)"
            "if (d[4 * i] + d[4 * i + 1] + d[4 * i + 2] < 700) { sum += i % 34; n++; } "
            "return sum / n; })()"
        )

    assert bar() < 5
    page.find("#time").send_keys(Keys.END)
    page.wait("Number(document.getElementById('time').value) > 1.9e6")
    page.wait("document.getElementById('said').textContent.includes('events in') && !state.busy")
    assert bar() > 28


def test_it_plays_and_pauses_by_button_and_by_key(page):
    page.find("#play").click()
    assert page.find("#play").text == "Pause"
    page.wait("Number(document.getElementById('time').value) > 100000")
    page.find("#play").click()
    assert page.find("#play").text == "Play"
    page.run("document.activeElement.blur()")
    before = time_of(page)
    page.press(" ")
    page.wait(f"Number(document.getElementById('time').value) > {before + 50_000}")
    page.press(" ")
    assert page.find("#play").text == "Play"


def test_keys_seek_and_change_window_and_speed(page):
    length = float(page.run("document.getElementById('length').value"))
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert time_of(page) == pytest.approx(3000 * length)
    page.press(Keys.ARROW_LEFT)
    assert time_of(page) == pytest.approx(2000 * length)
    page.press(Keys.ARROW_UP)
    assert float(page.run("document.getElementById('length').value")) == 2 * length
    page.press(Keys.ARROW_DOWN, Keys.HOME)
    assert time_of(page) == 0
    speed = page.run("Number(document.getElementById('speed').value)")
    page.press("<")
    assert page.run("Number(document.getElementById('speed').value)") < speed
    page.press(">")
    assert page.run("Number(document.getElementById('speed').value)") == speed


def test_every_control_is_reached_by_tab(page):
    seen = []
    for _ in range(8):
        page.press(Keys.TAB)
        seen.append(page.run("document.activeElement.id"))
    assert {"time", "play", "speed", "length", "colours", "shown"} <= set(seen)


def test_colours_change_the_ground_and_the_answer_may_be_hidden(page):
    def ground() -> int:
        return page.run(f"(() => {{ {PIXELS} return d[4 * 33]; }})()")

    assert ground() == 255
    page.run(
        "(document.getElementById('colours').value = 'signal', document.getElementById('colours').onchange())"
    )
    assert ground() == 0
    page.find("#shown").click()
    assert not page.find("#answer").is_displayed()


def test_a_window_that_is_too_long_is_clipped(page):
    page.run(
        "(document.getElementById('length').value = 99999999, document.getElementById('length').onchange())"
    )
    page.wait("document.getElementById('said').textContent.includes('10.000 s')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_a_phone_in_light_and_dark(browser, viewer, shots, width, dark):
    browser.open(viewer.url, width=width, dark=dark)
    browser.wait("document.getElementById('said').textContent.includes('events in')")
    assert browser.wider_than_the_page() == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    browser.picture(shots / f"viewer-{width}-{'dark' if dark else 'light'}.png")
    assert browser.complaints() == []


def test_another_page_may_not_read_it(browser, viewer, tmp_path):
    page = tmp_path / "other.html"
    page.write_text(
        f"<script>fetch('{viewer.url}api/about').then(() => document.title = 'read', () => document.title = 'refused')"
        "</script>"
    )
    browser.open(page.as_uri())
    assert browser.wait("document.title") == "refused"
    browser.complaints()
