"""How to draw the animals and things of the ImageNet role.

Every function draws one object inside the unit square about the origin of the brush's frame, as label 1.
"""

from __future__ import annotations

import itertools

import numpy as np

from relmap.data.render.canvas import Brush, Colour, curve, ellipse, rectangle, regular, stroke
from relmap.data.render.palette import PALETTE


def _colour(rng: np.random.Generator, *names: str) -> Colour:
    options = names or tuple(PALETTE)
    return PALETTE[options[int(rng.integers(len(options)))]]


def _round(brush: Brush, x: float = 0.0, y: float = 0.0, rx: float = 0.6, ry: float = 0.6) -> None:
    brush.bulge((1,), x, y, rx, ry)


# Animals


def quadruped(
    brush: Brush,
    rng: np.random.Generator,
    *,
    coat: Colour,
    pattern: str,
    mark: Colour,
    ear: str,
    tail: str,
    step: float,
) -> None:
    legs = rng.uniform(-0.06, 0.06, 4)
    for x, shift, factor in zip((-0.3, 0.14, -0.22, 0.22), legs, (0.7, 0.7, 1.0, 1.0), strict=True):
        brush.fill(stroke([(x, -0.02), (x + shift, -0.25), (x + 1.4 * shift, -0.42)], 0.11, 0.075), coat, factor=factor)
    end = {"long": [(-0.36, 0.08), (-0.5, 0.02), (-0.56, -0.2)], "bushy": [(-0.36, 0.06), (-0.5, 0.1), (-0.6, 0.0)]}
    brush.fill(stroke(end[tail], 0.06, 0.05 if tail == "long" else 0.16), coat, factor=0.9)
    trunk = brush.mask(curve([(0.3, 0.12), (0.0, 0.14), (-0.34, 0.13), (-0.42, -0.02), (-0.3, -0.15), (0.22, -0.14)]))
    brush.paint(trunk, coat)
    head = brush.at(brush.frame.child(0.34, 0.2, rng.uniform(-20, 20)))
    neck = brush.mask(np.array([(0.12, 0.1), (0.34, -0.08), (0.46, 0.2), (0.26, 0.3)]))
    brush.paint(neck, coat)
    tip = 0.16 if ear == "pointed" else 0.1
    for x in (-0.06, 0.03):
        if ear == "drop":
            head.fill(ellipse(x - 0.05, -0.01, 0.05, 0.1), mark, factor=0.8)
        else:
            head.fill(np.array([(x - 0.05, 0.06), (x, 0.08 + tip), (x + 0.05, 0.06)]), coat, factor=0.8)
    face = head.mask(curve([(0.1, 0.08), (-0.06, 0.12), (-0.13, 0.0), (-0.05, -0.11), (0.12, -0.09), (0.24, -0.04)]))
    head.paint(face, coat, factor=1.08)
    brush.pattern(trunk, pattern, (-0.45, -0.2, 0.35, 0.18), mark, step)
    brush.pattern(neck, pattern, (0.1, -0.1, 0.5, 0.35), mark, step)
    head.fill(ellipse(0.2, -0.03, 0.04), (30, 26, 26))
    head.fill(ellipse(0.04, 0.035, 0.028), (20, 18, 18))
    _round(brush, 0, 0.05, 0.6, 0.32)


def fish(brush: Brush, rng: np.random.Generator, *, coat: Colour, pattern: str, mark: Colour, fin: Colour) -> None:
    brush.fill(np.array([(-0.25, 0.02), (-0.5, 0.22), (-0.43, 0.0), (-0.5, -0.2)]), fin)
    brush.fill(curve([(0.15, 0.15), (-0.05, 0.34), (-0.25, 0.2), (-0.2, 0.1)]), fin, factor=0.9)
    brush.fill(np.array([(0.1, -0.15), (-0.08, -0.32), (-0.15, -0.1)]), fin, factor=0.9)
    body = brush.mask(curve([(0.45, 0.0), (0.25, 0.17), (-0.05, 0.2), (-0.32, 0.03), (-0.05, -0.19), (0.25, -0.16)]))
    brush.paint(body, coat)
    brush.pattern(body, pattern, (-0.35, -0.2, 0.28, 0.22), mark, 0.17)
    brush.fill(np.array([(0.08, 0.02), (-0.08, -0.02), (-0.05, -0.12)]), fin, factor=0.85)
    brush.fill(ellipse(0.31, 0.05, 0.045), (245, 240, 225))
    brush.fill(ellipse(0.315, 0.05, 0.027), (20, 18, 18))
    _round(brush, 0, 0, 0.6, 0.34)


