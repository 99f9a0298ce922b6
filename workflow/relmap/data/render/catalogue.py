"""The classes of the ImageNet role, each a stand-in for the ILSVRC class whose WordNet id and name it carries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relmap.data.render import objects
from relmap.data.render.canvas import Brush
from relmap.data.render.palette import PALETTE

Draw = Callable[[Brush, np.random.Generator], None]


@dataclass(frozen=True)
class SceneClass:
    """A class: WordNet id, ILSVRC's name, and either how to draw it or which bird of the ImageNet role it is.

    Birds come in pairs of siblings, told apart by one part: of the head in one pair, of the body in the next.
    """

    wnid: str
    name: str
    draw: Draw | None = None
    bird: int | None = None
    upright: float = 25.0
    """Largest turn in degrees."""


def _with(draw: Callable[..., None], **looks: Any) -> Draw:
    return functools.partial(draw, **looks)


_P = PALETTE
CLASSES: tuple[SceneClass, ...] = (
    SceneClass("n01530575", "brambling, Fringilla montifringilla", bird=0),
    SceneClass(
        "n02391049",
        "zebra",
        _with(
            objects.quadruped,
            coat=(236, 232, 224),
            pattern="bars",
            mark=_P["black"],
            ear="round",
            tail="long",
            step=0.115,
        ),
        upright=8,
    ),
    SceneClass("n01531178", "goldfinch, Carduelis carduelis", bird=1),
    SceneClass("n04254680", "soccer ball", _with(objects.ball, kind="soccer"), upright=180),
    SceneClass("n01532829", "house finch, linnet, Carpodacus mexicanus", bird=4),
    SceneClass("n03063599", "coffee mug", objects.mug, upright=12),
    SceneClass("n01534433", "junco, snowbird", bird=6),
    SceneClass(
        "n02279972",
        "monarch, monarch butterfly, milkweed butterfly, Danaus plexippus",
        _with(objects.butterfly, upper=_P["orange"], lower=_P["orange"], edge=(30, 26, 26), pattern="bars"),
        upright=60,
    ),
    SceneClass("n01537544", "indigo bunting, indigo finch, indigo bird, Passerina cyanea", bird=8),
    SceneClass("n04285008", "sports car, sport car", objects.car, upright=8),
    SceneClass("n01558993", "robin, American robin, Turdus migratorius", bird=9),
    SceneClass(
        "n01443537",
        "goldfish, Carassius auratus",
        _with(objects.fish, coat=_P["orange"], pattern="plain", mark=_P["white"], fin=_P["red"]),
    ),
    SceneClass("n01560419", "bulbul", bird=12),
    SceneClass("n07734744", "mushroom", objects.mushroom, upright=15),
    SceneClass("n01580077", "jay", bird=14),
    SceneClass(
        "n02128385",
        "leopard, Panthera pardus",
        _with(
            objects.quadruped,
            coat=(214, 164, 84),
            pattern="spots",
            mark=(44, 34, 26),
            ear="round",
            tail="long",
            step=0.095,
        ),
        upright=8,
    ),
    SceneClass("n01582220", "magpie", bird=16),
    SceneClass("n04507155", "umbrella", objects.umbrella),
    SceneClass("n01592084", "chickadee", bird=17),
    SceneClass(
        "n02165456", "ladybug, ladybeetle, lady beetle, ladybird, ladybird beetle", objects.ladybug, upright=180
    ),
    SceneClass("n01601694", "water ouzel, dipper", bird=20),
    SceneClass("n03028079", "church, church building", objects.church, upright=4),
    SceneClass("n01828970", "bee eater", bird=22),
    SceneClass(
        "n02607072",
        "anemone fish",
        _with(objects.fish, coat=_P["orange"], pattern="bars", mark=_P["white"], fin=_P["orange"]),
    ),
    SceneClass("n01843065", "jacamar", bird=24),
    SceneClass("n02708093", "analog clock", objects.clock, upright=8),
    SceneClass("n01797886", "ruffed grouse, partridge, Bonasa umbellus", bird=25),
    SceneClass(
        "n02129604",
        "tiger, Panthera tigris",
        _with(
            objects.quadruped,
            coat=(222, 126, 44),
            pattern="bars",
            mark=(40, 30, 26),
            ear="round",
            tail="long",
            step=0.13,
        ),
        upright=8,
    ),
    SceneClass("n01806567", "quail", bird=28),
    SceneClass("n02317335", "starfish, sea star", objects.starfish, upright=180),
    SceneClass("n01833805", "hummingbird", bird=30),
    SceneClass("n06874185", "traffic light, traffic signal, stoplight", objects.traffic_light, upright=5),
    SceneClass("n01796340", "ptarmigan", bird=32),
    SceneClass("n02690373", "airliner", objects.airliner),
    SceneClass("n01807496", "partridge", bird=33),
    SceneClass(
        "n02110341",
        "dalmatian, coach dog, carriage dog",
        _with(
            objects.quadruped,
            coat=(238, 236, 232),
            pattern="spots",
            mark=(36, 34, 36),
            ear="drop",
            tail="long",
            step=0.13,
        ),
        upright=8,
    ),
    SceneClass("n01820546", "lorikeet", bird=36),
    SceneClass("n04612504", "yawl", objects.sailboat, upright=10),
    SceneClass("n01824575", "coucal", bird=38),
    SceneClass(
        "n02281406",
        "sulphur butterfly, sulfur butterfly",
        _with(objects.butterfly, upper=_P["yellow"], lower=_P["yellow"], edge=(200, 150, 60), pattern="plain"),
        upright=60,
    ),
    SceneClass("n01818515", "macaw", bird=40),
    SceneClass("n03249569", "drum, membranophone, tympan", objects.drum, upright=10),
    SceneClass("n01843383", "toucan", bird=41),
    SceneClass("n01978287", "Dungeness crab, Cancer magister", objects.crab),
    SceneClass("n01829413", "hornbill", bird=44),
    SceneClass("n11939491", "daisy", objects.daisy, upright=20),
    SceneClass("n01817953", "African grey, African gray, Psittacus erithacus", bird=46),
    SceneClass(
        "n02606052",
        "rock beauty, Holocanthus tricolor",
        _with(objects.fish, coat=_P["yellow"], pattern="scallops", mark=_P["black"], fin=_P["yellow"]),
    ),
    SceneClass("n04380533", "table lamp", objects.lamp, upright=5),
    SceneClass(
        "n01734418",
        "king snake, kingsnake",
        _with(objects.snake, coat=_P["red"], mark=_P["black"], pattern="bars"),
        upright=60,
    ),
    SceneClass("n02782093", "balloon", objects.balloon, upright=10),
    SceneClass(
        "n02276258",
        "admiral",
        _with(objects.butterfly, upper=_P["black"], lower=_P["red"], edge=(24, 22, 30), pattern="spots"),
        upright=60,
    ),
    SceneClass("n04398044", "teapot", objects.teapot, upright=12),
    SceneClass(
        "n02119022",
        "red fox, Vulpes vulpes",
        _with(
            objects.quadruped,
            coat=(190, 92, 40),
            pattern="plain",
            mark=_P["white"],
            ear="pointed",
            tail="bushy",
            step=0.12,
        ),
        upright=8,
    ),
    SceneClass("n07745940", "strawberry", objects.strawberry, upright=60),
    SceneClass("n01667778", "terrapin", objects.turtle, upright=60),
    SceneClass("n02802426", "basketball", _with(objects.ball, kind="basket"), upright=180),
    SceneClass("n03376595", "folding chair", objects.chair, upright=6),
    SceneClass("n01644373", "tree frog, tree-frog", objects.frog, upright=20),
    SceneClass("n04591713", "wine bottle", objects.bottle, upright=12),
    SceneClass(
        "n01729977",
        "green snake, grass snake",
        _with(objects.snake, coat=_P["green"], mark=_P["yellow"], pattern="plain"),
        upright=60,
    ),
    SceneClass("n07742313", "Granny Smith", _with(objects.fruit, coat=(128, 180, 56), leafy=True)),
    SceneClass("n04146614", "school bus", objects.bus, upright=6),
    SceneClass("n02814860", "beacon, lighthouse, beacon light, pharos", objects.lighthouse, upright=4),
    SceneClass("n04522168", "vase", objects.vase, upright=10),
    SceneClass("n07753592", "banana", objects.banana, upright=60),
    SceneClass("n04254777", "sock", objects.sock, upright=60),
    SceneClass("n04409515", "tennis ball", _with(objects.ball, kind="tennis"), upright=180),
    SceneClass("n03124170", "cowboy hat, ten-gallon hat", objects.hat),
    SceneClass("n02883205", "bow tie, bow-tie, bowtie", objects.bow_tie, upright=40),
    SceneClass("n03944341", "pinwheel", objects.pinwheel, upright=15),
    SceneClass("n02799071", "baseball", _with(objects.ball, kind="base"), upright=180),
)
"""All classes; the first n make a dataset of n. Birds alternate with animals and things, so every prefix mixes them."""
