"""absLRP's own examples: the toy networks of Figure 1, the sentences of Figure 9, and what draws them and Figure 10."""

import json
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import relmap
import torch
from relmap.errors import InputError
from relmap.figures.colours import is_signed
from relmap.figures.overlays import overlay
from relmap.models.distilbert import DistilBertSettings, new_distilbert
from relmap.models.wordpiece import SPECIAL, WordPiece, split

from papers.abslrp.figures.patches import Example, Seen, patch_title, patches_figure
from papers.abslrp.figures.sentences import levels, sentences_figure, title_of
from papers.abslrp.figures.toy import toy_figure
from papers.abslrp.grammar import NEGATIONS, NEGATIVE, POSITIVE, VOCABULARY, Sentence, draw_sentences, splits
from papers.abslrp.text import (
    CONTROLS,
    METHODS,
    ROLLOUT,
    position_of,
    roles_of,
    rollout,
    score_line,
    sheet_arrays,
    table_of,
    telling,
    token_maps,
    word_maps,
)
from papers.abslrp.toy import toy_attributions, toy_network

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "abslrp" / "text.ipynb"
WORDS = WordPiece([*SPECIAL, *VOCABULARY])


def test_toy_networks_have_the_papers_numbers():
    """Section 3.1: the same halves by LRP-alpha1-beta0; halves, a quarter, and nine times as much by absLRP."""
    found = {(line["network"], line["method"]): (line["input_1"], line["input_2"]) for line in toy_attributions()}
    for network in ("left", "right", "right, larger"):
        assert found[network, "lrp_alpha1_beta0"] == pytest.approx((0.5, 0.5), abs=1e-9)
    assert found["left", "abslrp_target"] == pytest.approx((0.5, 0.5), abs=1e-9)
    assert found["right", "abslrp_target"] == pytest.approx((0.25, 0.75), abs=1e-9)
    larger = found["right, larger", "abslrp_target"]
    assert larger[1] / larger[0] == pytest.approx(9, abs=1e-7) and sum(larger) == pytest.approx(1, abs=1e-12)


def test_toy_networks_differ_in_nothing_but_magnitude():
    ones = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    for second in ((-1.0, 2.0), (-5.0, 6.0), (-17.0, 18.0)):
        network = toy_network(second)
        assert network[:3](ones).tolist() == [[1, 1]] and network(ones).tolist() == [[2]]


@pytest.fixture(scope="module")
def sentences():
    return draw_sentences(600, seed=1, negated=0.4, mixed=0.5)


def test_labels_are_the_sign_of_most_opinions(sentences):
    positive, negative = ({*kind["adjective"], *kind["verb"]} for kind in (POSITIVE, NEGATIVE))
    negations = {word for words in NEGATIONS.values() for word in words}
    mixed = 0
    for sentence in sentences:
        signs, turned = [], False
        for word, role in zip(sentence.words, sentence.roles, strict=True):
            carries = word in positive | negative | negations
            assert (role != 0) == carries, "all that carries sentiment is marked, and nothing else"
            if word in negations:
                turned, begun = True, role
            elif carries:
                sign = (1 if word in positive else -1) * (-1 if turned else 1)
                assert role == sign and (not turned or begun == sign), "a negation speaks for what it makes"
                signs.append(sign)
                turned = False
        assert 1 <= len(signs) <= 3 and (sum(signs) > 0) == (sentence.label == 1) and sum(signs) != 0
        assert split(sentence.text) == list(sentence.words), "a word of the grammar is one word of the tokenizer"
        mixed += len(set(signs)) == 2
    assert 40 < mixed < 160
    assert 250 < sum(sentence.label for sentence in sentences) < 350


def test_no_other_word_tells_the_label():
    """Nor does a negation: each word's share of positive labels is that of a coin, by four standard errors."""
    counts = {label: Counter() for label in (0, 1)}
    for sentence in draw_sentences(6000, seed=4, negated=0.4, mixed=0.5):
        counts[sentence.label].update(set(sentence.words))
    telling_words = {word for kind in (POSITIVE, NEGATIVE) for words in kind.values() for word in words}
    for word in set(VOCABULARY) - telling_words:
        ones, both = counts[1][word], counts[0][word] + counts[1][word]
        assert both > 50 and abs(ones / both - 0.5) < 4 * 0.5 / both**0.5, word
    ones, zeros = (sum(counts[label][word] for word in POSITIVE["adjective"]) for label in (1, 0))
    assert ones > 1.2 * zeros, "four of ten are negated"