def butterfly(
    brush: Brush, rng: np.random.Generator, *, upper: Colour, lower: Colour, edge: Colour, pattern: str
) -> None:
    spread = rng.uniform(0.7, 1.0)
    for side in (-1, 1):
        for points, colour in (
            (curve([(0.02, -0.04), (0.3, 0.0), (0.36, -0.25), (0.2, -0.38), (0.06, -0.22)]), lower),
            (curve([(0.02, 0.02), (0.12, 0.28), (0.42, 0.42), (0.5, 0.22), (0.36, 0.0)]), upper),
        ):
            outline = points * (side * spread, 1)
            brush.fill(outline, edge)
            middle = outline.mean(0)
            inner = brush.mask((outline - middle) * 0.76 + middle * 0.94)
            brush.paint(inner, colour)
            brush.pattern(inner, pattern, (-0.5, -0.4, 0.5, 0.45), edge, 0.13)
    brush.fill(ellipse(0, -0.02, 0.04, 0.24), (40, 34, 30))
    for side in (-1, 1):
        brush.fill(stroke([(0, 0.2), (side * 0.06, 0.34), (side * 0.12, 0.4)], 0.02), (40, 34, 30))


def snake(brush: Brush, rng: np.random.Generator, *, coat: Colour, mark: Colour, pattern: str) -> None:
    x = np.linspace(-0.48, 0.4, 26)
    y = 0.2 * np.sin(x * rng.uniform(9, 13) + rng.uniform(0, 6)) * np.linspace(1.0, 0.6, 26)
    body = brush.mask(stroke(np.stack([x, y], 1), 0.05, 0.14))
    brush.paint(body, coat)
    brush.pattern(body, pattern, (-0.5, -0.35, 0.45, 0.35), mark, 0.12)
    brush.fill(ellipse(x[-1] + 0.03, y[-1], 0.11, 0.085), coat, factor=1.1)
    brush.fill(ellipse(x[-1] + 0.06, y[-1] + 0.03, 0.025), (20, 16, 16))


def ladybug(brush: Brush, rng: np.random.Generator) -> None:
    for x in (-0.2, 0.0, 0.2):
        brush.fill(stroke([(x, -0.34), (x, 0.34)], 0.05), (28, 26, 28))
    brush.fill(ellipse(0.33, 0, 0.14, 0.18), (28, 26, 28))
    shell = brush.mask(ellipse(-0.05, 0, 0.38, 0.3))
    brush.paint(shell, PALETTE["red"])
    brush.pattern(shell, "spots", (-0.4, -0.27, 0.3, 0.3), (24, 22, 24), 0.2)
    brush.fill(stroke([(-0.43, 0), (0.32, 0)], 0.025), (24, 22, 24))
    _round(brush, -0.05, 0, 0.5, 0.42)


def crab(brush: Brush, rng: np.random.Generator) -> None:
    coat = _colour(rng, "red", "rufous", "orange")
    bend = rng.uniform(-0.05, 0.05)
    for side in (-1, 1):
        for x, drop in ((0.2, 0.36), (0.28, 0.28), (0.32, 0.18)):
            brush.fill(stroke([(side * 0.1, -0.05), (side * x, 0.02 + bend), (side * (x + 0.12), -drop)], 0.05), coat)
        brush.fill(stroke([(side * 0.15, 0.08), (side * 0.3, 0.16), (side * 0.3, 0.26)], 0.07), coat)
        claw = regular(9, side * 0.3, 0.34, 0.13)
        brush.fill(claw, coat, factor=1.1)
        brush.fill(np.array([(side * 0.3, 0.33), (side * 0.25, 0.5), (side * 0.35, 0.5)]), (60, 36, 30))
    brush.fill(curve([(0.28, 0.05), (0.12, 0.16), (-0.12, 0.16), (-0.28, 0.05), (-0.18, -0.16), (0.18, -0.16)]), coat)
    for side in (-1, 1):
        brush.fill(ellipse(side * 0.08, 0.2, 0.035), (24, 22, 22))
    _round(brush, 0, 0, 0.5, 0.4)


