"""Rendered birds: what classes are, and CUB-200-2011's format on disk."""

import csv

import numpy as np
import pytest
from PIL import Image
from relmap.data.render import birds, render_cub
from relmap.data.render.cub_writer import CUB_PARTS, render_bird
from relmap.data.render.jobs import generator
from relmap.data.render.palette import distance
from relmap.errors import InputError

SIZES = {"classes": 6, "train_per_class": 2, "test_per_class": 1, "size": 48, "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("birds") / "cub"
    render_cub(root, workers=1, **SIZES)
    return root


def table(root, name):
    return [line.split() for line in (root / "CUB_200_2011" / name).read_text().splitlines()]


def truth(root, name):
    return list(csv.DictReader((root / "relmap_truth" / name).read_text().splitlines()))


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_bytes_for_any_number_of_processes(root, tmp_path):
    render_cub(tmp_path / "again", workers=2, **SIZES)
    assert tree(tmp_path / "again") == tree(root)


def test_other_seed_other_pictures(root, tmp_path):
    render_cub(tmp_path / "other", workers=1, **{**SIZES, "seed": 4})
    mine, other = ({p.read_bytes() for p in r.rglob("*.jpg")} for r in (root, tmp_path / "other"))
    assert not mine & other


def test_a_picture_does_not_depend_on_how_many_are_made(root, tmp_path):
    render_cub(tmp_path / "more", workers=1, **{**SIZES, "classes": 3, "train_per_class": 1})
    mine, few = ({p.read_bytes() for p in r.rglob("*.jpg")} for r in (root, tmp_path / "more"))
    assert len(few) == 6
    assert few < mine


def test_tables_are_complete_and_agree(root):
    images = table(root, "images.txt")
    ids = [row[0] for row in images]
    assert ids == [str(i) for i in range(1, 19)]
    for name in ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt"):
        assert [row[0] for row in table(root, name)] == ids
    folders = dict(table(root, "classes.txt"))
    labels = dict(table(root, "image_class_labels.txt"))
    assert [folders[labels[i]] for i in ids] == [row[1].split("/")[0] for row in images]
    split = dict(table(root, "train_test_split.txt"))
    for label in folders:
        assert sorted(split[i] for i in ids if labels[i] == label) == ["0", "1", "1"]
    parts = (root / "CUB_200_2011" / "parts" / "parts.txt").read_text().splitlines()
    assert parts == [f"{i} {name}" for i, name in enumerate(CUB_PARTS, start=1)]
    assert len(table(root, "parts/part_locs.txt")) == 18 * 15
    assert {p.stem for p in root.rglob("*.jpg")} == {p.stem for p in (root / "segmentations").rglob("*.png")}


def test_masks_part_maps_boxes_and_points_agree(root):
    boxes = {row[0]: [float(v) for v in row[1:]] for row in table(root, "bounding_boxes.txt")}
    points = table(root, "parts/part_locs.txt")
    names = {int(row["index"]): row["name"] for row in truth(root, "parts.csv")}
    checked = 0
    for number, name in table(root, "images.txt"):
        picture = Image.open(root / "CUB_200_2011" / "images" / name)
        segmentation = np.asarray(Image.open((root / "segmentations" / name).with_suffix(".png")))
        part_map = np.asarray(Image.open((root / "relmap_truth" / "part_maps" / name).with_suffix(".png")))
        assert picture.size[::-1] == segmentation.shape == part_map.shape
        assert min(picture.size) == 48
        assert 3 / 4 <= picture.width / picture.height <= 4 / 3 + 0.01
        assert set(np.unique(segmentation)) <= {0, 51, 102, 153, 204, 255}
        assert np.array_equal(part_map > 0, segmentation > 127)
        assert set(np.unique(part_map)) - {0} <= set(names)
        rows, columns = np.nonzero(segmentation > 127)
        x, y, w, h = boxes[number]
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        for image, part, px, py, visible in points:
            if image == number and visible == "1":
                cub_name = CUB_PARTS[int(part) - 1]
                expected = "crown" if cub_name == "forehead" else cub_name.removeprefix("left ").removeprefix("right ")
                assert names[part_map[int(float(py)), int(float(px))]] == expected
                checked += 1
    assert checked > 18 * 8


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_siblings_differ_in_one_or_two_parts_and_families_in_more(seed):
    species = [birds.bird_class(i, seed) for i in range(birds.MAX_CLASSES)]
    assert len({bird.name for bird in species}) == birds.MAX_CLASSES
    for i, bird in enumerate(species):
        siblings = [s for s in species if s.family == bird.family and s is not bird]
        differing = [birds.differing_parts(bird, s) for s in siblings]
        assert sorted(len(parts) for parts in differing) == [1, 1, 2]
        assert {part for parts in differing for part in parts} == set(bird.varying)
        assert set(bird.varying) <= bird.looks.keys()
        stranger = species[(i + birds.FAMILY_SIZE) % len(species)]
        assert len(birds.differing_parts(bird, stranger)) > 2


def test_siblings_differ_in_colours_alone():
    for i in range(0, birds.MAX_CLASSES, birds.FAMILY_SIZE):
        first, last = birds.bird_class(i, 0), birds.bird_class(i + 3, 0)
        for part in first.varying:
            one, other = first.looks[part], last.looks[part]
            assert (one.pattern, one.shape) == (other.pattern, other.shape)
            assert distance(one.colour, other.colour) >= 260


def test_what_varies_shows_in_small_pictures():
    """In every posture and behind leaves, in a row of families that has all pairs of varying parts."""
    areas = {}
    for family in range(20):
        bird = birds.bird_class(birds.FAMILY_SIZE * family, 0)
        for index in range(6):
            part_map = render_bird(bird, generator(0, 1, 0, bird.index, index), 64).part_map
            for part in bird.varying:
                areas.setdefault(part, []).append((part_map == birds.INDEX[part]).sum())
    assert len(areas) == 9
    for part, counts in areas.items():
        assert np.median(counts) >= 36, f"{part} is {np.median(counts)} px"
        assert np.mean(np.array(counts) >= 9) >= 0.95, f"{part} is hidden"


def test_a_bird_lies_within_the_centre_square():
    for index in range(24):
        picture = render_bird(birds.bird_class(index, 1), generator(1, 1, 0, index, 0), 64)
        for side, low, high in zip(picture.image.size, picture.box[:2], picture.box[2:], strict=True):
            # Half a pixel where a side is odd, and one of its outline.
            assert low >= (side - 64) / 2 - 1.5 and high <= (side + 64) / 2 + 1.5


def test_siblings_differ_only_in_their_parts_pixels():
    first, second = birds.bird_class(0, 5), birds.bird_class(1, 5)
    (part,) = birds.differing_parts(first, second)
    pictures = [render_bird(bird, generator(5, 1, 0, 0, 0), 96) for bird in (first, second)]
    changed = np.abs(np.subtract(*(np.asarray(p.image, dtype=float) for p in pictures))).sum(2) > 60
    there = np.logical_or(*(p.part_map == birds.INDEX[part] for p in pictures))
    assert changed.any()
    # Antialiasing and the camera's blur carry the change a pixel further.
    grown = np.pad(there, 2)
    near = np.any([np.roll(grown, (dy, dx), (0, 1)) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2)], axis=0)
    assert not (changed & ~near[2:-2, 2:-2]).any()


