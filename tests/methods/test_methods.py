"""What every method must hold; a new one is tested by being registered."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import pytest
import torch
from toy_pairs import build, pairs, student, suitable

from evlift.datasets.base import Batch
from evlift.errors import ConfigError, DataError
from evlift.methods import METHODS, Method, Progress, create_method, method_options

# What a phase lowers, where its total need not fall, and why.
FALLS = {
    ("evdistill", "reconstruction"): "cycle",  # generators and critics play against each other
    ("evdistill", "joint"): "task",  # the teacher's view of crafted pictures moves while it is matched
}
# Where a law cannot hold, and why.
EXEMPT = {
    "the whole student learns": {
        "reconstruct-then-run": "its two networks learn one after the other (tested below)",
    },
    "label options": {
        "image-model": "a picture is one step: nothing to choose between",
        "reconstruct-then-run": "its labels are those of pictures, too",
        "lift": "it leaves them at their defaults",
    },
}


def under(law: str) -> pytest.MarkDecorator:
    """Parametrize by the methods that a law is for."""
    return pytest.mark.parametrize("method_name", [n for n in METHODS.names() if n not in EXEMPT[law]])


def run_steps(method: Method, phase: str, steps: int = 25) -> list[float]:
    """The loss of every step, or the part of it that FALLS names."""
    optimizer = torch.optim.AdamW([p for g in method.parameter_groups(phase) for p in g.parameters], lr=1e-2)
    part = next((FALLS.get((name, phase)) for name in METHODS.names() if METHODS[name] is type(method)), None)
    losses = []
    for step in range(steps):
        output = method.step(pairs(seed=step), Progress(phase, step, steps))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_update(Progress(phase, step, steps))
        losses.append(float((output.parts[part] if part else output.loss).detach()))
    return losses


def run_phases(method: Method, batch: Batch) -> None:
    for phase in method.phases:
        method.step(batch, Progress(phase.name, 0, 2))


def used_fields(method: Method) -> set[str]:
    used = {"image", "image_target"} if method.uses_images else set()
    used |= {"picture", "image_target"} if method.uses_pictures else set()
    used |= {"events"} if method.uses_events else set()
    used |= {"frame"} if method.uses_frames else set()
    return used | ({"event_target"} if method.uses_event_labels else set())


def only(batch: Batch, *names: str) -> Batch:
    return Batch(**{name: getattr(batch, name) for name in names})


def test_training_lowers_the_loss_of_every_phase(name):
    method = build(name)
    for phase in method.phases:
        losses = run_steps(method, phase.name)
        assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_training_teaches_the_event_head():
    for name in ("events-only", "fine-tune", "kt", "tmkt"):
        torch.manual_seed(0)
        method = build(name)
        for phase in method.phases:
            run_steps(method, phase.name)
        held_out = pairs(count=60, seed=1000)
        with torch.no_grad():
            prediction = method.student.eval()(held_out.events).logits.mean(1).argmax(-1)
        assert (prediction == held_out.event_target).float().mean() > 0.9, name


def test_a_step_gives_scalars_and_gradients(name):
    method = build(name)
    for phase in method.phases:
        method.zero_grad()
        output = method.step(pairs(), Progress(phase.name, 0, 2))
        assert output.loss.shape == ()
        assert torch.isfinite(output.loss)
        assert all(part.shape == () and torch.isfinite(part) for part in output.parts.values())
        output.loss.backward()
        owned = {id(p) for group in method.parameter_groups(phase.name) for p in group.parameters}
        moved = [p for p in method.parameters() if p.grad is not None and (p.grad != 0).any()]
        assert moved
        assert all(id(p) in owned for p in moved)


@under("the whole student learns")
def test_a_phase_of_the_student_teaches_all_of_it(method_name):
    method = build(method_name)
    for phase in method.phases:
        if phase.student:
            method.zero_grad()
            method.step(pairs(), Progress(phase.name, 0, 2)).loss.backward()
            assert all(p.grad is not None for p in method.student.event_parameters())


def test_reconstruct_then_run_teaches_one_network_after_the_other():
    method = build("reconstruct-then-run")
    learners = (method.student.image_model, method.student.reconstruction)
    for phase, learner in zip(method.phases, learners, strict=True):
        method.zero_grad()
        method.step(pairs(), Progress(phase.name, 0, 2)).loss.backward()
        taught = {id(p) for p in method.parameters() if p.grad is not None}
        assert taught == {id(p) for p in learner.parameters()}


def test_the_declared_fields_are_enough_and_all_needed(name):
    method, full = build(name), pairs()
    used = used_fields(method)
    run_phases(method, only(full, *used))
    for field in used:
        with pytest.raises(DataError, match=f"none of {field}"):
            run_phases(method, replace(full, **{field: None}))


def test_four_methods_alone_see_event_labels(name):
    assert build(name).uses_event_labels == (name in ("events-only", "fine-tune", "kt", "tmkt"))


def test_a_phase_needs_no_more_than_it_says(name):
    method = build(name)
    fields = {
        "events": ("events", "event_target"),
        "images": ("image", "picture", "image_target"),
        "pictures": ("picture", "image_target"),
    }
    for phase in method.phases:
        if phase.needs != "all":
            method.step(only(pairs(), *fields[phase.needs]), Progress(phase.name, 0, 2))


def test_a_seed_repeats_the_training(name):
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        method = build(name)
        runs.append(run_steps(method, method.phases[-1].name, 3))
    assert runs[0] == runs[1]


def test_phases_share_the_run(name):
    phases = build(name).phases
    assert sum(phase.share for phase in phases) == pytest.approx(1)
    assert len({phase.name for phase in phases}) == len(phases)


def test_inference_needs_the_student_alone(name):
    """The event-only network has exactly the student's inference weights, and gives the same answer."""
    method = build(name)
    run_steps(method, method.phases[-1].name, 2)
    event_only = suitable(name, image_head=False)
    event_only.load_state_dict(method.student.inference_state_dict())
    events = pairs().of_pictures().image if method.reads == "pictures" else pairs().events
    method.eval()
    method.zero_grad()
    logits = method.student(events).logits
    assert torch.equal(event_only.eval()(events).logits, logits)
    logits.sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    beside = {name for name in touched if not name.startswith("student.") or "heads.image" in name}
    assert touched
    assert not beside


