"""DistilBERT and its WordPiece: Hugging Face's names, function and files, and a trace that the engine walks."""

import json

import pytest
import relmap
import torch
from relmap.errors import InputError
from relmap.models.distilbert import DistilBertClassifier, DistilBertSettings, load_distilbert, new_distilbert
from relmap.models.training import InMemory, TrainingConfig, train_as_is
from relmap.models.wordpiece import SPECIAL, WordPiece, split
from relmap.propagation import Propagator, composites
from safetensors.torch import save_file
from torch import nn

SETTINGS = DistilBertSettings(vocabulary=40, width=24, layers=2, heads=3, hidden=32, positions=12)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = DistilBertClassifier(SETTINGS).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made.requires_grad_(False)


def sentences(length=9):
    ids = torch.randint(1, 40, (3, length), generator=torch.Generator().manual_seed(1))
    ids[1, 5:] = ids[2, 2:] = 0
    return ids


def test_names_and_shapes_are_those_of_the_published_file():
    """Of ``distilbert-base-uncased-finetuned-sst-2-english``, which has 104 tensors and 66,955,010 numbers."""
    with torch.device("meta"):
        found = {
            name: tuple(value.shape) for name, value in DistilBertClassifier(DistilBertSettings()).state_dict().items()
        }
    embeddings, linear = "distilbert.embeddings", {"weight": (768, 768), "bias": (768,)}
    expected = {
        f"{embeddings}.word_embeddings.weight": (30522, 768),
        f"{embeddings}.position_embeddings.weight": (512, 768),
        f"{embeddings}.LayerNorm.weight": (768,),
        f"{embeddings}.LayerNorm.bias": (768,),
        "classifier.weight": (2, 768),
        "classifier.bias": (2,),
        **{f"pre_classifier.{kind}": shape for kind, shape in linear.items()},
    }
    for number in range(6):
        layer = f"distilbert.transformer.layer.{number}"
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            expected |= {f"{layer}.attention.{name}.{kind}": shape for kind, shape in linear.items()}
        for name in ("sa_layer_norm", "output_layer_norm"):
            expected |= {f"{layer}.{name}.{kind}": (768,) for kind in linear}
        expected |= {f"{layer}.ffn.lin1.weight": (3072, 768), f"{layer}.ffn.lin1.bias": (3072,)}
        expected |= {f"{layer}.ffn.lin2.weight": (768, 3072), f"{layer}.ffn.lin2.bias": (768,)}
    assert found == expected and len(found) == 104
    assert sum(torch.Size(shape).numel() for shape in found.values()) == 66_955_010


def _norm(state, name, x):
    centred = x - x.mean(-1, keepdim=True)
    size = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return centred / size * state[f"{name}.weight"] + state[f"{name}.bias"]


def slow_logits(state, ids):
    """The definition for one sentence without padding, head by head."""

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    embeddings = "distilbert.embeddings"
    words, positions = (state[f"{embeddings}.{name}_embeddings.weight"] for name in ("word", "position"))
    x = words[ids] + positions[: len(ids)]
    x = _norm(state, f"{embeddings}.LayerNorm", x)
    for number in range(SETTINGS.layers):
        layer, own = f"distilbert.transformer.layer.{number}", SETTINGS.width // SETTINGS.heads
        q, k, v = (linear(f"{layer}.attention.{name}_lin", x) for name in "qkv")
        heads = []
        for head in range(SETTINGS.heads):
            part = slice(head * own, (head + 1) * own)
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / own**0.5, 1) @ v[:, part])
        x = _norm(state, f"{layer}.sa_layer_norm", linear(f"{layer}.attention.out_lin", torch.cat(heads, 1)) + x)
        inner = linear(f"{layer}.ffn.lin1", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        x = _norm(state, f"{layer}.output_layer_norm", linear(f"{layer}.ffn.lin2", inner) + x)
    return linear("classifier", linear("pre_classifier", x[0]).clamp(min=0))


def test_the_function_is_the_definition_and_padding_is_not_seen(model):
    ids, state = sentences(), model.state_dict()
    expected = torch.stack([slow_logits(state, row[row != 0]) for row in ids])
    torch.testing.assert_close(model(ids), expected, rtol=1e-10, atol=1e-10)


def test_the_trace_is_the_model_and_relevance_keeps_off_padding(model):
    ids = sentences()
    walk = Propagator(model).by(composites.gradient())
    torch.testing.assert_close(walk.forward(ids).logits, model(ids), rtol=1e-9, atol=1e-9)
    words = model.distilbert.embeddings.word_embeddings.weight[ids].requires_grad_()
    hook = model.distilbert.embeddings.word_embeddings.register_forward_hook(lambda *call: words)
    (gradient,) = torch.autograd.grad(model(ids)[:, 1].sum(), words)
    hook.remove()
    found = relmap.explain(model, ids, 1, "input_x_gradient")
    torch.testing.assert_close(found, (words.detach() * gradient).sum(2), rtol=1e-8, atol=1e-10)
    for method in ("abslrp", "abslrp_difference", "lrp_epsilon"):
        maps = relmap.explain(model, ids, 1, method)
        assert (maps[1, 5:] == 0).all() and maps[1, :5].abs().min() > 0
        alone = relmap.explain(model, ids[1:2, :5], 1, method, batch_size=1)
        torch.testing.assert_close(maps[1:2, :5], alone, rtol=1e-6, atol=1e-9 * maps.abs().max().item())


def test_files_of_the_hub_come_back(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = SETTINGS.to_config()
    (tmp_path / "config.json").write_text(json.dumps(config))
    again, names = load_distilbert(tmp_path / "model.safetensors", tmp_path / "config.json")
    assert names == ("NEGATIVE", "POSITIVE") and not again.training
    assert torch.equal(again(sentences()), model(sentences()))
    for wrong, words in (
        ({**config, "model_type": "bert"}, "not the config of a DistilBERT"),
        ({key: value for key, value in config.items() if key != "n_heads"}, "lacks n_heads"),
        ({**config, "id2label": {"0": "A", "2": "B"}}, "a name for each class"),
        ({**config, "dim": 48}, "48"),
        ({**config, "n_heads": 5}, "5 equal heads"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=words):
            load_distilbert(tmp_path / "model.safetensors", tmp_path / "config.json")


def test_published_config_is_read():
    """The published file's keys, among others."""
    config = {
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification"],
        "attention_dropout": 0.1,
        "dim": 768,
        "dropout": 0.1,
        "finetuning_task": "sst-2",
        "hidden_dim": 3072,
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "max_position_embeddings": 512,
        "model_type": "distilbert",
        "n_heads": 12,
        "n_layers": 6,
        "pad_token_id": 0,
        "vocab_size": 30522,
    }
    assert DistilBertSettings.from_config(config) == DistilBertSettings()


def test_against_transformers(model):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**SETTINGS.to_config()))
    theirs = theirs.double().eval()
    theirs.load_state_dict(model.state_dict())
    ids = sentences()
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != 0).long()).logits
    torch.testing.assert_close(model(ids), expected, rtol=1e-9, atol=1e-9)


