"""Bird classes and how to draw them.

A class is a table part -> look (colour, pattern, shape). Classes come in families of four. A family fixes the body's
build and all looks; two of its parts, one on the head and one on the body, each have two looks, and the four classes
are the four combinations. So any two classes of a family differ in exactly one or two known parts, those parts exist
in every class of the family, and neither part alone tells a class from all its siblings.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import ImageChops

from relmap.data.render.canvas import Brush, Frame, curve, ellipse, rectangle, stroke
from relmap.data.render.palette import PALETTE, contrasting, distance

FAMILY_SIZE = 4
MAX_CLASSES = 200

PARTS = (
    "background",
    "back",
    "belly",
    "breast",
    "tail",
    "wing",
    "wing_bar",
    "leg",
    "head",
    "crown",
    "nape",
    "throat",
    "crest",
    "eye_stripe",
    "eye",
    "beak",
)
"""Names of the part map's values; the index is the pixel value."""

INDEX = {name: number for number, name in enumerate(PARTS)}
FAR_LEG, FAR_WING = 30, 31
"""Labels of the limbs on the bird's far side; ``merge_far`` turns them into ``leg`` and ``wing``."""

HEAD_GROUP = tuple(INDEX[name] for name in ("head", "crown", "throat", "eye_stripe"))
BODY_GROUP = tuple(INDEX[name] for name in ("back", "belly", "breast", "nape"))

_FAMILIES = (
    "Finch",
    "Warbler",
    "Tanager",
    "Sparrow",
    "Bunting",
    "Thrush",
    "Jay",
    "Wren",
    "Oriole",
    "Vireo",
    "Flycatcher",
    "Grosbeak",
    "Swallow",
    "Kingfisher",
    "Starling",
    "Waxwing",
    "Towhee",
    "Shrike",
    "Pipit",
    "Lark",
    "Cuckoo",
    "Bulbul",
    "Robin",
    "Barbet",
    "Manakin",
    "Cotinga",
    "Trogon",
    "Motmot",
    "Bee_eater",
    "Roller",
    "Hoopoe",
    "Sunbird",
    "Honeyeater",
    "Pitta",
    "Broadbill",
    "Babbler",
    "Laughingthrush",
    "Nuthatch",
    "Tit",
    "Chat",
    "Redstart",
    "Wheatear",
    "Accentor",
    "Wagtail",
    "Munia",
    "Waxbill",
    "Weaver",
    "Bishop",
    "Whydah",
    "Siskin",
)


@dataclass(frozen=True)
class Look:
    """How a part looks: main colour, pattern and its colour, shape (only where the part has several)."""

    colour: str
    pattern: str = "plain"
    mark: str = ""
    shape: str = ""

    def __str__(self) -> str:
        text = self.colour if self.pattern == "plain" else f"{self.colour} {self.pattern} {self.mark}"
        return f"{text} {self.shape}".strip()


@dataclass(frozen=True)
class Build:
    """Proportions of a family: factors about 1."""

    plump: float
    head: float
    neck: float
    tail: float
    leg: float
    beak: float


@dataclass(frozen=True)
class BirdClass:
    """One species: its family, its looks by part name, and the two parts that vary in its family."""

    index: int
    family: int
    name: str
    build: Build
    looks: dict[str, Look]
    varying: tuple[str, str]


_ADJECTIVE = {
    "breast": "breasted",
    "belly": "bellied",
    "wing": "winged",
    "wing_bar": "barred",
    "tail": "tailed",
    "crown": "crowned",
    "head": "headed",
    "throat": "throated",
    "crest": "crested",
    "eye_stripe": "masked",
    "beak": "billed",
}
_HEAD_PARTS = ("crown", "throat", "crest", "head", "beak", "eye_stripe")
_BODY_PARTS = ("breast", "wing", "tail", "belly", "wing_bar")
_PATTERNS = ("bars", "streaks", "spots", "scallops")
_SHAPES = {
    "beak": ("cone", "thin", "hooked", "long", "thick"),
    "crest": ("spike", "fan", "curl"),
    "tail": ("square", "pointed", "forked", "fan"),
}
# Parts told apart by shape or pattern as well as by colour, and how often colour is what differs.
_COLOUR_SHARE = {"tail": 0.7, "crest": 0.75, "beak": 0.7, "wing": 0.7, "breast": 0.7, "belly": 0.7}