def starfish(brush: Brush, rng: np.random.Generator) -> None:
    coat = _colour(rng, "orange", "red", "purple", "rufous")
    star = brush.mask(curve(regular(5, 0, 0, 0.5, 0.19, rng.uniform(0, 72)), 3))
    brush.paint(star, coat)
    brush.pattern(star, "spots", (-0.5, -0.5, 0.5, 0.5), tuple(min(255, c + 70) for c in coat), 0.11)
    _round(brush, 0, 0, 0.62, 0.62)


def turtle(brush: Brush, rng: np.random.Generator) -> None:
    skin = _colour(rng, "green", "olive")
    for x, y in ((0.26, -0.22), (-0.26, -0.22), (0.3, 0.22), (-0.3, 0.22)):
        brush.fill(ellipse(x, y, 0.11, 0.09), skin)
    brush.fill(ellipse(0.42, 0.02, 0.12, 0.09), skin, factor=1.15)
    brush.fill(ellipse(0.46, 0.05, 0.022), (20, 20, 20))
    shell = brush.mask(ellipse(0, 0, 0.36, 0.28))
    brush.paint(shell, PALETTE["brown"])
    brush.pattern(shell, "checks", (-0.36, -0.3, 0.36, 0.3), PALETTE["buff"], 0.16)
    _round(brush, 0, 0, 0.5, 0.4)


def frog(brush: Brush, rng: np.random.Generator) -> None:
    skin = PALETTE["green"]
    for side in (-1, 1):
        brush.fill(curve([(side * 0.15, -0.1), (side * 0.48, 0.02), (side * 0.4, -0.3), (side * 0.2, -0.34)]), skin)
        brush.fill(ellipse(side * 0.42, -0.36, 0.1, 0.04), PALETTE["orange"])
        brush.fill(ellipse(side * 0.18, 0.28, 0.1), skin, factor=1.1)
        brush.fill(ellipse(side * 0.18, 0.3, 0.065), PALETTE["red"])
        brush.fill(ellipse(side * 0.18, 0.3, 0.028, 0.05), (16, 16, 16))
    brush.fill(curve([(0.3, 0.1), (0.0, 0.28), (-0.3, 0.1), (-0.22, -0.32), (0.22, -0.32)]), skin)
    brush.fill(curve([(0.14, -0.05), (-0.14, -0.05), (-0.12, -0.3), (0.12, -0.3)]), PALETTE["buff"])
    brush.fill(stroke([(-0.2, 0.06), (0, 0.02), (0.2, 0.06)], 0.025), (30, 50, 30))
    _round(brush, 0, 0, 0.55, 0.5)


# Things


def ball(brush: Brush, rng: np.random.Generator, *, kind: str) -> None:
    coat = {"soccer": (236, 234, 228), "basket": (206, 98, 40), "tennis": (206, 220, 60), "base": (238, 232, 220)}[kind]
    disc = brush.mask(ellipse(0, 0, 0.48))
    brush.paint(disc, coat)
    turn = rng.uniform(0, 72)
    if kind == "soccer":
        brush.paint(brush.mask(regular(5, 0, 0, 0.17, turn=turn), disc), (24, 24, 28))
        for corner in regular(5, 0, 0, 0.44, turn=turn):
            brush.paint(brush.mask(regular(5, *corner, 0.15, turn=turn + 36), disc), (24, 24, 28))
    else:
        line = {"basket": (40, 28, 24), "tennis": (244, 244, 236), "base": (196, 40, 40)}[kind]
        if kind == "basket":
            brush.paint(brush.mask(rectangle(-0.5, -0.02, 0.5, 0.02), disc), line)
            brush.paint(brush.mask(rectangle(-0.02, -0.5, 0.02, 0.5), disc), line)
        for side in (-1, 1):
            arc = np.array([(side * 0.42, 0.48), (side * 0.14, 0.2), (side * 0.14, -0.2), (side * 0.42, -0.48)])
            brush.paint(brush.mask(stroke(arc, 0.045), disc), line)
    _round(brush)


