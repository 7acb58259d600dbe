"""Samples to look at: strips, the most confident mistakes, players."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import numpy as np

from evlift.masks import VOID
from evlift.report.judge import Example
from evlift.report.page import Page
from evlift.report.pictures import class_key, events_png, file_png, image_tag, mask_png, picture_png, png
from evlift.report.watch import Strip
from evlift.report.write import Subject


def add_examples(page: Page, subjects: Sequence[Subject], side: int) -> None:
    """What networks answered, their most confident mistakes, and what their methods saw and made."""
    page.heading("Examples")
    page.text(
        "Blue pixels had more on events, orange ones more off events. Examples are evenly spaced over the split."
    )
    judged = [subject for subject in subjects if subject.judged is not None]
    for subject in judged:
        found = subject.judged
        page.subheading(subject.name if len(subjects) > 1 else "Answers")
        _add_cards(page, found.examples if found else [], subject.trained.classes, side)
    page.heading("Most confident mistakes")
    page.text(
        "Wrong answers with the highest probability; for masks, windows by the confidence of their wrong pixels, "
        "which the last picture shows."
    )
    for subject in judged:
        if len(subjects) > 1:
            page.subheading(subject.name)
        mistakes = subject.judged.mistakes if subject.judged else []
        if mistakes:
            _add_cards(page, mistakes, subject.trained.classes, side)
        else:
            page.text("No mistake on this split.")
    _add_strips(page, subjects, side)


def _add_strips(page: Page, subjects: Sequence[Subject], side: int) -> None:
    page.heading("What the method saw and made")
    page.text(
        "Held-out data: the whole method of the last checkpoint, teacher and generators included where it has them, on "
        "recordings and pictures that it was not trained on. Last batch: the strip that training left."
    )
    for subject in subjects:
        if len(subjects) > 1:
            page.subheading(subject.name)
        if subject.views:
            page.html(f"<p>Held-out data</p>{_strip(subject.views, side)}")
        strip = subject.trained.run.strip
        if strip.is_file():
            image = image_tag(file_png(strip, 8 * side), "Strip of the run's last training batch")
            page.html(f"<figure>{image}<figcaption>Last batch of training</figcaption></figure>")
        if subject.hidden:
            page.text(f"Held-out data are not shown: {subject.hidden}")
        elif not subject.views and not strip.is_file():
            page.text("This method shows nothing.")


def _strip(views: Strip, side: int) -> str:
    rows = ""
    for title, images in views.items():
        rows += f"<span class='name'>{html.escape(title)}</span>"
        for place, shown in enumerate(images, start=1):
            rows += (
                f"<span>{html.escape(shown)}</span>"
                if isinstance(shown, str)
                else image_tag(png(shown, side), f"{title}, {place}", "mask")
            )
    return f"<div class='strip'>{rows}</div>"


def _add_cards(page: Page, examples: Sequence[Example], classes: tuple[str, ...], side: int) -> None:
    masks = any(isinstance(example.answer, np.ndarray) for example in examples)
    if masks:
        page.html(class_key(classes))
    cards = "".join(f"<li>{_card(example, classes, side)}</li>" for example in examples)
    page.html(f"<ul class='cards{' wide' if masks else ''}'>{cards}</ul>")


def _card(example: Example, classes: tuple[str, ...], side: int) -> str:
    clip, name = example.clip.numpy(), html.escape(example.name)
    if clip.shape[1] == 2:
        shown = image_tag(events_png(clip.sum(0), side), f"Events of {example.name}", "events")
    else:
        shown = image_tag(picture_png(clip[0], side), f"Picture {example.name}", "mask")
    if not isinstance(example.answer, np.ndarray):
        right = example.score == 1
        said = f"{classes[example.answer]} ({example.confidence:.2f})" + (
            "" if right else f", is {classes[example.target]}"
        )
        mark = "✓" if right else "✗"
        kind = "good" if right else "bad"
        return (
            f"<figure>{shown}<figcaption><span class='{kind}'>{mark} {html.escape(said)}</span><br>{name}"
            "</figcaption></figure>"
        )
    wrong = np.where((example.answer != example.target) & (example.target != VOID), example.answer, VOID)
    parts = (
        (shown, "events"),
        (image_tag(mask_png(example.answer, side), f"Answer to {example.name}", "mask"), "answer"),
        (image_tag(mask_png(example.target, side), f"Label of {example.name}", "mask"), "label"),
        (image_tag(mask_png(wrong, side), f"Wrong pixels of {example.name}", "mask"), "wrong"),
    )
    row = "".join(f"<span>{image}<br>{text}</span>" for image, text in parts)
    return f"<figure><div class='row'>{row}</div><figcaption>mean IoU {example.score:.3f}, {name}</figcaption></figure>"


def add_players(page: Page, subjects: Sequence[Subject]) -> None:
    """A slider through a recording for each run."""
    playing = [subject for subject in subjects if subject.frames]
    if not playing:
        return
    page.heading("Through a recording")
    page.text("Play, or move the slider with the mouse or the arrow keys.")
    for number, subject in enumerate(playing):
        if len(playing) > 1:
            page.subheading(subject.name)
        frames = [{"images": frame.images, "said": frame.said} for frame in subject.frames]
        data = json.dumps(frames).replace("<", "\\u003c")
        titles = ("Events", "Answer", "Label")[: len(subject.frames[0].images)]
        kinds = ("events", "mask", "mask")
        images = "".join(
            f"<figure>{image_tag(uri, f'{title} of this moment', kind)}<figcaption>{title}</figcaption></figure>"
            for uri, title, kind in zip(subject.frames[0].images, titles, kinds, strict=False)
        )
        page.html(
            f"<div class='player' id='player-{number}'><div class='row'>{images}</div><div class='controls'>"
            f"<button type='button' hidden>Play</button><input type='range' min='0' max='{len(frames) - 1}' value='0' "
            f"aria-label='Moment of the recording, {html.escape(subject.name)}'></div>"
            f"<p class='said' role='status'>{html.escape(subject.frames[0].said)}</p>"
            f"<script type='application/json'>{data}</script></div>"
        )
