"""Global Attribution Evaluation as the paper writes it down (Section 3.2), one mosaic, one step, one element at a time.

In float64 and plain loops; nothing here uses relmap. The explainer is a function of an image (C, H, W) and a class
that gives a map (C, H, W) or (1, H, W).
"""

import math

import torch


def attribution(explain, image, target):
    found = explain(image, target)
    found = found.double().clamp(min=0).expand(image.shape)
    return found / found.max() if found.max() > 0 else found


def l1(values):
    return math.fsum(abs(value) for value in values.flatten().tolist())


def output_and_impact(model, image, target):
    leaf = image.clone().requires_grad_(True)
    output = model(leaf[None])[0, target]
    (gradient,) = torch.autograd.grad(abs(output), leaf)
    return float(output), (image * gradient).abs()


def walk(model, image, target, steps, most_first, masking):
    """Inputs x_0 to x_T, outputs, and the impacts' sum over t < T."""
    inputs, outputs, total, masked = [image], [], torch.zeros_like(image), set()
    for step in range(steps):
        output, impact = output_and_impact(model, inputs[-1], target)
        outputs.append(output)
        total = total + impact
        share = 0.1 if steps == 1 else 0.1 + 0.8 * step / (steps - 1)
        values = impact.flatten().tolist()
        sign = -1 if most_first else 1
        order = sorted(range(len(values)), key=lambda place: (sign * values[place], place))
        if masking == "cumulative":
            order = sorted(masked) + [place for place in order if place not in masked]
        masked |= set(order[: math.floor(share * len(values) + 1e-9)])
        now = image.clone().flatten()
        now[sorted(masked)] = 0
        inputs.append(now.view(image.shape))
    return inputs, [*outputs, output_and_impact(model, inputs[-1], target)[0]], total


def mosaic_of(images):
    height, width = images[0].shape[1:]
    mosaic = torch.zeros_like(images[0])
    for place, image in enumerate(images):
        top, left = (place // 2) * (height // 2), (place % 2) * (width // 2)
        tall = height // 2 if place < 2 else height - height // 2
        wide = width // 2 if place % 2 == 0 else width - width // 2
        for y in range(tall):
            for x in range(wide):
                mosaic[:, top + y, left + x] = image[:, y * height // tall, x * width // wide]
    return mosaic


def score_map_of(probabilities, classes, positive, height, width):
    scores = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            place = 2 * (y >= height // 2) + (x >= width // 2)
            ratio = probabilities[classes[place]] / probabilities[classes[positive]]
            cross = y in (height // 2 - 1, height // 2) or x in (width // 2 - 1, width // 2)
            scores[y, x] = 1 if place == positive or cross else 2 * ratio - 1
    return scores


def global_attribution_evaluation(
    model, explain, images, positive, *, classes=None, steps=10, masking="reselect", relative="paper"
):
    """Parts of the score of four images; ``classes`` of the score map, the predicted ones without them."""
    predicted = [int(model(image[None])[0].argmax()) for image in images]
    image, target = images[positive], predicted[positive]
    first = attribution(explain, image, target)
    similarities, outputs, totals = {}, {}, {}
    for name in ("morf", "lerf"):
        inputs, outputs[name], totals[name] = walk(model, image, target, steps, name == "morf", masking)
        similarities[name] = []
        for masked in inputs[1:]:
            then = attribution(explain, masked, target)
            norm = l1(first) + l1(then)
            similarities[name].append(1 - l1(first - then) / norm if norm else 1.0)
    of_maps = [le - mo for le, mo in zip(similarities["lerf"], similarities["morf"], strict=True)]
    start = outputs["lerf"][0]

    def changed(output):
        return abs(start - output) / (abs(start) + abs(output))

    pairs = list(zip(outputs["lerf"][1:], outputs["morf"][1:], strict=True))
    if relative == "paper":
        of_outputs = [(le - mo) / start for le, mo in pairs]
    elif relative == "magnitude":
        of_outputs = [(le - mo) / abs(start) for le, mo in pairs]
    else:
        of_outputs = [changed(mo) - changed(le) for le, mo in pairs]
    apart = sum(abs(a - b) for a, b in zip(of_outputs, of_maps, strict=True))
    norm = sum(abs(a) for a in of_outputs) + sum(abs(a) for a in of_maps)
    combined = totals["lerf"] / totals["lerf"].sum() - totals["morf"] / totals["morf"].sum()
    sign = torch.where(combined >= 0, 1.0, -1.0)
    mosaic = mosaic_of(images)
    on_mosaic = attribution(explain, mosaic, target)
    probabilities = model(image[None])[0].softmax(0)
    scores = score_map_of(probabilities, classes or predicted, positive, *image.shape[1:])
    parts = {
        "robustness": 1 - 2 * apart / norm if norm else 1.0,
        "faithfulness": float((first * sign).sum()) / l1(first) if l1(first) else 0.0,
        "contrastiveness_signed": float((on_mosaic * scores).sum()) / l1(on_mosaic) if l1(on_mosaic) else 0.0,
    }
    parts["lc"] = max(0.0, (parts["robustness"] + parts["faithfulness"]) / 2)
    parts["c"] = max(0.0, parts["contrastiveness_signed"])
    return parts | {"total": parts["lc"] * parts["c"]}