def test_distinguishing_parts_are_what_the_classes_table_says(root):
    classes = {row["class_id"]: row for row in truth(root, "classes.csv")}
    rows = truth(root, "distinguishing_parts.csv")
    pairs = {}
    for row in rows:
        pairs.setdefault((row["class_id"], row["neighbour_class_id"]), set()).add(row["part"])
    assert {first for first, _ in pairs} == set(classes)
    for (first, second), parts in pairs.items():
        mine, other = classes[first], classes[second]
        assert {part for part in birds.PARTS[1:] if mine[part] != other[part]} == parts
        assert 1 <= len(parts) <= 2


def test_a_class_without_siblings_gets_its_nearest_class():
    species = [birds.bird_class(i, 0) for i in range(5)]
    rows = [(j, parts) for i, j, parts in birds.neighbours(species) if i == 4]
    assert len(rows) == 1
    assert len(rows[0][1]) == min(len(birds.differing_parts(species[4], s)) for s in species[:4])


@pytest.mark.parametrize(
    ("key", "value"),
    [("classes", 1), ("classes", 201), ("size", 31), ("train_per_class", 0), ("workers", 0), ("seed", -1)],
)
def test_impossible_arguments_are_named_and_leave_nothing(tmp_path, key, value):
    arguments = {**SIZES, "workers": 1, key: value}
    with pytest.raises(InputError, match=rf"cub200_2011\.{key}: {value}"):
        render_cub(tmp_path / "cub", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_cub(tmp_path / "cub", workers=1, progress=stop, **SIZES)
    assert not list(tmp_path.iterdir())