def test_sentences_repeat_and_come_once():
    train, test = splits(300, 50, 0.3, 0.7, seed=0)
    assert (train, test) == splits(300, 50, 0.3, 0.7, seed=0)
    assert len({sentence.words for sentence in (*train, *test)}) == 350
    assert splits(300, 50, 0.3, 0.7, seed=1)[1] != test
    assert draw_sentences(20, 3, 0.3, 0.5) == draw_sentences(50, 3, 0.3, 0.5)[:20], "fewer begin the same"
    assert not any(set(sentence.words) & {"not", "hardly", "never"} for sentence in draw_sentences(50, 3, 0.0, 0.5))


def test_relevance_of_words():
    maps = torch.tensor([[5.0, 1.0, 2.0, -3.0, 1.0, 0.0], [1.0, -4.0, 2.0, 0.0, 0.0, 1.0]])
    words = torch.tensor([[-1, 0, 0, 1, -1, -1], [-1, 0, -1, -1, -1, -1]])
    found, special = word_maps(maps, words)
    assert found.tolist() == [[3, -3], [-4, 0]]
    torch.testing.assert_close(special, torch.tensor([6 / 12, 4 / 8]))
    assert word_maps(torch.zeros(1, 2), torch.tensor([[-1, 0]]))[1].isnan().all()


def test_scores_are_their_definitions():
    maps = torch.tensor([[3.0, -1.0, 1.0, 0.0], [-2.0, -1.0, -3.0, -4.0], [1.0, 1.0, 1.0, 0.0]])
    present = torch.tensor([[True, True, True, False], [True] * 4, [True, True, True, False]])
    for_class = torch.tensor([[True, True, False, False], [True, False, False, False], [True, False, False, False]])
    against = torch.tensor([[False, False, True, False], [False] * 4, [False, True, False, False]])
    line = score_line("m", maps, present, for_class, against, torch.tensor([0.5, np.nan, 0.1]), seed=0)
    assert line["mass"] == pytest.approx((3 / 4 + 0 + 1 / 3) / 3), "no positive relevance is a miss"
    assert line["against"] == pytest.approx((1 / 4 + 1 / 3) / 2) and line["n_with_against"] == 2
    # In the first, words 0 and 2 are the top two; in the last all words are one tie, which comes whole.
    assert line["rank"] == pytest.approx((1 / 2 + 0 + 1 / 3) / 3)
    assert line["area"] == pytest.approx((2 / 3 + 1 / 4 + 1 / 3) / 3) and line["special"] == pytest.approx(0.3)
    low = score_line("m", maps[1:2], present[1:2], for_class[1:2], against[1:2], torch.tensor([0.0]), seed=0)
    assert np.isnan(low["against"]) and low["n_with_against"] == 0


def test_words_beyond_the_last_are_never_among_the_top():
    maps = torch.tensor([[-2.0, -1.0, 0.0]])
    present, for_class = torch.tensor([[True, True, False]]), torch.tensor([[False, True, False]])
    line = score_line("m", maps, present, for_class, torch.zeros_like(present), torch.tensor([0.0]), seed=0)
    assert line["rank"] == 1


@pytest.fixture(scope="module")
def network():
    settings = DistilBertSettings(vocabulary=len(WORDS.tokens), width=16, layers=2, heads=2, hidden=24, positions=64)
    return new_distilbert(settings, seed=2).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoded(sentences):
    return WORDS.encode([sentence.text for sentence in sentences[:12]])


def test_rollout_is_its_definition(network, encoded):
    ids = encoded.ids[:3]
    found = rollout(relmap.Propagator(network), ids)
    for row, sentence in zip(found, ids, strict=True):
        count = int((sentence != 0).sum())
        x = network.distilbert.embeddings(sentence[None, :count])
        product = torch.eye(count, dtype=torch.float64)
        for layer in network.distilbert.transformer["layer"]:
            q, k = (lin(x)[0].view(count, 2, 8) for lin in (layer.attention.q_lin, layer.attention.k_lin))
            attention = torch.stack([torch.softmax(q[:, head] @ k[:, head].T / 8**0.5, 1) for head in range(2)]).mean(0)
            mixed = (attention + torch.eye(count)) / 2
            product = mixed / mixed.sum(1, keepdim=True) @ product
            x = layer(x, torch.ones(1, 1, 1, count, dtype=torch.bool))
        torch.testing.assert_close(row[:count], product[0], rtol=1e-9, atol=1e-12)
        assert (row[count:] == 0).all() and row.sum() == pytest.approx(1)


