"""The pictures that parley-nano-image learns from, and the program that looks at its own."""

import dataclasses
import random

import pytest
from image.evaluate import held_out
from image.look import judge, look
from image.scenes import OBJECT_COLOURS, SHAPES, draw, hint, sample, say
from image.train import _learnt


@pytest.fixture(scope="module")
def drawn():
    picker = random.Random("a look")
    scenes = [sample(picker) for _ in range(80)]
    return [(scene, draw(scene, picker)) for scene in scenes]


def test_what_was_drawn_is_seen(drawn):
    for scene, picture in drawn:
        verdict = judge(picture, scene)
        assert (verdict.colour, verdict.shape, verdict.place) == (True, True, True), (scene, look(picture))


@pytest.mark.parametrize(("what", "wrong"), [("colour", (False, True)), ("shape", (True, False))])
def test_what_was_not_asked_is_seen_too(drawn, what, wrong):
    for scene, picture in drawn:
        thing = scene.things[0]
        others = [
            choice for choice in (OBJECT_COLOURS if what == "colour" else SHAPES) if choice != getattr(thing, what)
        ]
        other = dataclasses.replace(thing, **{what: others[0]})
        if len(scene.things) > 1 and getattr(scene.things[1], what) == others[0]:
            continue  # the other thing may be taken for it
        verdict = judge(picture, dataclasses.replace(scene, things=(other, *scene.things[1:])))
        assert (verdict.colour, verdict.shape) == wrong or not (verdict.colour or verdict.shape), scene


def test_a_wrong_place_is_seen(drawn):
    for scene, picture in drawn:
        if len(scene.things) == 1:
            away = "top left" if scene.things[0].place != "top left" else "bottom right"
            moved = dataclasses.replace(scene, things=(dataclasses.replace(scene.things[0], place=away),))
            assert not judge(picture, moved).place
        elif scene.relation in {"left of", "above"}:
            swapped = {"left of": "right of", "above": "below"}[scene.relation]
            assert not judge(picture, dataclasses.replace(scene, relation=swapped)).place


def test_a_thing_too_many_or_too_few_is_wrong(drawn):
    for scene, picture in drawn:
        if len(scene.things) == 2:
            one = dataclasses.replace(scene, things=scene.things[:1], relation="")
            assert not judge(picture, one).colour
        else:
            two = dataclasses.replace(
                scene, things=(scene.things[0], dataclasses.replace(scene.things[0], place="top"))
            )
            assert not judge(picture, two).shape


def test_held_out_scenes_are_never_learnt():
    asked = held_out()
    assert len(asked) == 200
    assert all(scene.held_out for _, scene in asked)
    learnt = _learnt(random.Random(1), 2000)
    assert not any(scene.held_out for scene in learnt)
    assert {scene for _, scene in asked}.isdisjoint(learnt)


def test_a_sentence_says_everything_and_a_hint_only_a_part():
    picker = random.Random(2)
    for _ in range(200):
        scene = sample(picker)
        sentence = say(scene, picker)
        assert all(thing.colour in sentence for thing in scene.things)
        assert len(hint(scene, picker).split()) <= 4
