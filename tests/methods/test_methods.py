"""What every method must hold; a new one is tested by being registered."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from toy_pairs import build, pairs, student

from evlift.datasets.base import Batch
from evlift.errors import ConfigError, DataError
from evlift.methods import METHODS, Method, Progress, create_method, method_options


def run_steps(method: Method, phase: str, steps: int = 25) -> list[float]:
    optimizer = torch.optim.AdamW([p for g in method.parameter_groups(phase) for p in g.parameters], lr=1e-2)
    losses = []
    for step in range(steps):
        output = method.step(pairs(seed=step), Progress(phase, step, steps))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.loss.detach()))
    return losses


def run_phases(method: Method, batch: Batch) -> None:
    for phase in method.phases:
        method.step(batch, Progress(phase.name, 0, 2))


def used_fields(entry: type[Method]) -> set[str]:
    fields = {"image", "image_target"} if entry.uses_images else set()
    fields |= {"events"} if entry.uses_events else set()
    return fields | ({"event_target"} if entry.uses_event_labels else set())


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
        assert all(p.grad is not None for p in method.student.event_parameters())


def test_the_declared_fields_are_enough_and_all_needed(name):
    method, full = build(name), pairs()
    used = used_fields(METHODS[name])
    silent = {
        field: None for field in ("image", "image_target", "events", "event_target") if field not in used
    }
    run_phases(method, replace(full, **silent))
    for field in used:
        with pytest.raises(DataError, match=f"none of {field}"):
            run_phases(method, replace(full, **{field: None}))


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
    event_only = student(image_head=False)
    event_only.load_state_dict(method.student.inference_state_dict())
    events = pairs().events
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
    assert all(f"{option}:" in documented for option in method_options(name))


def test_label_options_are_checked_and_used(name):
    with pytest.raises(ConfigError, match="`tet_lambda`"):
        build(name, tet_lambda=-0.1)
    net, phase = student(), build(name).phases[-1].name
    losses = []
    plain = {"tet": False} | ({"regularised": False} if name == "kt" else {})
    for options in ({}, {"tet_lambda": 0.5}, plain):
        torch.manual_seed(1)
        losses.append(float(build(name, net, **options).step(pairs(), Progress(phase, 0, 2)).loss.detach()))
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