def test_no_map_depends_on_its_batch(network, encoded):
    targets = torch.arange(12) % 2
    maps = token_maps(network, encoded.ids, targets, batch_size=12)
    assert list(maps) == [*(name for name in METHODS if name not in CONTROLS), ROLLOUT, *CONTROLS]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    again = token_maps(network, encoded.ids[order], targets[order], batch_size=5)
    for method, found in maps.items():
        torch.testing.assert_close(again[method], found[order], rtol=1e-6, atol=1e-9 * found.abs().max().item())


def test_the_table_reads_signs_by_the_explained_class(sentences, encoded):
    some = sentences[:12]
    roles, signs = roles_of(some), torch.tensor([2 * sentence.label - 1 for sentence in some])
    oracle = torch.zeros(encoded.ids.shape, dtype=torch.float64)
    oracle[:, 1:-1] = torch.nn.functional.pad(roles, (0, oracle.shape[1] - 2 - roles.shape[1])) * signs[:, None]
    lines = table_of({"oracle": oracle, "constant": torch.ones_like(oracle)}, encoded.words, roles, signs, seed=0)
    for_class = (roles == signs[:, None]).sum(1) / (encoded.words >= 0).sum(1)
    told = (roles == -signs[:, None]).sum(1) / (encoded.words >= 0).sum(1)
    assert (lines[0]["mass"], lines[0]["rank"], lines[0]["against"], lines[0]["special"]) == (1, 1, 0, 0)
    assert lines[1]["mass"] == lines[1]["rank"] == pytest.approx(for_class.mean().item())
    assert lines[1]["against"] == pytest.approx(told[told > 0].mean().item())
    turned = table_of({"oracle": -oracle}, encoded.words, roles, -signs, seed=0)[0]
    share = (roles == -signs[:, None]).any(1).double().mean().item()
    assert turned["against"] == 0 and share > 0
    assert turned["mass"] == 1, "sentences without words for the class have no answer"


def test_classes_are_found_by_their_names():
    assert position_of(("NEGATIVE", "POSITIVE"), "c") == 1 and position_of(("positive", "negative"), "c") == 0
    with pytest.raises(InputError, match=r"config\.json: the classes are entailment, neutral"):
        position_of(("entailment", "neutral"), "config.json")


def test_sentences_to_show_are_the_telling_ones():
    def of(words, roles, label):
        return Sentence(tuple(words.split()), roles, label)

    plain, negated = of("good film .", (1, 0, 0), 1), of("not bad .", (1, 1, 0), 1)
    mixed = of("good but bad bad", (1, 0, -1, -1), 0)
    listed = [plain, negated, mixed, plain, of("bad .", (-1, 0), 0)]
    assert telling(listed, torch.tensor([True] * 5), 3) == [1, 2, 0]
    assert telling(listed, torch.tensor([True, False, True, False, False]), 9) == [0, 2]


def _arrays(encoded, sentences):
    maps = {name: torch.randn(encoded.ids.shape, generator=torch.Generator().manual_seed(1)) for name in METHODS}
    arrays = sheet_arrays([sentence.words for sentence in sentences], encoded, maps, torch.linspace(0, 1, 4))
    told = np.zeros(arrays["words"].shape, bool)
    return arrays | {"label": np.array([1, 0, -1, 1]), "telling": told}, maps


def _table(encoded, sentences, maps):
    signs = torch.tensor([2 * sentence.label - 1 for sentence in sentences])
    lines = table_of(maps, encoded.words, roles_of(sentences), signs, seed=0)
    return pd.DataFrame([{**line, "accuracy": 0.9, "n_tested": 4} for line in lines])


