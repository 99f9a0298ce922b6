"""Named plumage colours (sRGB), far enough apart to be told from each other under the renderer's jitter."""

from __future__ import annotations

PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (34, 32, 36),
    "white": (236, 232, 224),
    "grey": (134, 138, 144),
    "brown": (112, 76, 48),
    "rufous": (176, 84, 40),
    "buff": (214, 180, 128),
    "red": (198, 36, 34),
    "orange": (236, 128, 28),
    "yellow": (242, 208, 40),
    "olive": (122, 124, 48),
    "green": (60, 146, 62),
    "teal": (34, 142, 148),
    "blue": (42, 84, 190),
    "purple": (122, 58, 150),
    "pink": (226, 130, 160),
}


def distance(first: str, second: str) -> float:
    """Distance of two named colours: weighted RGB ("redmean", a cheap stand-in for CIELAB), 0 to about 765."""
    (r1, g1, b1), (r2, g2, b2) = PALETTE[first], PALETTE[second]
    mean = (r1 + r2) / 2
    red, green, blue = r1 - r2, g1 - g2, b1 - b2
    return ((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2) ** 0.5


def contrasting(colour: str, minimum: float = 220.0) -> tuple[str, ...]:
    """Names of the colours at least ``minimum`` away from ``colour``."""
    return tuple(name for name in PALETTE if distance(name, colour) >= minimum)