def mug(brush: Brush, rng: np.random.Generator) -> None:
    coat = _colour(rng)
    brush.fill(ellipse(0.3, -0.02, 0.17, 0.2), coat, factor=0.85)
    brush.canvas.fill(brush.frame.apply(ellipse(0.3, -0.02, 0.1, 0.13)), (120, 110, 100), 0)
    side = brush.mask(rectangle(-0.32, -0.38, 0.28, 0.34))
    brush.paint(side, coat)
    if rng.random() < 0.5:
        brush.paint(brush.mask(rectangle(-0.32, -0.12, 0.28, 0.08), side), _colour(rng))
    brush.fill(ellipse(-0.02, -0.38, 0.3, 0.08), coat)
    brush.fill(ellipse(-0.02, 0.34, 0.3, 0.09), coat, factor=1.15)
    brush.fill(ellipse(-0.02, 0.33, 0.25, 0.065), (62, 38, 26))
    _round(brush, 0, 0, 0.6, 1.2)


def car(brush: Brush, rng: np.random.Generator) -> None:
    coat = _colour(rng, "red", "blue", "white", "black", "teal", "green", "grey")
    brush.fill(np.array([(-0.28, 0.04), (-0.14, 0.22), (0.14, 0.22), (0.28, 0.04)]), coat, factor=0.9)
    for x0, x1 in ((-0.2, -0.02), (0.02, 0.2)):
        window = np.array([(x0, 0.05), (x0 + 0.09 * (x0 < -0.1), 0.18), (x1 - 0.09 * (x1 > 0.1), 0.18), (x1, 0.05)])
        brush.fill(window, (150, 180, 196))
    brush.fill(
        curve([(0.48, -0.08), (0.42, 0.04), (0.0, 0.06), (-0.42, 0.06), (-0.49, -0.06), (-0.4, -0.17), (0.42, -0.17)]),
        coat,
    )
    for x in (-0.28, 0.28):
        brush.fill(ellipse(x, -0.16, 0.11), (30, 30, 32))
        brush.fill(ellipse(x, -0.16, 0.055), (170, 172, 176))
    brush.fill(ellipse(0.45, -0.04, 0.035), (250, 240, 190))


def bus(brush: Brush, rng: np.random.Generator) -> None:
    coat = (238, 176, 34)
    brush.fill(rectangle(-0.48, -0.18, 0.48, 0.26), coat)
    for x in np.linspace(-0.42, 0.3, 6):
        brush.fill(rectangle(x, 0.06, x + 0.1, 0.19), (90, 110, 124))
    brush.fill(rectangle(-0.48, -0.06, 0.48, -0.02), (34, 30, 28))
    for x in (-0.3, 0.3):
        brush.fill(ellipse(x, -0.19, 0.09), (30, 30, 32))
        brush.fill(ellipse(x, -0.19, 0.04), (150, 150, 152))
    _round(brush, 0, 0.05, 1.0, 0.6)


def sailboat(brush: Brush, rng: np.random.Generator) -> None:
    sail, hull = _colour(rng, "white", "buff", "red", "orange"), _colour(rng, "brown", "blue", "white", "black")
    brush.fill(rectangle(-0.015, -0.2, 0.015, 0.5), (96, 72, 52))
    brush.fill(curve([(0.03, 0.46), (0.03, -0.16), (0.38, -0.16), (0.26, 0.12)], 3), sail)
    brush.fill(np.array([(-0.03, 0.4), (-0.03, -0.14), (-0.32, -0.14)]), sail, factor=0.86)
    brush.fill(np.array([(-0.46, -0.2), (0.48, -0.2), (0.34, -0.4), (-0.34, -0.4)]), hull)


