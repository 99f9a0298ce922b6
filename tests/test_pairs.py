"""What is explained is a pair (image, target): from several labels to maps, scores, values and intervals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from dataset_trees import picture, save
from relmap.data.images import Preprocessing, load_boxes
from relmap.data.manifest import build_manifest, read_manifest, write_manifest
from relmap.errors import InputError
from relmap.evidence.evaluation import (
    evaluation_rows,
    open_stores,
    pairs_of_images,
    ranges_of_images,
    target_frame,
    tidy,
)
from relmap.evidence.maps import read_maps, write_maps
from relmap.evidence.statistics import bootstrap_mean, sign_flip_test
from relmap.evidence.tables import fill
from relmap.evidence.values import by_cell, image_scores, paired_differences
from relmap.job.subject import training_rows

CLASSES = ("cat", "dog", "sofa")


def row(root, name, labels, split="test", **given):
    save(picture(seed=len(name)), root / f"{name}.png")
    return {
        "image_id": name,
        "path": f"{name}.png",
        "split": split,
        "labels": labels,
        "width": 40,
        "height": 30,
        **given,
    }


@pytest.fixture
def scenes(tmp_path):
    """Two training images and three test images, one of which shows a dog, a cat and another, difficult cat."""
    boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 30.0], [0.0, 20.0, 10.0, 30.0]]
    rows = [
        row(tmp_path, "one", [0, 1], "train"),
        row(tmp_path, "two", [2], "train"),
        row(tmp_path, "both", [1, 0], boxes=boxes, box_labels=[0, 1, 0], box_difficult=[False, True, True]),
        row(tmp_path, "dog", [1], boxes=boxes[:1]),
        row(tmp_path, "sofa", [2]),
    ]
    return build_manifest("toy", tmp_path, rows, CLASSES, workers=1)


def test_images_with_several_labels_survive_the_round_trip(scenes, tmp_path):
    write_manifest(scenes.frame, tmp_path / "toy.parquet", scenes.info)
    again = read_manifest(tmp_path / "toy.parquet")
    pd.testing.assert_frame_equal(again.frame, scenes.frame)
    assert again.frame["labels"].tolist() == [[0, 1], [2], [0, 1], [1], [2]], "ascending"
    assert again.frame["box_labels"].tolist() == [[], [], [0, 1, 0], [1], []], "the single label, where there is one"
    assert again.label_sets([2, 3]) == [(0, 1), (1,)]
    assert again.frame["box_difficult"].tolist() == [[], [], [False, True, True], [False], []]


def test_single_labels_name_an_image_with_several(scenes):
    assert scenes.single_labels([4, 3]).tolist() == [2, 1]
    with pytest.raises(InputError, match="toy: image both has 2 labels"):
        scenes.single_labels([3, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 1]}, "image a"),
        ({"labels": [0, 3]}, "label 3, but there are 3 classes"),
        ({"box_labels": [0]}, "2 boxes"),
        ({"box_difficult": [True]}, "2 boxes"),
        ({"box_labels": [0, 7]}, "7"),
        ({"labels": [0, 1]}, "box"),
        ({"labels": []}, "image a|a has"),
    ],
)
def test_bad_labels_are_named(tmp_path, change, message):
    given = {"boxes": [[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 20.0, 20.0]]} | change
    rows = [row(tmp_path, "image a", given.pop("labels", [0]), "train", **given)]
    with pytest.raises(InputError, match=message):
        build_manifest("toy", tmp_path, rows, CLASSES, require_training=False, workers=1)


def old_ranks(manifest, split, seed):
    """Shuffled rows, their labels and ranks as they were drawn when an image had one label."""
    shuffled = np.random.default_rng(seed).permutation(manifest.rows(split))
    labels = np.array([labels[0] for labels in manifest.frame["labels"]])[shuffled]
    return shuffled, labels, pd.Series(labels).groupby(labels).cumcount().to_numpy()


def test_draws_of_single_labels_are_those_of_old(tmp_path):
    save(picture(), tmp_path / "a.png")
    labels = np.random.default_rng(0).choice(3, 60, p=[0.6, 0.3, 0.1])
    rows = [
        {"image_id": f"{i}", "path": "a.png", "split": ("train", "test")[i % 2], "labels": [int(label)]}
        | {"width": 40, "height": 30}
        for i, label in enumerate(labels)
    ]
    manifest = build_manifest("toy", tmp_path, rows, CLASSES, require_training=False, workers=1)
    for seed in (0, 7):
        for count in (1, 2, 5, 11, 29):
            shuffled, of_row, rank = old_ranks(manifest, "test", seed)
            expected = np.sort(shuffled[np.lexsort((of_row, rank))[:count]])
            np.testing.assert_array_equal(evaluation_rows(manifest, count, seed), expected)
        for per_class in (1, 3, 8):
            shuffled, _, rank = old_ranks(manifest, "train", seed)
            expected = np.sort(shuffled[rank < per_class])
            np.testing.assert_array_equal(training_rows(manifest, per_class, seed), expected)


def test_draws_spread_over_all_classes_and_nest(scenes):
    """Two images show all three classes, and the image with two of them comes once."""
    drawn = [set(evaluation_rows(scenes, count, 0)) for count in (1, 2, 3)]
    assert drawn[0] < drawn[1] < drawn[2] == {2, 3, 4}
    assert training_rows(scenes, 1, 0).tolist() == [0, 1]


def test_targets_are_labels_or_the_top_class(scenes):
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    rows = np.array([2, 3, 4])
    frame = target_frame(scenes, rows, probabilities)
    assert list(zip(frame["image_id"], frame["target"], strict=True)) == [
        ("both", 0),
        ("both", 1),
        ("dog", 1),
        ("sofa", 2),
    ]
    assert frame["present"].all()
    assert frame["predicted"].tolist() == [False, True, False, True]
    assert frame["counted"].tolist() == [True, False, True, False], "a box of the target that is not difficult"
    assert not frame["difficult"].any(), "no other class has such a box"
    assert frame["correct"].tolist() == [True, True, False, True]
    assert frame["probability"].tolist() == [0.2, 0.7, 0.3, 0.6]
    assert frame["top"].tolist() == [1, 1, 0, 2]
    assert frame["top_probability"].tolist() == [0.7, 0.7, 0.5, 0.6]
    predicted = target_frame(scenes, rows, probabilities, "predicted")
    assert predicted["target"].tolist() == [1, 0, 2]
    assert predicted["present"].tolist() == predicted["correct"].tolist() == [True, False, True]
    assert predicted["predicted"].all()
    with pytest.raises(InputError, match="choose label, predicted or surest"):
        target_frame(scenes, rows, probabilities, "worst")


def test_nothing_to_explain_is_said(scenes):
    bare = replace(scenes, frame=scenes.frame.assign(labels=[[]] * len(scenes)))
    with pytest.raises(InputError, match=r"none of its 2 test images has a class to explain; give them labels, or set"):
        target_frame(bare, np.array([2, 3]), np.eye(3)[:2])
    assert len(target_frame(bare, np.array([2, 3]), np.eye(3)[:2], "surest")) == 2
    trained = replace(scenes, frame=scenes.frame.assign(split="train"))
    with pytest.raises(InputError, match="has no test image to explain; correct its split, or leave it out"):
        evaluation_rows(trained, None, 0)


def test_a_multi_label_network_is_asked_for_labels_and_predictions(scenes):
    """What it predicts without being there is a pair too; where nothing reaches one half, the surest is predicted."""
    probabilities = np.array([[0.2, 0.7, 0.6], [0.5, 0.3, 0.2], [0.1, 0.3, 0.4]])
    rows = np.array([2, 3, 4])
    frame = target_frame(scenes, rows, probabilities, multi_label=True)
    found = frame[["image_id", "target", "present", "predicted"]].itertuples(index=False, name=None)
    assert list(found) == [
        ("both", 0, True, False),
        ("both", 1, True, True),
        ("both", 2, False, True),
        ("dog", 1, True, False),
        ("dog", 0, False, True),
        ("sofa", 2, True, True),
    ]
    assert not frame.loc[~frame["present"], ["counted", "difficult"]].to_numpy().any()
    predicted = target_frame(scenes, rows, probabilities, "predicted", multi_label=True)
    assert predicted["target"].tolist() == [1, 2, 0, 2]
    surest = target_frame(scenes, rows, probabilities, "surest", multi_label=True)
    assert surest["target"].tolist() == surest["top"].tolist() == [1, 0, 2]
    assert surest["present"].tolist() == [True, False, True]


def test_pairs_of_an_image_come_together():
    found = pairs_of_images(["a", "b", "a", "c", "b", "d"])
    assert [places.tolist() for places in found] == [[[3], [5]], [[0, 2], [1, 4]]]
    assert pairs_of_images([]) == []


def test_boxes_of_one_class(scenes):
    preprocessing = Preprocessing(30, 30)  # of 40 x 30 pixels the middle 30 x 30, from column 5 on
    cat, dog = load_boxes(scenes, [2, 2], preprocessing, [0, 1])
    assert cat.nonzero().max(0).values.tolist() == [29, 4]
    assert not cat[10:20].any() and cat[:10, :5].all() and cat[20:, :5].all()
    assert dog[:, 15:].all() and not dog[:, :15].any()
    assert ((cat | dog) == load_boxes(scenes, [2], preprocessing)[0]).all()
    with pytest.raises(InputError, match=r"dog\.png: the image has no bounding box of class 'sofa'"):
        load_boxes(scenes, [2, 3], preprocessing, [1, 2])


PAIRS = (["a", "a", "b"], np.array([0, 1, 1]))
AS_FRAME = pd.DataFrame({"image_id": PAIRS[0], "target": PAIRS[1]})


def test_two_targets_of_an_image_are_two_maps_two_scores_and_two_values(tmp_path):
    maps = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    for method in ("lrp", "clrp"):
        write_maps(tmp_path / f"{method}.zarr", maps, *PAIRS, {"method": method})
    read = read_maps(tmp_path / "lrp.zarr")
    assert (read.image_ids, read.targets.tolist()) == (PAIRS[0], PAIRS[1].tolist())
    stores = {name: tmp_path / f"{name}.zarr" for name in ("lrp", "clrp")}
    parts = [
        tidy(stored.image_ids, stored.targets, method, "iou", stored.at(slice(None)).mean((1, 2)))
        for method, stored in open_stores(stores, AS_FRAME).items()
    ]
    values = by_cell(image_scores(pd.concat(parts, ignore_index=True), "imagenet", "vgg16"))
    lrp, clrp = (values["imagenet", "vgg16", method, "mean_iou"] for method in ("lrp", "clrp"))
    np.testing.assert_allclose(lrp.loc[[("a", 0), ("a", 1), ("b", 1)]], maps.mean((1, 2)))
    assert len(paired_differences(lrp, clrp)) == 3


def test_a_pair_that_comes_twice_is_refused(tmp_path):
    maps = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(InputError, match=r"a .*target 0"):
        write_maps(tmp_path / "lrp.zarr", maps, ["a", "a", "b"], np.array([0, 0, 1]), {"method": "lrp"})


def test_stores_of_other_targets_do_not_mix(tmp_path):
    maps = np.zeros((3, 4, 4), np.float32)
    write_maps(tmp_path / "lrp.zarr", maps, *PAIRS, {"method": "lrp"})
    write_maps(tmp_path / "clrp.zarr", maps, PAIRS[0], np.array([0, 1, 2]), {"method": "clrp"})
    with pytest.raises(InputError, match=r"clrp\.zarr: 3 maps, not those of the 3 pairs"):
        open_stores({name: tmp_path / f"{name}.zarr" for name in ("lrp", "clrp")}, AS_FRAME)
    write_maps(tmp_path / "clrp.zarr", maps[:2], PAIRS[0][:2], PAIRS[1][:2], {"method": "clrp"})
    with pytest.raises(InputError, match=r"clrp\.zarr: 2 maps, not those of the 3 pairs"):
        open_stores({"clrp": tmp_path / "clrp.zarr"}, AS_FRAME)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_ranges_never_part_the_pairs_of_an_image(count):
    ids = ["a", "a", "b", "c", "c", "c", "d"]
    ranges = ranges_of_images(ids, count)
    assert [image for part in ranges for image in ids[part]] == ids
    of_parts = [set(ids[part]) for part in ranges]
    assert sum(map(len, of_parts)) == 4
    assert all(part.stop - part.start <= count or len(own) == 1 for part, own in zip(ranges, of_parts, strict=True))
    assert ranges_of_images([], count) == []


def test_intervals_resample_images():
    """Pairs that say the same four times are one observation: the interval is that of the images, and twice as wide."""
    values = np.random.default_rng(1).random(50)
    repeated, images = np.repeat(values, 4), np.repeat(np.arange(50), 4)
    of_images = bootstrap_mean(repeated, images=images)
    of_pairs = bootstrap_mean(repeated)
    alone = bootstrap_mean(values)
    assert of_images.high - of_images.low > 1.8 * (of_pairs.high - of_pairs.low)
    assert (of_images.low, of_images.high) == pytest.approx((alone.low, alone.high))
    assert bootstrap_mean(values, images=np.arange(50)) == alone, "with one pair an image, bit by bit"
    assert bootstrap_mean(values, images=np.array([f"image_{i:02}" for i in range(50)])) == alone


def test_signs_of_an_image_are_flipped_together():
    differences = np.random.default_rng(2).normal(0.15, 1, 40)
    images = np.repeat(np.arange(40), 3)
    assert sign_flip_test(np.repeat(differences, 3), images=images) == sign_flip_test(differences)
    assert sign_flip_test(np.repeat(differences, 3)) < sign_flip_test(differences)
    assert sign_flip_test(differences, images=np.arange(40)) == sign_flip_test(differences)


def test_a_filled_table_counts_images_and_pairs():
    rows = tidy([*PAIRS[0], "c"], [*PAIRS[1], 2], "lrp", "iou", np.array([0.1, 0.2, 0.6, np.nan]))
    scores = image_scores(rows, "imagenet", "vgg16")
    cell = {
        "variant_label": "",
        "paper": "toy",
        "table": "1",
        "dataset": "imagenet",
        "model": "vgg16",
        "method": "lrp",
        "metric": "mean_iou",
        "variant": "",
        "select": "",
        "label": "LRP",
    }
    filled = fill(pd.DataFrame([cell]), scores).iloc[0]
    assert filled["reproduced"] == pytest.approx(0.3)
    assert (filled["n_images"], filled["n_pairs"]) == (2, 3)