def _choose(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _patterned(rng: np.random.Generator, colour: str, chance: float) -> Look:
    if rng.random() >= chance:
        return Look(colour)
    return Look(colour, _choose(rng, _PATTERNS), _choose(rng, contrasting(colour, 260)))


def plumage(rng: np.random.Generator, crested: bool = False) -> tuple[Build, dict[str, Look]]:
    """A random build and the looks of all parts; a crest always if ``crested``, else sometimes."""
    build = Build(
        plump=rng.uniform(0.85, 1.25),
        head=rng.uniform(0.95, 1.2),
        neck=rng.uniform(0.7, 1.3),
        tail=rng.uniform(0.65, 1.0),
        leg=rng.uniform(0.6, 1.2),
        beak=rng.uniform(1.0, 1.4),
    )
    colours = tuple(PALETTE)
    upper = _choose(rng, colours)
    under = _choose(rng, contrasting(upper, 150))
    hood = _choose(rng, colours) if rng.random() < 0.5 else upper
    accent = _choose(rng, contrasting(under, 200))
    wing = upper if rng.random() < 0.35 else _choose(rng, contrasting(under, 150))
    crowned = rng.random() < 0.55
    looks = {
        "back": Look(upper),
        "belly": _patterned(rng, under, 0.25),
        "breast": _patterned(rng, accent if rng.random() < 0.5 else under, 0.2),
        "tail": Look(wing if rng.random() < 0.6 else _choose(rng, colours), shape=_choose(rng, _SHAPES["tail"])),
        "wing": _patterned(rng, wing, 0.3),
        "wing_bar": Look(_choose(rng, contrasting(wing)) if rng.random() < 0.6 else wing),
        "leg": Look(_choose(rng, ("black", "grey", "orange", "red", "buff", "yellow"))),
        "head": Look(hood),
        "crown": Look(_choose(rng, contrasting(hood)) if crowned else hood),
        "nape": Look(hood if rng.random() < 0.5 else upper),
        "throat": Look(_choose(rng, contrasting(hood, 150)) if rng.random() < 0.6 else hood),
        "eye_stripe": Look(_choose(rng, contrasting(hood)) if rng.random() < 0.4 else hood),
        "eye": Look(_choose(rng, ("white", "yellow", "red", "orange", "brown"))),
        "beak": Look(_choose(rng, ("black", "grey", "orange", "yellow", "red")), shape=_choose(rng, _SHAPES["beak"])),
    }
    if crested or rng.random() < 0.25:
        looks["crest"] = Look(_choose(rng, contrasting(hood, 150)), shape=_choose(rng, _SHAPES["crest"]))
    return build, looks


def _family(seed: int, family: int, stream: int) -> tuple[Build, dict[str, Look], dict[str, Look], tuple[str, str]]:
    """Build, base looks, alternative looks of the two varying parts, and their names."""
    # Cycles of coprime lengths: thirty families until a pair of parts comes again.
    turn = family + int(np.random.default_rng(np.random.SeedSequence([seed, stream])).integers(30))
    varying = (_HEAD_PARTS[turn % len(_HEAD_PARTS)], _BODY_PARTS[turn % len(_BODY_PARTS)])
    rng = np.random.default_rng(np.random.SeedSequence([seed, stream, family]))
    build, looks = plumage(rng, crested="crest" in varying)
    alternatives = {part: other_look(rng, part, looks[part]) for part in varying}
    return build, looks, alternatives, varying


def other_look(rng: np.random.Generator, part: str, look: Look) -> Look:
    """A clearly different look of the same part."""
    if rng.random() < _COLOUR_SHARE.get(part, 1.0):
        colours = contrasting(look.colour, 300)
        if part == "beak":
            colours = tuple(c for c in ("black", "white", "orange", "yellow", "red") if distance(c, look.colour) >= 260)
        colour = _choose(rng, colours)
        mark = look.mark
        if mark and distance(mark, colour) < 200:
            mark = _choose(rng, contrasting(colour, 260))
        return Look(colour, look.pattern, mark, look.shape)
    if part in _SHAPES:
        return Look(look.colour, shape=_choose(rng, [s for s in _SHAPES[part] if s != look.shape]))
    if look.pattern == "plain":
        return Look(look.colour, _choose(rng, _PATTERNS), _choose(rng, contrasting(look.colour, 300)))
    return Look(look.colour)


def _difference(look: Look, base: Look, alternative: Look) -> str:
    """The word that tells a varying part's look from its other look."""
    for field in ("colour", "shape", "pattern"):
        if getattr(base, field) != getattr(alternative, field):
            return getattr(look, field).capitalize()
    raise ValueError(f"looks do not differ: {look}")


@functools.lru_cache(maxsize=2 * MAX_CLASSES)
def bird_class(index: int, seed: int, stream: int = 0) -> BirdClass:
    """The class of an index: a pure function of (index, seed).

    ``stream`` separates worlds of birds: 0 is the CUB role's, 1 the ImageNet role's.
    """
    family, member = divmod(index, FAMILY_SIZE)
    build, base, alternatives, varying = _family(seed, family, stream)
    looks = dict(base)
    for bit, part in enumerate(varying):
        if member >> bit & 1:
            looks[part] = alternatives[part]
    words = [f"{_difference(looks[part], base[part], alternatives[part])}_{_ADJECTIVE[part]}" for part in varying]
    name = "_".join([*words, _FAMILIES[family % len(_FAMILIES)]])
    return BirdClass(index, family, name, build, looks, varying)


def differing_parts(first: BirdClass, second: BirdClass) -> tuple[str, ...]:
    """Parts whose looks differ, in the order of ``PARTS``."""
    return tuple(part for part in PARTS if first.looks.get(part) != second.looks.get(part))


def neighbours(birds: list[BirdClass]) -> list[tuple[int, int, tuple[str, ...]]]:
    """Rows (position, neighbour's position, differing parts): all siblings, or the nearest class if there are none."""
    rows = []
    for i, bird in enumerate(birds):
        siblings = [j for j, other in enumerate(birds) if j != i and other.family == bird.family]
        if not siblings:
            others = [j for j in range(len(birds)) if j != i]
            siblings = [min(others, key=lambda j: (len(differing_parts(bird, birds[j])), j))]
        rows += [(i, j, differing_parts(bird, birds[j])) for j in siblings]
    return rows


@dataclass(frozen=True)
class Pose:
    """How a bird is held: angles in degrees, anticlockwise for a bird that faces right."""

    flip: bool
    tilt: float
    head_turn: float
    head_shift: tuple[float, float]
    wing: float
    raised: bool
    tail: float
    squeeze: float
    legs: float


def random_pose(rng: np.random.Generator) -> Pose:
    """Perched mostly; one in eight with raised wings."""
    raised = bool(rng.random() < 0.12)
    return Pose(
        flip=bool(rng.random() < 0.5),
        tilt=rng.uniform(-8, 38) if not raised else rng.uniform(-15, 30),
        head_turn=rng.uniform(-38, 20),
        head_shift=(rng.uniform(-0.06, 0.05), rng.uniform(-0.06, 0.04)),
        wing=rng.uniform(106, 150) if raised else rng.uniform(168, 196),
        raised=raised,
        tail=rng.uniform(-28, 22),
        squeeze=rng.uniform(0.8, 1.0),
        legs=rng.uniform(-20, 20),
    )


_BODY = np.array(
    (
        *((0.47, 0.1), (0.3, 0.27), (0, 0.3), (-0.33, 0.19), (-0.55, 0.05)),
        *((-0.4, -0.12), (-0.08, -0.29), (0.24, -0.26), (0.43, -0.1)),
    )
)
_WING = curve(
    [(0.08, -0.05), (0.0, 0.12), (0.16, 0.2), (0.45, 0.17), (0.8, 0.06), (1.02, -0.04), (0.75, -0.11), (0.35, -0.15)], 4
)
_RAISED = curve(
    [(0.02, -0.14), (0.0, 0.14), (0.3, 0.24), (0.7, 0.24), (1.0, 0.14), (1.04, 0.02), (0.8, -0.12), (0.4, -0.26)], 4
)
_TAILS = {
    "square": np.array([(-0.1, 0.09), (0.6, 0.11), (0.62, -0.1), (-0.1, -0.09)]),
    "pointed": np.array([(-0.1, 0.1), (0.35, 0.09), (0.85, 0.0), (0.35, -0.08), (-0.1, -0.09)]),
    "forked": np.array([(-0.1, 0.09), (0.75, 0.22), (0.45, 0.0), (0.75, -0.2), (-0.1, -0.09)]),
    "fan": curve([(-0.1, 0.08), (0.4, 0.24), (0.6, 0.2), (0.66, 0.0), (0.6, -0.2), (0.4, -0.24), (-0.1, -0.08)], 4),
}
_BEAKS = {
    "cone": np.array([(0.7, 0.28), (1.5, -0.06), (0.7, -0.38)]),
    "thin": np.array([(0.75, 0.14), (1.8, -0.02), (0.75, -0.16)]),
    "hooked": curve([(0.7, 0.3), (1.25, 0.25), (1.5, -0.05), (1.42, -0.42), (1.2, -0.12), (0.7, -0.3)], 4),
    "long": curve([(0.75, 0.2), (1.5, 0.12), (2.2, -0.4), (1.6, -0.16), (0.75, -0.18)], 4),
    "thick": curve([(0.7, 0.42), (1.4, 0.42), (1.95, -0.02), (1.85, -0.28), (1.2, -0.34), (0.7, -0.4)], 4),
}
_CRESTS = {
    "spike": np.array([(0.35, 0.75), (-0.2, 1.25), (-1.25, 1.75), (-0.95, 0.9), (-0.8, 0.3)]),
    "fan": curve([(0.55, 0.7), (0.75, 1.45), (0.2, 1.8), (-0.5, 1.7), (-1.0, 1.2), (-0.8, 0.45)], 4),
    "curl": curve([(0.1, 0.8), (0.05, 1.4), (0.55, 1.85), (0.95, 1.55), (0.5, 1.3), (0.5, 0.8)], 4),
}
HEAD_RADIUS = 0.28


def _head_centre(build: Build, pose: Pose) -> tuple[float, float]:
    neck = 0.27 + 0.13 * build.neck
    return 0.4 + pose.head_shift[0], neck + pose.head_shift[1]


def frames(build: Build, pose: Pose, frame: Frame) -> dict[str, Frame]:
    """Frames of the movable parts of a bird whose body stands in ``frame``."""
    x, y = _head_centre(build, pose)
    raised = 1.12 if pose.raised else 0.92
    return {
        "body": frame,
        "head": frame.child(x, y, pose.head_turn - 0.6 * pose.tilt, HEAD_RADIUS * build.head),
        "wing": frame.child(0.24, 0.08 * build.plump, pose.wing, raised),
        "far_wing": frame.child(0.3, 0.14 * build.plump, pose.wing - 32, 1.05),
        "tail": frame.child(-0.5, 0.05, 180 + pose.tail, build.tail),
        "leg": frame.child(-0.02, -0.2 * build.plump, pose.legs - pose.tilt, build.leg),
        "far_leg": frame.child(0.12, -0.2 * build.plump, pose.legs - pose.tilt, build.leg),
    }


def extent(bird: BirdClass, pose: Pose) -> np.ndarray:
    """Picture-side bounding box of the bird at scale 1 about its origin: [[x0, y0], [x1, y1]], y down."""
    at = frames(bird.build, pose, Frame.upright(0, 0, 1, pose.tilt, pose.flip, pose.squeeze))
    corners = [
        at["body"].apply(_BODY * (1, bird.build.plump)),
        at["head"].apply(ellipse(0, 0, 1.05)),
        at["head"].apply(_BEAKS[bird.looks["beak"].shape] * (bird.build.beak, 1)),
        at["tail"].apply(_TAILS[bird.looks["tail"].shape]),
        at["leg"].apply(np.array([(0.1, -0.33), (-0.1, -0.33)])),
        at["wing"].apply(_RAISED if pose.raised else _WING),
    ]
    if "crest" in bird.looks:
        corners.append(at["head"].apply(_CRESTS[bird.looks["crest"].shape]))
    points = np.concatenate(corners)
    return np.stack([points.min(0), points.max(0)])


def draw_bird(brush: Brush, bird: BirdClass, pose: Pose, shades: np.ndarray) -> dict[str, Frame]:
    """Draw a bird whose body stands in the brush's frame.

    Args:
        shades: brightness factor of each part, (len(PARTS),).

    Returns:
        The frames of its movable parts.
    """
    build, looks = bird.build, bird.looks
    at = frames(build, pose, brush.frame)
    body, head, wing, tail = (brush.at(at[name]) for name in ("body", "head", "wing", "tail"))
    wing_look = looks["wing"]

    def tone(part: str) -> tuple[tuple[int, int, int], int, float]:
        return PALETTE[looks[part].colour], INDEX[part], float(shades[INDEX[part]])

    if pose.raised:
        far = brush.at(at["far_wing"])
        far.fill(_RAISED, PALETTE[wing_look.colour], FAR_WING, 0.62)
    _draw_leg(brush.at(at["far_leg"]), PALETTE[looks["leg"].colour], FAR_LEG, 0.7)
    _draw_tail(tail, *tone("tail"), looks["tail"].shape)
    _draw_leg(brush.at(at["leg"]), *tone("leg"))

    # Trunk: body and neck are one silhouette, divided into back, belly, breast, nape.
    x, y = _head_centre(build, pose)
    radius = HEAD_RADIUS * build.head
    neck = np.array([(x - 0.95 * radius, y), (x + 0.9 * radius, y - 0.2 * radius), (0.47, 0.0), (0.05, 0.2)])
    trunk = ImageChops.lighter(body.mask(curve(_BODY * (1, build.plump))), body.mask(neck))
    body.paint(trunk, *tone("back"))
    plump = build.plump
    under = curve(
        np.array([(0.5, 0.02), (0.2, 0.0), (-0.2, -0.02), (-0.62, 0.0), (-0.45, -0.4), (0.1, -0.45), (0.5, -0.35)])
        * (1, plump)
    )
    belly = body.mask(under, trunk)
    body.paint(belly, *tone("belly"))
    body.pattern(belly, looks["belly"].pattern, (-0.55, -0.4, 0.4, 0.06), _mark(looks["belly"]), 0.105)
    front = curve(
        np.array([(0.2, 0.24), (0.16, -0.08), (0.2, -0.36), (0.5, -0.42), (0.62, 0.0), (0.55, 0.32), (0.36, 0.36)])
        * (1, plump)
    )
    breast = body.mask(front, trunk)
    body.paint(breast, *tone("breast"))
    body.pattern(breast, looks["breast"].pattern, (0.1, -0.4, 0.6, 0.3), _mark(looks["breast"]), 0.1)
    rear = np.array([(x - 1.3 * radius, y + 0.3), (x - 0.1 * radius, y + 0.2), (x - 0.25, 0.2), (-0.1, 0.27)])
    body.paint(body.mask(rear, trunk), *tone("nape"))
    body.bulge(BODY_GROUP, 0, 0, 0.62, 0.36 * plump)

    if "crest" in looks:
        head.fill(_CRESTS[looks["crest"].shape], *tone("crest"))
        head.bulge((INDEX["crest"],), 0.0, 0.6, 1.6, 1.5)
    skull = head.mask(ellipse(0, 0, 1.06, 0.98))
    head.paint(skull, *tone("head"))
    bib = np.array([(1.2, -0.2), (0.1, -0.2), (-0.45, -0.6), (-0.4, -1.2), (0.7, -1.35), (1.4, -0.8)])
    throat = head.mask(bib, ImageChops.lighter(skull, trunk))
    head.paint(throat, *tone("throat"))
    head.paint(head.mask(rectangle(-0.95, -0.04, 1.2, 0.42), skull), *tone("eye_stripe"))
    head.paint(
        head.mask(curve([(1.2, 0.4), (0.3, 0.4), (-0.5, 0.3), (-1.3, -0.2), (-1.2, 1.2), (0.8, 1.4)]), skull),
        *(tone("crown")),
    )
    head.bulge(HEAD_GROUP, 0, 0, 1.2, 1.12)
    beak = _BEAKS[looks["beak"].shape] * (build.beak, 1)
    head.fill(beak, *tone("beak"))
    head.bulge((INDEX["beak"],), 1.2, -0.2, 1.4, 0.7)
    head.fill(ellipse(0.4, 0.2, 0.24), PALETTE[looks["eye"].colour], INDEX["eye"])
    head.fill(ellipse(0.43, 0.2, 0.16), (16, 14, 18), INDEX["eye"])
    head.fill(ellipse(0.49, 0.27, 0.06), (250, 250, 250), INDEX["eye"])

    outline = _RAISED if pose.raised else _WING
    shadow = wing.mask(outline * (1.03, 1.12) + (-0.01, 0.035), trunk)
    wing.paint(ImageChops.multiply(shadow, shadow.point(lambda value: value * 0.4)), (0, 0, 0), None)
    cover = wing.mask(outline)
    wing.paint(cover, *tone("wing"))
    width = 0.27 if pose.raised else 0.21
    wing.pattern(cover, wing_look.pattern, (0.05, -width, 1.0, width), _mark(wing_look), 0.13)
    for place in (-0.08, -0.02, 0.04):
        quill = wing.mask(stroke([(0.55, place), (1.0, place * 0.6 - 0.02)], 0.022), cover)
        wing.paint(quill, PALETTE[wing_look.colour], None, 0.55)
    bar = wing.mask(curve([(0.3, 0.3), (0.23, 0.0), (0.27, -0.3), (0.5, -0.3), (0.46, 0.0), (0.54, 0.3)]), cover)
    wing.paint(bar, *tone("wing_bar"))
    wing.bulge((INDEX["wing"], INDEX["wing_bar"]), 0.45, 0.02, 0.95, 0.34)
    return at


def _mark(look: Look) -> tuple[int, int, int]:
    return PALETTE[look.mark] if look.mark else (0, 0, 0)


def _draw_leg(brush: Brush, colour: tuple[int, int, int], label: int, factor: float = 1.0) -> None:
    brush.fill(stroke([(0, 0.02), (0.02, -0.16), (0, -0.28)], 0.055, 0.045), colour, label, factor)
    brush.fill(stroke([(-0.07, -0.3), (0, -0.28), (0.11, -0.31)], 0.04), colour, label, factor)


def _draw_tail(brush: Brush, colour: tuple[int, int, int], label: int, factor: float, shape: str) -> None:
    brush.fill(_TAILS[shape], colour, label, factor)
    for end in (-0.05, 0.05):
        brush.fill(stroke([(0.0, 0.4 * end), (0.5, end)], 0.02), colour, label, 0.6 * factor)


def merge_far(labels: np.ndarray) -> np.ndarray:
    """Part map in which the far leg and wing are leg and wing."""
    table = np.arange(256, dtype=np.uint8)
    table[FAR_LEG], table[FAR_WING] = INDEX["leg"], INDEX["wing"]
    return table[labels]