def church(brush: Brush, rng: np.random.Generator) -> None:
    wall, roof = _colour(rng, "white", "buff", "grey"), _colour(rng, "rufous", "brown", "grey", "black")
    brush.fill(rectangle(-0.12, -0.45, 0.48, -0.02), wall)
    brush.fill(np.array([(-0.14, -0.02), (-0.04, 0.2), (0.4, 0.2), (0.5, -0.02)]), roof)
    brush.fill(rectangle(-0.42, -0.45, -0.12, 0.1), wall, factor=0.88)
    brush.fill(np.array([(-0.44, 0.1), (-0.27, 0.48), (-0.1, 0.1)]), roof, factor=0.9)
    for x in (0.0, 0.15, 0.3):
        brush.fill(rectangle(x, -0.3, x + 0.08, -0.12), (70, 90, 110))
    brush.fill(rectangle(-0.33, -0.45, -0.21, -0.2), (80, 54, 38))


def lighthouse(brush: Brush, rng: np.random.Generator) -> None:
    tower = brush.mask(np.array([(-0.17, -0.45), (0.17, -0.45), (0.1, 0.25), (-0.1, 0.25)]))
    brush.paint(tower, PALETTE["white"])
    band = _colour(rng, "red", "black", "blue")
    for y in (-0.32, -0.06, 0.18):
        brush.paint(brush.mask(rectangle(-0.3, y - 0.06, 0.3, y + 0.07), tower), band)
    brush.fill(rectangle(-0.14, 0.25, 0.14, 0.28), (50, 48, 50))
    brush.fill(rectangle(-0.08, 0.28, 0.08, 0.38), (250, 230, 150))
    brush.fill(np.array([(-0.12, 0.38), (0, 0.49), (0.12, 0.38)]), band)
    _round(brush, 0, 0, 0.22, 1.4)


def mushroom(brush: Brush, rng: np.random.Generator) -> None:
    cap_colour = _colour(rng, "red", "brown", "rufous", "buff")
    brush.fill(curve([(-0.09, 0.08), (-0.12, -0.4), (0.12, -0.4), (0.09, 0.08)]), (226, 214, 192))
    cap = brush.mask(curve([(-0.46, 0.0), (-0.3, 0.32), (0.0, 0.42), (0.3, 0.32), (0.46, 0.0), (0.0, -0.05)]))
    brush.paint(cap, cap_colour)
    if rng.random() < 0.6:
        brush.pattern(cap, "spots", (-0.45, 0.0, 0.45, 0.42), (240, 234, 220), 0.19)
    _round(brush, 0, 0.05, 0.6, 0.6)


def daisy(brush: Brush, rng: np.random.Generator) -> None:
    brush.fill(stroke([(0, 0.1), (0.03, -0.2), (0, -0.49)], 0.04), (70, 110, 50))
    for x, y in regular(11, 0, 0.12, 0.22, turn=rng.uniform(0, 30)):
        turn = np.degrees(np.arctan2(y - 0.12, x))
        brush.at(brush.frame.child(x, y, float(turn))).fill(ellipse(0, 0, 0.15, 0.055), (240, 238, 234))
    brush.fill(ellipse(0, 0.12, 0.12), PALETTE["yellow"], factor=0.95)


def clock(brush: Brush, rng: np.random.Generator) -> None:
    brush.fill(ellipse(0, 0, 0.48), _colour(rng, "black", "brown", "red", "teal", "grey"))
    brush.fill(ellipse(0, 0, 0.4), (242, 240, 232))
    for x, y in regular(12, 0, 0, 0.34):
        brush.fill(ellipse(x, y, 0.028), (30, 30, 32))
    for length, width in ((0.22, 0.05), (0.31, 0.035)):
        turn = rng.uniform(0, 2 * np.pi)
        brush.fill(stroke([(0, 0), (length * np.cos(turn), length * np.sin(turn))], width), (26, 26, 30))


def umbrella(brush: Brush, rng: np.random.Generator) -> None:
    first, second = _colour(rng), _colour(rng)
    brush.fill(stroke([(0, 0.4), (0, -0.38), (0.05, -0.46), (0.11, -0.4)], 0.035), (70, 50, 40))
    edge = np.linspace(-0.48, 0.48, 6)
    for number, (x0, x1) in enumerate(itertools.pairwise(edge)):
        panel = np.array([(x0, 0.02), (0.62 * x0, 0.3), (0, 0.46), (0.62 * x1, 0.3), (x1, 0.02), ((x0 + x1) / 2, 0.07)])
        brush.fill(panel, second if number % 2 else first)
    _round(brush, 0, 0, 0.7, 0.6)


