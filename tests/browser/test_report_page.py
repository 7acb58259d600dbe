"""The pages of `evlift report` in Chromium."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

import evlift
from helpers import tiny

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A spiking run, a conventional one and one with masks, named by what they are."""
    folder = tmp_path_factory.mktemp("runs")
    masks = {
        "data": {"name": "simulated-digit-masks", "recordings": 100},
        "input": {"size": [32, 32], "encoding": "saccade"},
        "model": {"name": "spiking-unet", "width": 0.25},
        "method": {"name": "source-only"},
        "train": {"steps": 2, "eval_every": 0},
    }
    changes = {"spiking": {}, "conventional": {"model": {"name": "convnet", "width": 0.25}}, "masks": masks}
    return {name: evlift.train(tiny(**change), folder / name).folder for name, change in changes.items()}


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    both = [runs["spiking"], runs["conventional"]]
    return {
        "one": evlift.write_report(runs["spiking"], out / "one.html"),
        "two": evlift.write_report(both, out / "two.html"),
        "masks": evlift.write_report(runs["masks"], out / "masks.html"),
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("name", ["one", "two", "masks"])
def test_it_fits_asks_for_nothing_and_complains_about_nothing(browser, pages, shots, name, width, dark):
    browser.open(pages[name].as_uri(), width=width, height=3000, dark=dark)
    assert browser.wider_than_the_page() == []
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.complaints() == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    browser.picture(shots / f"report-{name}-{width}-{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(browser, pages, dark):
    browser.open(pages["two"].as_uri(), dark=dark)
    ratios = browser.run(
        "(() => { const parts = (c) => (c.match(/[\\d.]+/g) || []).map(Number);"
        "const light = (c) => parts(c).slice(0, 3).map((v) => v / 255)"
        ".map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)"
        ".reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);"
        "const ground = light(getComputedStyle(document.body).backgroundColor);"
        "return ['p', 'figcaption', 'a', 'td', '.good', '.bad'].map((s) => document.querySelector(s)).filter((e) => e)"
        ".map((e) => { const own = light(getComputedStyle(e).color);"
        "return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05); }); })()"
    )
    assert len(ratios) >= 5
    assert min(ratios) >= 4.5  # WCAG 2.1, AA


def test_every_picture_has_a_text_and_every_control_a_label(browser, pages):
    for page in pages.values():
        browser.open(page.as_uri())
        assert browser.run("[...document.images].filter((i) => !i.alt).length") == 0
        assert browser.run("[...document.images].filter((i) => i.complete && !i.naturalWidth).length") == 0
        assert browser.run(
            "[...document.querySelectorAll('input')].every((e) => e.labels.length || e.ariaLabel)"
        )
        assert browser.run("[...document.querySelectorAll('svg')].every((e) => e.getAttribute('aria-label'))")


def test_contents_lead_to_their_sections(browser, pages):
    browser.open(pages["one"].as_uri())
    names = [link.text for link in browser.all("nav a")]
    assert {"Result", "Confusion matrix", "Calibration", "Spikes", "Through a recording", "Training"} <= set(
        names
    )
    broken = "[...document.querySelectorAll('nav a')].filter((a) => !document.querySelector(a.hash)).length"
    assert browser.run(broken) == 0


@pytest.mark.parametrize("name", ["one", "masks"])
def test_the_slider_shows_another_moment_by_key_and_by_playing(browser, pages, name):
    browser.open(pages[name].as_uri())
    slider, said, image = (browser.find(f".player {part}") for part in ("input", ".said", "img"))
    first = (said.text, image.get_attribute("src"))
    browser.run("document.querySelector('.player input').focus()")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert slider.get_attribute("value") == "2"
    second = (said.text, image.get_attribute("src"))
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert slider.get_attribute("aria-valuetext") == second[0]
    browser.find(".player button").send_keys(Keys.ENTER)
    browser.wait("Number(document.querySelector('.player input').value) > 3")
    browser.find(".player button").send_keys(Keys.ENTER)
    assert browser.find(".player button").text == "Play"


def test_the_comparison_shows_what_differs_first(browser, pages):
    browser.open(pages["two"].as_uri())
    rows = (
        "[...document.querySelectorAll('table.config tbody tr')].filter((r) => r.offsetParent)"
        ".map((r) => r.innerText)"
    )
    few = browser.run(rows)
    assert any("model.name" in row for row in few)
    assert all(row.startswith("≠") for row in few)
    browser.find("input[data-only]").send_keys(" ")
    assert len(browser.run(rows)) > 2 * len(few)


def test_without_a_script_everything_but_playing_is_there(browser, pages, tmp_path):
    text = pages["two"].read_text("utf-8")
    script = text[text.rindex("<script>") : text.rindex("</script>") + 9]
    (tmp_path / "plain.html").write_text(text.replace(script, ""), "utf-8")
    browser.open((tmp_path / "plain.html").as_uri())
    assert browser.run("[...document.querySelectorAll('table.config tbody tr')].every((r) => r.offsetParent)")
    assert browser.find(".player img").get_attribute("src").startswith("data:image/png")
    assert browser.complaints() == []