def test_a_training_on_token_ids_repeats_and_learns():
    """Whether token 7 is there."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(8, 40, (256, 8), generator=generator)
    labels = torch.arange(256) % 2
    ids[labels == 1, 3] = 7
    fits = []
    for _ in range(2):
        model = new_distilbert(SETTINGS, seed=5)
        config = TrainingConfig(epochs=4, batch_size=32, learning_rate=0.005)
        fits.append((train_as_is(model, InMemory(ids, labels), config, seed=1), model.state_dict()))
    (fit, state), (_, again) = fits
    assert fit.accuracy == 1 and [row["epoch"] for row in fit.history] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert (state["distilbert.embeddings.word_embeddings.weight"][0] == 0).all(), "padding stays 0"


VOCABULARY = WordPiece([*SPECIAL, "un", "##aff", "##able", "the", "caf", "cafe", "##s", "!", "'", "won", "t", "$", "5"])


def test_words_are_cut_as_berts():
    assert split("Won't the CAFÉS\tcost $5!\u0000") == ["won", "'", "t", "the", "cafes", "cost", "$", "5", "!"]
    assert split("你好 a\u2014b") == ["你", "好", "a", "\u2014", "b"]
    assert VOCABULARY.pieces("unaffable") == ["un", "##aff", "##able"]
    assert VOCABULARY.pieces("cafes") == ["cafe", "##s"], "the longest piece comes first"
    assert VOCABULARY.pieces("unx") == VOCABULARY.pieces("un" + "s" * 99) == ["[UNK]"]
    assert VOCABULARY.pieces("un" + "s" * 98) == ["un", *["##s"] * 98], "at most 100 letters"


def test_sentences_are_padded_and_tokens_know_their_words():
    encoded = VOCABULARY.encode(["Unaffable cafés!", "the film"])
    assert encoded.tokens[0] == ("[CLS]", "un", "##aff", "##able", "cafe", "##s", "!", "[SEP]")
    second = [VOCABULARY.tokens[number] for number in encoded.ids[1]]
    assert second == ["[CLS]", "the", "[UNK]", "[SEP]", *["[PAD]"] * 4]
    assert encoded.words.tolist() == [[-1, 0, 0, 0, 1, 1, 2, -1], [-1, 0, 1, -1, -1, -1, -1, -1]]
    with pytest.raises(InputError, match="8 tokens, over 7"):
        VOCABULARY.encode(["Unaffable cafés!"], longest=7)
    with pytest.raises(InputError, match="no sentence"):
        VOCABULARY.encode([])


def test_a_vocabulary_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text(VOCABULARY.text(), encoding="utf-8")
    assert WordPiece.read(path).tokens == VOCABULARY.tokens
    path.write_text("[PAD]\n[UNK]\n[CLS]\n")
    with pytest.raises(InputError, match=r"vocab\.txt: lacks \[SEP\]"):
        WordPiece.read(path)
    with pytest.raises(InputError, match="token twice"):
        WordPiece([*SPECIAL, "a", "a"])
    with pytest.raises(InputError, match=r"absent\.txt: no vocabulary"):
        WordPiece.read(tmp_path / "absent.txt")