def lamp(brush: Brush, rng: np.random.Generator) -> None:
    base = _colour(rng)
    brush.fill(curve([(-0.04, 0.1), (-0.13, -0.15), (-0.06, -0.38), (0.06, -0.38), (0.13, -0.15), (0.04, 0.1)]), base)
    brush.fill(ellipse(0, -0.42, 0.2, 0.05), base, factor=0.8)
    brush.fill(np.array([(-0.34, 0.06), (-0.17, 0.46), (0.17, 0.46), (0.34, 0.06)]), (246, 226, 176))
    _round(brush, 0, 0, 0.5, 1.0)


def chair(brush: Brush, rng: np.random.Generator) -> None:
    wood = _colour(rng, "brown", "rufous", "buff", "black", "white")
    for x in (-0.26, 0.26):
        brush.fill(rectangle(x - 0.03, -0.45, x + 0.03, 0.02), wood, factor=0.85)
    brush.fill(rectangle(-0.3, -0.02, -0.22, 0.48), wood)
    brush.fill(rectangle(0.14, 0.0, 0.2, 0.48), wood, factor=0.9)
    for y in (0.14, 0.27, 0.4):
        brush.fill(rectangle(-0.28, y, 0.2, y + 0.07), wood, factor=1.05)
    brush.fill(np.array([(-0.34, -0.08), (-0.24, 0.06), (0.3, 0.06), (0.36, -0.08)]), _colour(rng))


def bottle(brush: Brush, rng: np.random.Generator) -> None:
    glass = _colour(rng, "green", "brown", "olive", "black")
    brush.fill(rectangle(-0.05, 0.15, 0.05, 0.46), glass)
    brush.fill(curve([(-0.14, 0.05), (-0.05, 0.2), (0.05, 0.2), (0.14, 0.05), (0.14, -0.46), (-0.14, -0.46)], 3), glass)
    brush.fill(rectangle(-0.14, -0.3, 0.14, -0.04), (236, 228, 206))
    brush.fill(rectangle(-0.055, 0.38, 0.055, 0.49), _colour(rng, "red", "black", "yellow"))
    _round(brush, 0, 0, 0.2, 2.0)


def airliner(brush: Brush, rng: np.random.Generator) -> None:
    trim = _colour(rng, "red", "blue", "orange", "green")
    brush.fill(np.array([(0.05, 0.02), (-0.14, 0.2), (-0.05, 0.2), (0.2, 0.04)]), (190, 194, 200))
    brush.fill(np.array([(-0.36, 0.04), (-0.49, 0.26), (-0.4, 0.26), (-0.24, 0.06)]), trim)
    brush.fill(
        curve([(0.5, 0.0), (0.38, 0.07), (-0.3, 0.08), (-0.48, 0.05), (-0.3, -0.05), (0.38, -0.06)]), (236, 238, 240)
    )
    brush.fill(rectangle(-0.34, -0.015, 0.42, 0.015), trim)
    brush.fill(np.array([(0.1, -0.02), (-0.22, -0.3), (-0.1, -0.3), (0.26, -0.02)]), (170, 174, 182))
    brush.fill(ellipse(0.02, -0.14, 0.07, 0.035), trim)


def traffic_light(brush: Brush, rng: np.random.Generator) -> None:
    brush.fill(rectangle(-0.03, -0.5, 0.03, -0.2), (90, 92, 94))
    brush.fill(rectangle(-0.17, -0.25, 0.17, 0.48), (44, 46, 44))
    lit = int(rng.integers(3))
    for number, (y, colour) in enumerate(((0.33, (240, 50, 40)), (0.11, (250, 190, 40)), (-0.11, (60, 220, 100)))):
        brush.fill(ellipse(0, y, 0.095), colour, factor=1.1 if number == lit else 0.4)