def test_figure_of_sentences(sentences):
    encoded = WORDS.encode([sentence.text for sentence in sentences[:4]])
    arrays, maps = _arrays(encoded, sentences[:4])
    figure = sentences_figure(arrays, _table(encoded, sentences[:4], maps))
    shown = [text.get_text() for text in figure.axes[0].texts]
    for sentence in sentences[:4]:
        assert set(sentence.words) <= set(shown)
    assert sum(text.startswith("prediction:") for text in shown) == 4
    boxes = [text for text in figure.axes[0].texts if text.get_bbox_patch() is not None]
    first = sentences[0].words
    of_first = levels(arrays["maps/abslrp_difference"][0][: len(first)].astype(float))
    for text, word, level in zip(boxes, first, of_first, strict=False):
        red, _, blue, _ = text.get_bbox_patch().get_facecolor()
        assert text.get_text() == word and (red > blue) == (level > 0), "red speaks for, blue against"
    assert len(figure.axes[1].patches) == 3 * len(METHODS)
    with pytest.raises(InputError, match="no sentences"):
        sentences_figure({"words": np.empty((0, 3))}, pd.DataFrame())


def test_words_of_a_sentences_title():
    assert title_of(0.25, -1) == "prediction: negative, 0.750" and title_of(0.75, 0).endswith("truth: negative")
    assert levels(np.array([0.5, -2.0])).tolist() == [0.25, -1] and levels(np.zeros(2)).tolist() == [0, 0]


def test_figure_of_toy_networks():
    figure = toy_figure(pd.DataFrame(toy_attributions()).round(6))
    shown = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert len(shown) == 3
    assert Counter(shown[0])["0.5"] == 4 and {"0.25", "0.75", "6"} <= set(shown[1]) and {"0.1", "0.9"} <= set(shown[2])
    with pytest.raises(InputError, match="explain_toys"):
        toy_figure(pd.DataFrame())


def test_figure_of_two_transformers(monkeypatch):
    random, placed = np.random.default_rng(0), []

    def seen(side, **maps):
        return Seen(random.integers(0, 255, (side, side, 3)).astype(np.uint8), maps)

    both = {name: random.normal(size=(48, 48)) for name in ("abslrp", "hires_cam")}
    example = Example("dog", [seen(48, **both), seen(32, abslrp=random.normal(size=(32, 32)))])
    monkeypatch.setattr("relmap.figures.page.Page.picture", lambda self, image, *place, **how: placed.append(image))
    titles = [patch_title("ViT-B/16", 384, 16), patch_title("ViT-B/32", 224, 32)]
    assert titles == ["ViT-B/16, 576 patches of 16 x 16", "ViT-B/32, 49 patches of 32 x 32"]
    figure = patches_figure([example], titles)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert set(titles) <= set(texts) and texts.count("Input") == 2 and "no map" in texts and "dog" in texts
    first, second = example.seen
    expected = [first.picture, *(overlay(first.picture, v, is_signed(name)) for name, v in both.items())]
    expected += [second.picture, overlay(second.picture, second.maps["abslrp"])]
    assert len(placed) == 5 and all(np.array_equal(*pair) for pair in zip(placed, expected, strict=True))
    with pytest.raises(InputError, match="cut into patches of 16"):
        patch_title("ViT", 100, 16)
    with pytest.raises(InputError, match=r"seen by 1 networks of 2"):
        patches_figure([Example("dog", [first])], titles)
    with pytest.raises(InputError, match="no examples"):
        patches_figure([], titles)
    with pytest.raises(InputError, match=r"map of abslrp is \(32, 32\)"):
        patches_figure([Example("dog", [seen(48, abslrp=np.ones((32, 32))), second])], titles)


def _cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_imports_nothing_that_imports_torch():
    assert not any(f"papers.abslrp.{name} " in cell.source for cell in _cells() for name in ("text", "toy"))


def test_notebook_draws_its_figures(tmp_path, sentences, monkeypatch):
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 50)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 50)
    encoded = WORDS.encode([sentence.text for sentence in sentences[:4]])
    arrays, maps = _arrays(encoded, sentences[:4])
    (tmp_path / "tables").mkdir()
    (tmp_path / "abslrp/sentiment").mkdir(parents=True)
    _table(encoded, sentences[:4], maps).to_csv(tmp_path / "tables/abslrp_sentiment.csv", index=False)
    pd.DataFrame(toy_attributions()).to_csv(tmp_path / "tables/abslrp_toy.csv", index=False)
    np.savez(tmp_path / "abslrp/sentiment/sentences.npz", **arrays)
    space: dict = {}
    for cell in _cells():
        exec(compile(cell.source, "text", "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space["results"] = str(tmp_path)
    for number in (1, 9):
        stem = tmp_path / "figures" / f"abslrp_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"] and words["selection"] and words["rows"]
