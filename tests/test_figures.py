"""Figures: overlays, rows chosen by gain, curves with bands, layer sheets, and files whose bytes repeat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from relmap.errors import InputError
from relmap.figures import overlays, pictures
from relmap.figures.colours import tint
from relmap.figures.page import Page
from relmap.figures.results import Row, Setting, readable, settings
from relmap.figures.style import save_figure, signed
from relmap.figures.training import read_histories, training_curves
from synthetic_results import SIDE, make_dataset, make_examples, make_scores

from papers.clam.figures import layers
from papers.clam.figures.comparison import choose, columns, comparison_figure, gains
from papers.clam.figures.curves import bootstrap_band, clam_figure05, clam_figure06, energy_curves, gain_curves
from papers.clam.figures.names import LRP_METHODS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("figures")
    make_dataset(results, "cub200_2011", images=9, seed=0)
    make_scores(results, "cub200_2011", "vgg16", seed=1)
    make_examples(results, "cub200_2011", "vgg16", seed=2)
    return results


@pytest.fixture
def setting(run: Path) -> Setting:
    return Setting(run, "cub200_2011", "vgg16")


class TestPicture:
    def test_a_picture_that_was_shown_remains_when_the_data_are_gone(self, tmp_path: Path) -> None:
        make_dataset(tmp_path, "cub200_2011", images=3, seed=0)
        make_scores(tmp_path, "cub200_2011", "vgg16", seed=1)
        setting = Setting(tmp_path, "cub200_2011", "vgg16")
        shown, other = setting.manifest.frame["image_id"][:2]
        picture, parts = setting.picture(shown), setting.part_map(shown)
        for path in setting.manifest.frame["path"]:
            setting.manifest.resolve(path).unlink()
        for path in setting.manifest.frame["part_map_path"].dropna():
            setting.manifest.resolve(path).unlink()
        np.testing.assert_array_equal(setting.picture(shown), picture)
        if parts is not None:
            np.testing.assert_array_equal(setting.part_map(shown), parts)
        with pytest.raises(InputError, match="no such image; restore it"):
            setting.picture(other)
        # Of another state of the data, or seen by another network, it is another picture.
        before = setting._copy("a", False)
        setting.__dict__["preprocessing"] = {"resize": 9, "crop": 9}
        assert setting._copy("a", False) != before


class TestOverlay:
    def test_scaling_keeps_zero_and_sign_and_clips(self) -> None:
        values = np.concatenate([np.full(990, -1.0), np.zeros(5), np.full(5, 50.0)]).reshape(20, 50)
        scaled = overlays.scaled(values, percentile=99)
        assert scaled.min() == -1
        assert scaled.max() == 1
        assert (scaled[values == 0] == 0).all()

    def test_nearly_empty_map_still_shows_its_pixel(self) -> None:
        values = np.zeros((100, 100))
        values[3, 4] = 2.0
        assert overlays.scaled(values)[3, 4] == 1

    def test_empty_map_shows_the_grey_picture_only(self) -> None:
        picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        shown = overlays.overlay(picture, np.zeros((8, 8)))
        assert (shown[..., 0] == shown[..., 1]).all()
        assert (shown[..., 1] == shown[..., 2]).all()

    def test_ends_differ_in_grey_and_white_is_nothing(self) -> None:
        ends = tint(np.array([[-1.0, 0.0, 1.0]]))[0]
        grey = ends @ np.array([0.299, 0.587, 0.114])
        assert grey[0] - grey[2] > 0.25 and ends[1].tolist() == [1, 1, 1]
        ramp = tint(np.linspace(-1, 1, 21)[None])[0] @ np.array([0.299, 0.587, 0.114])
        assert (np.diff(ramp[:11]) > 0).all() and (np.diff(ramp[10:]) < 0).all()
        assert (np.diff(tint(np.linspace(0, 1, 11)[None], signed=False)[0].mean(1)) < 0).all()

    def test_signed_is_red_for_and_blue_against(self) -> None:
        picture = np.full((2, 2, 3), 128, np.uint8)
        shown = overlays.overlay(picture, np.array([[0.6, 0.6], [-0.6, -0.6]])).astype(int)
        assert (shown[0, :, 0] > shown[0, :, 2] + 50).all()
        assert (shown[1, :, 2] > shown[1, :, 0] + 50).all()

    def test_one_sign_ignores_what_speaks_against(self) -> None:
        picture = np.full((1, 2, 3), 128, np.uint8)
        shown = overlays.overlay(picture, np.array([[-1.0, 0.0]]), signed=False)
        assert (shown[0, 0] == shown[0, 1]).all()

    def test_smaller_map_covers_the_same_field(self) -> None:
        picture = np.full((8, 8, 3), 128, np.uint8)
        shown = overlays.overlay(picture, np.array([[1.0, 0.0], [0.0, 0.0]])).astype(int)
        # Full red has hardly any green, so green fades with the map.
        assert shown[0, 0, 1] < 10
        assert shown[2, 2, 1] < shown[4, 4, 1]
        assert len(set(shown[-1, -1])) == 1


class TestPictures:
    @pytest.mark.parametrize(("size", "mode"), [((50, 31), "RGB"), ((31, 50), "L"), ((40, 40), "CMYK")])
    def test_same_pixels_as_the_networks_see(self, tmp_path: Path, size: tuple[int, int], mode: str) -> None:
        images = pytest.importorskip("relmap.data.images")
        from relmap.data.manifest import build_manifest

        noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(noise).convert(mode).save(tmp_path / "a.jpg")
        row = {"image_id": "a", "path": "a.jpg", "split": "train", "labels": [0]}
        row |= {"boxes": [[3, 4, 20, 30]], "width": size[0], "height": size[1]}
        manifest = build_manifest("d", tmp_path, [row], ["c"], workers=1)
        preprocessing = images.Preprocessing(resize=24, crop=20)
        expected = images.load_pixels(manifest, [0], preprocessing, workers=1)[0].permute(1, 2, 0).numpy()
        shown = pictures.read_picture(tmp_path / "a.jpg", preprocessing.to_dict())
        np.testing.assert_array_equal(shown, expected)
        box = preprocessing.map_boxes(np.array([[3.0, 4, 20, 30]]), np.array([size[0]]), np.array([size[1]]))
        moved = pictures.move_boxes([[3, 4, 20, 30]], *size, preprocessing.to_dict())
        np.testing.assert_allclose(moved, np.clip(box, 0, 20))

    @pytest.mark.parametrize("fit", ["squash", "aspect"])
    def test_other_fits_are_what_the_network_saw(self, fit: str, tmp_path: Path) -> None:
        from relmap.data import images
        from relmap.data.manifest import build_manifest

        pixels = np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        row = {"image_id": "a", "path": "a.png", "split": "train", "labels": [0], "boxes": [[3, 4, 20, 30]]}
        manifest = build_manifest("d", tmp_path, [{**row, "width": 44, "height": 30}], ["c"], workers=1)
        preprocessing = images.Preprocessing(resize=24, crop=24, fit=fit)
        expected = images.load_pixels(manifest, [0], preprocessing, workers=1)[0].permute(1, 2, 0).numpy()
        shown = pictures.read_picture(tmp_path / "a.png", preprocessing.to_dict())
        np.testing.assert_array_equal(shown, expected)
        box = preprocessing.map_boxes(np.array([[3.0, 4, 20, 30]]), np.array([44]), np.array([30]))
        np.testing.assert_allclose(pictures.move_boxes([[3, 4, 20, 30]], 44, 30, preprocessing.to_dict()), box)

    def test_unreadable_picture_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
        with pytest.raises(InputError, match=r"broken\.jpg"):
            pictures.read_picture(tmp_path / "broken.jpg", {"resize": 8, "crop": 8})

    def test_area(self) -> None:
        assert pictures.box_area([1, 2, 4, 6]) == 12
        assert pictures.box_area([4, 2, 1, 6]) == 0


def _pointing(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"image_id": image, "target": 0, "method": method, "level": level, "value": value}
            for method, images in values.items()
            for image, levels in images.items()
            for level, value in zip((0.5, 1.0), levels, strict=True)
        ]
    )


class TestChoice:
    def test_gain_is_the_mean_over_energies_and_rules(self) -> None:
        frame = gains(
            _pointing(
                {
                    "lrp_alpha1_beta0_norms": {"a": [0.2, 0.4], "b": [0.5, 0.5]},
                    "lrp_clam": {"a": [0.4, 0.8], "b": [0.5, 0.4]},
                    "clrp_two_passes_norms": {"a": [0.0, 0.0], "b": [0.0, 0.0]},
                    "clrp_clam": {"a": [0.1, 0.1], "b": [0.0, 0.0]},
                    "grad_cam": {"a": [1.0, 1.0], "b": [0.0, 0.0]},
                }
            )
        )
        assert list(frame.columns) == ["lrp_clam", "clrp_clam", "gain"]
        np.testing.assert_allclose(frame.loc["a"], [0.3, 0.1, 0.2])
        np.testing.assert_allclose(frame.loc["b"], [-0.05, 0.0, -0.025])

    def test_other_arm(self) -> None:
        frame = gains(
            _pointing({"lrp_alpha1_beta0_norms": {"a": [0.2, 0.4]}, "lrp_clam_case1": {"a": [0.2, 0.6]}}), arm="case1"
        )
        assert frame.loc["a", "gain"] == pytest.approx(0.1)
        assert columns("case1")[:2] == ("lrp_alpha1_beta0_norms", "lrp_clam_case1")

    def test_without_clam(self) -> None:
        with pytest.raises(InputError, match="with and without CLAM"):
            gains(_pointing({"lrp_alpha1_beta0_norms": {"a": [0.2, 0.4]}}))

    def test_an_image_with_several_targets_has_no_row_of_its_own(self) -> None:
        once = _pointing({"lrp_alpha1_beta0_norms": {"a": [0.2, 0.4]}, "lrp_clam": {"a": [0.4, 0.8]}})
        with pytest.raises(InputError, match="image a has 2 targets"):
            gains(pd.concat([once, once.assign(target=1)]))

    @pytest.fixture
    def measured(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        frame = pd.DataFrame({"gain": [0.9, 0.5, 0.4, 0.3, 0.0, -0.2]}, index=list("abcdef"))
        targets = pd.DataFrame({"image_id": list("abcdef"), "target": [0, 1, 1, 2, 3, 4]})
        return frame, targets.assign(correct=[False, True, True, True, True, True])

    def test_highest_gains_of_different_classes_rightly_classified(self, measured) -> None:
        assert choose(*measured, 3, "high") == ["b", "d", "e"]

    def test_lowest_gains(self, measured) -> None:
        assert choose(*measured, 2, "low") == ["f", "e"]

    def test_typical_is_nearest_the_median_of_the_rightly_classified(self, measured) -> None:
        assert choose(*measured, 1, "typical") == ["d"]

    def test_too_few_are_filled_up_and_stay_in_order(self, measured) -> None:
        # Four classes are rightly classified; the second of a class comes next, the wrongly classified last.
        assert choose(*measured, 5, "high") == ["b", "c", "d", "e", "f"]
        assert choose(*measured, 9, "high") == ["a", "b", "c", "d", "e", "f"]

    def test_unknown_wish(self, measured) -> None:
        with pytest.raises(InputError, match="best"):
            choose(*measured, 2, "best")


class TestCurves:
    def test_band_holds_the_mean_and_narrows_with_images(self) -> None:
        values = np.random.default_rng(0).random((400, 3))
        mean, low, high = bootstrap_band(values)
        np.testing.assert_allclose(mean, values.mean(axis=0))
        assert (low < mean).all()
        assert (mean < high).all()
        few = bootstrap_band(values[:25])
        assert ((few[2] - few[1]) > 2 * (high - low)).all()
        # The normal approximation of a mean of 400.
        np.testing.assert_allclose(high - low, 2 * 1.96 * values.std(axis=0) / 20, rtol=0.15)

    def test_a_missing_value_is_not_left_out_of_a_mean(self) -> None:
        frame = _pointing({"lrp_clam": {"a": [0.2, np.nan], "b": [0.1, 0.3]}})
        with pytest.raises(InputError, match="none of image a"):
            energy_curves(frame, ["lrp_clam"], draws=20)

    def test_pairs_of_an_image_are_drawn_together(self) -> None:
        once = np.random.default_rng(0).random((50, 2))
        images = np.repeat([f"image_{place:02}" for place in range(50)], 3)
        for pairs, alone in zip(
            bootstrap_band(np.repeat(once, 3, 0), images=images), bootstrap_band(once), strict=True
        ):
            np.testing.assert_allclose(pairs, alone)
        frame = _pointing({"lrp_alpha1_beta0_norms": {"a": [0.2, 0.4], "b": [0.1, 0.3]}})
        curves = energy_curves(pd.concat([frame, frame.assign(target=1)]), ["lrp_alpha1_beta0_norms"], draws=20)
        assert set(curves["images"]) == {2}

    def test_one_row_a_method_and_energy(self, setting: Setting) -> None:
        curves = energy_curves(setting.pointing, ["lrp_alpha1_beta0_norms", "lrp_clam", "unheard_of"], draws=20)
        assert list(curves["method"].unique()) == ["lrp_alpha1_beta0_norms", "lrp_clam"]
        assert len(curves) == 40
        at = setting.pointing
        expected = at[(at["method"] == "lrp_alpha1_beta0_norms") & (at["level"] == at["level"].min())]["value"].mean()
        assert curves["accuracy"].iloc[0] == pytest.approx(expected)
        assert set(curves["images"]) == {9}

    def test_gains_are_of_the_same_images(self, setting: Setting) -> None:
        found = gain_curves(setting.pointing, LRP_METHODS, draws=200)
        assert set(found["method"]) == set(LRP_METHODS)
        curves = energy_curves(setting.pointing, ["lrp_alpha1_beta0_norms", "lrp_clam"], draws=20)
        base, own = (curves[curves["method"] == name]["accuracy"] for name in ("lrp_alpha1_beta0_norms", "lrp_clam"))
        mine = found[found["method"] == "lrp_alpha1_beta0_norms"]
        np.testing.assert_allclose(mine["gain"], own.to_numpy() - base.to_numpy())
        assert ((mine["low"] <= mine["gain"]) & (mine["gain"] <= mine["high"])).all()
        same = setting.pointing.assign(value=lambda frame: frame["image_id"].str.len() + frame["level"])
        even = gain_curves(same, LRP_METHODS, draws=20)
        assert (even[["gain", "low", "high"]] == 0).all(axis=None), "what all curves share makes no band"

    def test_figures_have_the_papers_panels(self, setting: Setting) -> None:
        methods = [
            "lrp_alpha1_beta0_norms",
            "lrp_clam",
            "clrp_two_passes_norms",
            "clrp_clam",
            "sglrp_two_passes_norms",
            "sglrp_clam",
            "saliency",
            "grad_cam",
        ]
        curves = energy_curves(setting.pointing, methods, draws=20)
        both = {("cub200_2011", "vgg16"): curves, ("imagenet", "resnet50"): curves}
        gained = dict.fromkeys(both, gain_curves(setting.pointing, LRP_METHODS, draws=20))
        panels = [axes for axes in clam_figure05(both, gained).axes if axes.get_visible()]
        # The zero line, and a gain of each rule.
        assert [len(axes.lines) for axes in panels] == [6, 6, 4, 4]
        dotted = [line.get_linestyle() != "-" for line in panels[0].lines]
        assert dotted == [True, False] * 3
        assert len({axes.get_ylim() for axes in panels[:2]}) == len({axes.get_ylim() for axes in panels[2:]}) == 1
        panels = clam_figure06(both).axes
        assert len(panels) == 6
        assert [len(axes.lines) for axes in panels] == [4] * 6


class TestComparison:
    def test_page_has_a_row_an_image_and_says_the_gain(self, setting: Setting) -> None:
        frame = gains(setting.pointing)
        chosen = choose(frame, setting.targets, 2, "high")
        figure = comparison_figure(setting.rows(chosen, columns(), frame), columns())
        words = [text.get_text() for text in figure.axes[0].texts]
        for image in chosen:
            assert any(f"gain {signed(frame.loc[image, 'gain'])}" in text for text in words)
            assert signed(frame.loc[image, "lrp_clam"]) in words
        assert "CLRP\n+CLAM" in words

    def test_missing_maps_are_said_to_be_missing(self) -> None:
        row = Row(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4)), {"lrp_alpha1_beta0_norms": np.ones((8, 8))}, "label")
        figure = comparison_figure([row], ["lrp_alpha1_beta0_norms", "clrp_two_passes_norms"])
        assert [text.get_text() for text in figure.axes[0].texts].count("no map") == 1

    def test_no_rows(self) -> None:
        with pytest.raises(InputError, match="no images"):
            comparison_figure([], columns())

    def test_map_store_without_an_image_is_named(self, setting: Setting) -> None:
        with pytest.raises(InputError, match=r"lrp_alpha1_beta0_norms\.zarr.*elsewhere"):
            setting.maps(["lrp_alpha1_beta0_norms"], ["elsewhere"])


def test_signs() -> None:
    assert [signed(value) for value in (0.0126, -0.0126, -0.0001)] == ["+0.013", "\N{MINUS SIGN}0.013", "+0.000"]


class TestLayers:
    @pytest.fixture
    def examples(self, run: Path) -> layers.Examples:
        return layers.read_examples(run / "clam/cub200_2011/vgg16/clam/examples.npz")

    def test_names_and_order(self) -> None:
        assert layers.layer_name("features.28") == "Conv-28"
        assert layers.layer_name("layer4.2") == "layer4.2"
        names = ["layer1.0", "layer4.2.conv2", "layer4.2", "layer3.5"]
        assert [names[place] for place in layers.depth_order(names)][-2:] == ["layer3.5", "layer1.0"]
        assert layers.depth_order(["features.5", "features.28", "features.14"]) == [1, 2, 0]
        assert layers.spread(list(range(13)), 4) == [0, 4, 8, 12]
        assert layers.spread([3, 1], 4) == [3, 1]

    def test_damaged_file_is_named(self, run: Path, tmp_path: Path) -> None:
        with np.load(run / "clam/cub200_2011/vgg16/clam/examples.npz") as file:
            arrays = dict(file)
        np.savez(tmp_path / "short.npz", **{**arrays, "kept": arrays["kept"][:, :, 1:]})
        with pytest.raises(InputError, match=r"short\.npz: 'kept' has shape"):
            layers.read_examples(tmp_path / "short.npz")
        np.savez(tmp_path / "less.npz", **{name: array for name, array in arrays.items() if name != "regions"})
        with pytest.raises(InputError, match=r"less\.npz: lacks regions"):
            layers.read_examples(tmp_path / "less.npz")
        del arrays["relevance_features.21"]
        np.savez(tmp_path / "maps.npz", **arrays)
        with pytest.raises(InputError, match=r"relevance_features\.21"):
            layers.read_examples(tmp_path / "maps.npz")
        with pytest.raises(InputError, match="no such file; run the rule"):
            layers.read_examples(tmp_path / "none.npz")

    def test_part_shares(self) -> None:
        parts = np.zeros((4, 4), int)
        parts[0, :2], parts[1, 0] = 1, 2
        shares = layers.part_histogram(parts, [0, 0, 2, 2])
        assert shares[1] == pytest.approx(2 / 3)
        assert shares[2] == pytest.approx(1 / 3)
        assert not layers.part_histogram(parts, [2, 2, 4, 4]).any()

    def _one(self, regions: list, related: list) -> layers.Examples:
        """One test image, one layer; a region and its related box per attribute."""
        count = len(regions)
        return layers.Examples(
            image_id=np.array(["test"]),
            layers=("features.28",),
            regions=np.array(regions, float)[None, None],
            kept=np.ones((1, 1, count), bool),
            relevance=(np.zeros((1, 2, 2)),),
            related_id=np.full((1, 1, count, 1), "train"),
            related_box=np.array(related, float)[None, None, :, None],
            related_distance=np.zeros((1, 1, count, 1)),
        )

    def test_measures_find_size_and_part_mismatch(self) -> None:
        here, there = np.zeros((8, 8), int), np.zeros((8, 8), int)
        here[:4], here[4:] = 1, 2
        there[:, :4], there[:, 4:] = 1, 2
        examples = self._one([[0, 0, 2, 2], [0, 5, 2, 7]], [[0, 0, 2, 2], [0, 5, 2, 7]])
        boxes = {"test": np.array([[0, 0, 2, 2.0]]), "train": np.array([[0, 0, 4, 4.0]])}
        frame = layers.measures(examples, boxes.__getitem__, {"test": here, "train": there}.__getitem__)
        # The first pair shares part 1; the second lies on part 2 here and on part 1 there.
        assert frame.loc["test", "part_agreement"] == pytest.approx(0.5)
        assert frame.loc["test", "size_ratio"] == pytest.approx(4)
        unknown = layers.measures(examples, boxes.__getitem__, lambda image: None)
        assert np.isnan(unknown.loc["test", "part_agreement"])

    def test_region_without_related_image_is_left_out(self) -> None:
        examples = self._one([[0, 0, 2, 2], [0, 0, 2, 2]], [[0, 0, 2, 2], [0, 0, 0, 0]])
        examples.related_id[0, 0, 1, 0], examples.related_distance[0, 0, 1, 0] = "", np.inf
        frame = layers.measures(examples, lambda image: np.array([[0, 0, 2, 2.0]]), lambda image: None)
        assert frame.loc["test", "size_ratio"] == pytest.approx(1)
        assert frame.loc["test", "distance"] == 0

    def test_figures_get_different_images_by_their_measures(self) -> None:
        frame = pd.DataFrame(
            {
                "gain": [0.5, 0.4, 0.1, 0.1, 0.0, -0.1, 0.9],
                "target": [0, 1, 2, 3, 4, 5, 6],
                "correct": [True, True, True, True, True, True, False],
                "size_ratio": [1, 1, 1, 1, 9, 1, 1],
                "part_agreement": [0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9],
                "distance": 0.0,
            },
            index=list("abcdefg"),
        )
        assert layers.assign_figures(frame) == {4: "a", 14: "b", 15: "c", 16: "d", 17: "e", 18: "f"}
        by_distance = frame.assign(part_agreement=np.nan, distance=[0, 0, 0, 0, 0, 0, 3.0])
        assert layers.assign_figures(by_distance)[18] == "g"
        assert set(layers.assign_figures(frame.iloc[:1]).values()) == {"a"}
        with pytest.raises(InputError, match="no candidate"):
            layers.assign_figures(frame.iloc[:0])

    def test_cells_pair_regions_with_their_related_images(self, setting: Setting, examples: layers.Examples) -> None:
        image = examples.image_id[0]
        cells = layers.layer_cells(examples, image, 0, setting.picture, setting.class_name, related=4)
        shown, relevance, *others = cells
        assert len(others) == 4
        assert not relevance.boxes
        attributes = np.flatnonzero(examples.kept[0, 0])
        order = attributes[np.argsort(examples.related_distance[0, 0, attributes, 0], kind="stable")][:4]
        for place, attribute in enumerate(order):
            np.testing.assert_array_equal(shown.boxes[place][0], examples.regions[0, 0, attribute])
        for cell in others:
            box, place = cell.boxes[0]
            candidates = examples.related_box[0, 0, order[place]]
            assert any((box == candidate).all() for candidate in candidates)

    def test_sheet_is_laid_out_both_ways(self, setting: Setting, examples: layers.Examples) -> None:
        image = examples.image_id[0]
        cells = {
            layers.layer_name(name): layers.layer_cells(examples, image, place, setting.picture, setting.class_name)
            for place, name in enumerate(examples.layers)
        }
        for by_rows in (True, False):
            figure = layers.layer_sheet(cells, "title", by_rows)
            words = [text.get_text() for text in figure.axes[0].texts]
            assert {"Conv-28", "Conv-7", "Related training images"} <= set(words)


class TestFiles:
    def _page(self) -> Figure:
        page = Page(2, 1)
        page.picture(np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8), 0.1, 0.1, 0.8)
        page.box([1, 2, 5, 6], 9, 0.1, 0.1, 0.8, label="1")
        page.text("words", 1.5, 0.5)
        return page.figure()

    def test_same_bytes_at_another_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = save_figure(self._page(), tmp_path / "a", "f", "caption", "selection", [{"image": "x", "gain": 0.1}])
        monkeypatch.setattr("time.time", lambda: 2e9)
        second = save_figure(self._page(), tmp_path / "b", "f", "caption", "selection", [{"image": "x", "gain": 0.1}])
        for suffix in (".png", ".pdf", ".json"):
            assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()
        assert b"CreationDate" not in first.with_suffix(".pdf").read_bytes()
        words = json.loads(first.with_suffix(".json").read_text())
        assert words == {"caption": "caption", "selection": "selection", "rows": [{"image": "x", "gain": 0.1}]}

    def test_picture_lies_where_it_was_put_in_png(self, tmp_path: Path) -> None:
        page = Page(2, 1)
        page.picture(np.zeros((4, 4, 3), np.uint8), 1.2, 0.1, 0.5)
        path = save_figure(page.figure(), tmp_path, "f", "", "")
        with Image.open(path) as image:
            dark = np.argwhere(np.asarray(image.convert("L")) < 128) / (image.width / 2)
        np.testing.assert_allclose(dark.min(axis=0), [0.1, 1.2], atol=0.01)
        np.testing.assert_allclose(dark.max(axis=0), [0.6, 1.7], atol=0.01)

    def test_leaves_nothing_half_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise OSError("broken")

        figure = self._page()
        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match="broken"):
            save_figure(figure, tmp_path, "f", "", "")
        assert {path.name for path in tmp_path.iterdir()} <= {"f.png"}


def test_settings_come_in_the_papers_order(tmp_path: Path) -> None:
    for place in ("imagenet/vgg16", "cub200_2011/resnet50", "other/vgg16", "cub200_2011/vgg16"):
        (tmp_path / "scores" / place).mkdir(parents=True)
        (tmp_path / "scores" / place / "pointing.parquet").touch()
    found = [(setting.dataset, setting.model) for setting in settings(tmp_path)]
    assert found == [
        ("cub200_2011", "vgg16"),
        ("cub200_2011", "resnet50"),
        ("imagenet", "vgg16"),
        ("other", "vgg16"),
    ]
    with pytest.raises(InputError, match=r"no pointing\.parquet"):
        settings(tmp_path / "scores")


def test_setting_reads_pictures_parts_and_names(setting: Setting) -> None:
    image = str(setting.targets["image_id"].iloc[0])
    assert setting.picture(image).shape == (SIDE, SIDE, 3)
    assert set(np.unique(setting.part_map(image))) <= {0, 1, 2, 3}
    x0, y0, x1, y1 = setting.boxes(image)[0]
    assert setting.part_map(image)[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].any()
    assert setting.class_name(image) == "Crested Reed Warbler"
    assert readable("tench") == "tench"
    with pytest.raises(InputError, match="nobody"):
        setting.entry("nobody")


def test_nothing_of_it_imports_torch() -> None:
    code = (
        "import sys, relmap.report, relmap.figures.results, papers.clam.figures.layers, papers.clam.figures.curves;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_curves_have_a_panel_for_each_network_trained_here(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "imagenet"
    folder.mkdir(parents=True)
    header = "epoch,split,loss,accuracy,learning_rate,seconds\n"
    (folder / "vgg16.history.csv").write_text(header + "1,train,3.0,0.1,0.1,1\n1,validation,3.0,0.2,0.1,1\n")
    (folder / "resnet50.history.csv").write_text(header)
    histories = read_histories(tmp_path)
    assert list(histories) == [("imagenet", "vgg16")]
    (axes,) = [panel for panel in training_curves(histories).axes if panel.get_visible()]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.1], [0.2]]
    assert not [panel for panel in training_curves({}).axes if panel.get_visible()]