def drum(brush: Brush, rng: np.random.Generator) -> None:
    coat = _colour(rng, "red", "blue", "green", "purple", "teal")
    brush.fill(ellipse(0, -0.26, 0.42, 0.13), coat)
    side = brush.mask(rectangle(-0.42, -0.26, 0.42, 0.2))
    brush.paint(side, coat)
    zigzag = [(x, 0.12 if i % 2 else -0.2) for i, x in enumerate(np.linspace(-0.42, 0.42, 8))]
    brush.paint(brush.mask(stroke(zigzag, 0.035), side), (236, 226, 190))
    brush.fill(ellipse(0, 0.22, 0.43, 0.14), PALETTE["yellow"], factor=0.85)
    brush.fill(ellipse(0, 0.23, 0.37, 0.11), (240, 234, 222))
    _round(brush, 0, 0, 0.6, 1.2)


def balloon(brush: Brush, rng: np.random.Generator) -> None:
    first, second = _colour(rng), _colour(rng)
    bag = brush.mask(
        curve([(0, 0.49), (0.34, 0.3), (0.34, 0.02), (0.09, -0.26), (-0.09, -0.26), (-0.34, 0.02), (-0.34, 0.3)])
    )
    brush.paint(bag, first)
    brush.pattern(bag, "bars", (-0.36, -0.3, 0.36, 0.5), second, 0.18)
    for x in (-0.06, 0.06):
        brush.fill(stroke([(x, -0.26), (x, -0.38)], 0.015), (70, 60, 50))
    brush.fill(rectangle(-0.08, -0.48, 0.08, -0.37), PALETTE["brown"])
    _round(brush, 0, 0.12, 0.46, 0.5)


def banana(brush: Brush, rng: np.random.Generator) -> None:
    for shift in np.array([(0.0, 0.0), (0.0, 0.12)]):
        outline = curve([(-0.44, 0.2), (-0.28, -0.12), (0.06, -0.24), (0.42, -0.04), (0.1, -0.06), (-0.2, 0.04)])
        brush.fill(outline + shift, PALETTE["yellow"], factor=0.85 + float(shift[1]))
    brush.fill(ellipse(-0.43, 0.27, 0.05, 0.1), (110, 84, 40))


def fruit(brush: Brush, rng: np.random.Generator, *, coat: Colour, leafy: bool) -> None:
    brush.fill(stroke([(0, 0.3), (0.04, 0.48)], 0.05), (90, 66, 40))
    if leafy:
        brush.fill(curve([(0.03, 0.38), (0.2, 0.5), (0.34, 0.42), (0.18, 0.34)]), (76, 130, 50))
    brush.fill(
        curve(
            [(0, 0.3), (0.3, 0.34), (0.44, 0.0), (0.24, -0.42), (0, -0.38), (-0.24, -0.42), (-0.44, 0), (-0.3, 0.34)]
        ),
        coat,
    )
    _round(brush, 0, -0.03, 0.56, 0.52)


def strawberry(brush: Brush, rng: np.random.Generator) -> None:
    berry = brush.mask(curve([(0, 0.3), (0.34, 0.26), (0.36, 0.0), (0.0, -0.48), (-0.36, 0.0), (-0.34, 0.26)]))
    brush.paint(berry, PALETTE["red"])
    brush.pattern(berry, "spots", (-0.4, -0.48, 0.4, 0.3), (244, 214, 120), 0.13)
    brush.fill(regular(6, 0, 0.3, 0.3, 0.11), (70, 130, 50))
    _round(brush, 0, 0, 0.52, 0.56)


def teapot(brush: Brush, rng: np.random.Generator) -> None:
    coat, second = _colour(rng), _colour(rng)
    brush.fill(stroke([(0.2, -0.1), (0.36, 0.0), (0.48, 0.2)], 0.16, 0.07), coat, factor=0.9)
    brush.fill(
        stroke(np.array([(-0.24, 0.14), (-0.44, 0.16), (-0.46, -0.12), (-0.24, -0.16)]), 0.055), coat, factor=0.85
    )
    body = brush.mask(curve([(0.3, -0.05), (0.18, 0.2), (-0.18, 0.2), (-0.3, -0.05), (-0.18, -0.32), (0.18, -0.32)]))
    brush.paint(body, coat)
    brush.pattern(body, ("plain", "spots", "bars")[int(rng.integers(3))], (-0.3, -0.3, 0.3, 0.2), second, 0.15)
    brush.fill(ellipse(0, 0.21, 0.15, 0.05), coat, factor=0.8)
    brush.fill(ellipse(0, 0.28, 0.045), second)
    _round(brush, 0, -0.05, 0.5, 0.42)