def test_options_are_keywords_with_defaults(name):
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert parameters[0].name == "student"
    assert all(item.kind is item.KEYWORD_ONLY for item in parameters[1:])
    assert all(item.default is not item.empty for item in parameters[1:] if item.name != "steps")


def test_docstrings_have_an_example_and_name_every_option(name):
    text = inspect.getdoc(METHODS[name]) or ""
    assert "Example:" in text
    documented = text + (inspect.getdoc(METHODS["events-only"].__mro__[1]) or "")
    for option in method_options(name):  # "option: ...", or "one, option, another: ..."
        assert re.search(rf"^\s*(\w+, )*{option}(, \w+)*:", documented, re.MULTILINE), option


@under("label options")
def test_label_options_are_checked_and_used(method_name):
    with pytest.raises(ConfigError, match="`tet_lambda`"):
        build(method_name, tet_lambda=-0.1)
    net, phase = suitable(method_name), build(method_name).phases[-1].name
    losses = []
    plain = {"tet": False} | ({"regularised": False} if method_name == "kt" else {})
    for options in ({}, {"tet_lambda": 0.5}, plain):
        torch.manual_seed(1)
        output = build(method_name, net, **options).step(pairs(), Progress(phase, 0, 2))
        losses.append(float(output.loss.detach()))
    assert len(set(losses)) == 3


def test_unknown_and_missing_options_are_named():
    with pytest.raises(ConfigError, match=r"no option 'rm'. Did you mean 'r_m'\?"):
        create_method("tmkt", student(), steps=4, rm=0.3)
    with pytest.raises(ConfigError, match="needs the option 'steps'"):
        create_method("kt", student())
    with pytest.raises(ConfigError, match="Unknown method 'tkmt'"):
        create_method("tkmt", student())


def test_source_only_trains_the_head_that_evaluation_reads():
    net = student()
    before = {name: p.clone() for name, p in net.named_parameters()}
    run_steps(build("source-only", net), "train", 2)
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert "heads.event.weight" in changed
    assert not any("heads.image" in name for name in changed)


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_fine_tuning_needs_both_phases(share):
    with pytest.raises(ConfigError, match="'events-only' for 0 and 'source-only' for 1"):
        build("fine-tune", source_share=share)


def test_fine_tuning_sees_pictures_first():
    method, full = build("fine-tune", source_share=0.25), pairs()
    assert [phase.share for phase in method.phases] == [0.25, 0.75]
    for phase, hidden in (("source", "events"), ("events", "image")):
        torch.manual_seed(1)
        whole = method.step(full, Progress(phase, 0, 2)).loss
        noise = replace(full, **{hidden: torch.rand_like(full.events)})
        assert torch.equal(method.step(noise, Progress(phase, 0, 2)).loss, whole)
