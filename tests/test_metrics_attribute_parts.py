"""Attribute regions against the parts that distinguish a class: against a literal restatement, and by hand."""

import pytest
import torch
from relmap.metrics.attribute_parts import score_regions

PARTS = 4


def restated(part_map, distinguishing, box):
    """The module's equations, position by position."""
    telling = distinguishing[part_map.long()]
    on_object = part_map > 0
    height, width = part_map.shape
    x0, y0, x1, y1 = (max(0, round(float(v))) for v in box)
    x1, y1 = min(x1, width), min(y1, height)

    def numbers(top, left):
        window = (slice(top, top + y1 - y0), slice(left, left + x1 - x0))
        inside, covered = telling[window].sum().item(), on_object[window].sum().item()
        return inside / ((y1 - y0) * (x1 - x0)), inside / covered if covered else 0.0

    places = [numbers(t, left) for t in range(height - (y1 - y0) + 1) for left in range(width - (x1 - x0) + 1)]
    coverages, specificities = [p[0] for p in places], [p[1] for p in places]
    mean = sum(coverages) / len(coverages)
    coverage, specificity = numbers(y0, x0)
    return {
        "coverage": coverage,
        "specificity": specificity,
        "hit": float(coverage > mean),
        "coverage_chance": mean,
        "specificity_chance": sum(specificities) / len(specificities),
        "hit_chance": sum(c > mean for c in coverages) / len(coverages),
    }


def test_restated():
    """Random part maps and boxes, some over the border, some of fractional pixels."""
    generator = torch.Generator().manual_seed(0)
    part_maps = torch.randint(0, PARTS, (6, 9, 11), generator=generator)
    part_maps[torch.rand(6, 9, 11, generator=generator) < 0.5] = 0
    distinguishing = torch.rand(6, PARTS, generator=generator) < 0.5
    distinguishing[:, 0], distinguishing[:, 1] = False, True
    corner = torch.randint(-2, 7, (6, 5, 2), generator=generator).float() + 0.2
    boxes = torch.cat([corner, corner + torch.randint(3, 6, (6, 5, 2), generator=generator)], dim=2)
    got = score_regions(part_maps, distinguishing, boxes)
    for image in range(6):
        for attribute in range(5):
            expected = restated(part_maps[image], distinguishing[image], boxes[image, attribute])
            for name, value in expected.items():
                assert got[name][image, attribute].item() == pytest.approx(value, abs=1e-12), name


def bird():
    """10 x 10 pixels: body (1) in rows 4-7, columns 2-7; crest (2) in rows 2-3, columns 6-7; only the crest tells."""
    part_map = torch.zeros(1, 10, 10, dtype=torch.uint8)
    part_map[0, 4:8, 2:8] = 1
    part_map[0, 2:4, 6:8] = 2
    return part_map, torch.tensor([[False, False, True]])


def test_finding_the_bird_is_not_finding_the_crest():
    part_map, distinguishing = bird()
    boxes = torch.tensor([[[6, 2, 8, 4], [2, 4, 4, 6], [6, 3, 8, 5], [0, 0, 2, 2]]]).float()
    got = score_regions(part_map, distinguishing, boxes)
    assert got["coverage"].tolist() == [[1.0, 0.0, 0.5, 0.0]]
    assert got["hit"].tolist() == [[1.0, 0.0, 1.0, 0.0]]
    assert got["specificity"].tolist() == [[1.0, 0.0, 0.5, 0.0]], "off the bird is a miss"
    # Each of the crest's 4 pixels is inside 4 of the 81 positions of a 2 x 2 region; 9 positions touch the crest.
    assert got["coverage_chance"][0].tolist() == pytest.approx([4 * 4 / 4 / 81] * 4)
    assert got["hit_chance"][0].tolist() == pytest.approx([9 / 81] * 4)


def test_random_regions_have_no_lift():
    """Averaged over all positions, the chosen region's numbers are the chance's."""
    part_map, distinguishing = bird()
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    boxes = torch.stack([x, y, x + 3, y + 3], dim=-1).view(1, 64, 4)
    got = score_regions(part_map, distinguishing, boxes)
    for name in ("coverage", "specificity", "hit"):
        assert got[name].mean().item() == pytest.approx(got[f"{name}_chance"][0, 0].item())


def test_without_a_visible_distinguishing_part_there_is_no_answer():
    part_map, distinguishing = bird()
    part_map[part_map == 2] = 0
    got = score_regions(part_map, distinguishing, torch.tensor([[[1.0, 1.0, 4.0, 4.0]]]))
    assert all(values.isnan().all() for values in got.values())


def test_a_uniform_picture_has_no_hits():
    """Everywhere the same coverage: nobody does better than chance, whatever the rounding of the mean."""
    part_map, distinguishing = torch.full((1, 7, 7), 1), torch.tensor([[False, True]])
    got = score_regions(part_map, distinguishing, torch.tensor([[[1.0, 1.0, 4.0, 4.0]]]))
    assert (got["hit"].item(), got["hit_chance"].item()) == (0, 0)


def test_bad_input():
    part_map, distinguishing = bird()
    box = torch.tensor([[[1.0, 1.0, 4.0, 4.0]]])
    with pytest.raises(ValueError, match="do not fit"):
        score_regions(part_map, distinguishing, box[0])
    with pytest.raises(ValueError, match="part index 2 has no column"):
        score_regions(part_map, distinguishing[:, :2], box)
    with pytest.raises(ValueError, match="background"):
        score_regions(part_map, ~distinguishing, box)
    with pytest.raises(ValueError, match="of image 0 is empty"):
        score_regions(part_map, distinguishing, box + 20)