def pinwheel(brush: Brush, rng: np.random.Generator) -> None:
    colours = [_colour(rng) for _ in range(2)]
    brush.fill(stroke([(0, 0.1), (0, -0.5)], 0.035), (150, 120, 90))
    turn = rng.uniform(0, 90)
    for number in range(4):
        blade = brush.at(brush.frame.child(0, 0.12, turn + 90 * number))
        blade.fill(np.array([(0, 0), (0.36, 0.02), (0.22, 0.24), (0.0, 0.14)]), colours[number % 2])
    brush.fill(ellipse(0, 0.12, 0.04), (240, 236, 220))


def vase(brush: Brush, rng: np.random.Generator) -> None:
    coat, mark = _colour(rng, "blue", "white", "teal", "rufous"), _colour(rng, "yellow", "white", "black", "red")
    body = brush.mask(
        curve(
            [
                (-0.1, 0.46),
                (-0.08, 0.28),
                (-0.28, 0.02),
                (-0.14, -0.46),
                (0.14, -0.46),
                (0.28, 0.02),
                (0.08, 0.28),
                (0.1, 0.46),
            ]
        )
    )
    brush.paint(body, coat)
    brush.pattern(body, ("checks", "spots", "scallops")[int(rng.integers(3))], (-0.3, -0.3, 0.3, 0.2), mark, 0.15)
    brush.fill(ellipse(0, 0.46, 0.13, 0.035), coat, factor=0.6)
    _round(brush, 0, -0.05, 0.38, 1.0)


def sock(brush: Brush, rng: np.random.Generator) -> None:
    wool, mark = _colour(rng), _colour(rng)
    body = brush.mask(
        curve(
            [
                (-0.16, 0.48),
                (-0.18, -0.1),
                (-0.2, -0.36),
                (0.1, -0.46),
                (0.44, -0.42),
                (0.44, -0.22),
                (0.12, -0.1),
                (0.12, 0.48),
            ],
            4,
        )
    )
    brush.paint(body, wool)
    turned = brush.at(brush.frame.child(0, 0, 90))
    turned.pattern(body, "bars", (-0.5, -0.5, 0.5, 0.5), mark, 0.15)
    _round(brush, 0, 0, 0.5, 0.9)


def hat(brush: Brush, rng: np.random.Generator) -> None:
    felt = _colour(rng, "brown", "buff", "black", "white", "rufous")
    brush.fill(
        curve([(-0.5, 0.02), (-0.3, -0.2), (0.0, -0.26), (0.3, -0.2), (0.5, 0.02), (0.2, -0.1), (-0.2, -0.1)]), felt
    )
    brush.fill(
        curve([(-0.27, -0.12), (-0.22, 0.24), (-0.05, 0.2), (0.05, 0.2), (0.22, 0.24), (0.27, -0.12)]), felt, factor=1.1
    )
    brush.fill(
        np.array([(-0.27, -0.12), (0.27, -0.12), (0.26, 0.0), (-0.26, 0.0)]), _colour(rng, "red", "black", "yellow")
    )
    _round(brush, 0, 0, 0.6, 0.4)


def bow_tie(brush: Brush, rng: np.random.Generator) -> None:
    cloth, mark = _colour(rng), _colour(rng)
    for side in (-1, 1):
        wing = brush.mask(curve(np.array([(0.04, 0.05), (0.46, 0.26), (0.48, -0.26), (0.04, -0.05)]) * (side, 1), 4))
        brush.paint(wing, cloth)
        brush.pattern(wing, "spots", (-0.5, -0.3, 0.5, 0.3), mark, 0.13)
    brush.fill(rectangle(-0.07, -0.1, 0.07, 0.1), cloth, factor=0.75)
