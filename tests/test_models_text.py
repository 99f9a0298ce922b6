"""The BERT classifier: Hugging Face's function and names, and a trace whose masks carry no relevance."""

import pytest
import torch
from relmap.errors import InputError
from relmap.models.text import BertClassifier, BertSettings, bert_of_state
from relmap.network import trace
from relmap.propagation import Propagator, composites
from torch import nn

SETTINGS = BertSettings(classes=3, vocabulary=50, width=24, layers=2, heads=3, hidden=32, positions=12)
WORDS = "bert.embeddings.word_embeddings"


def classifier() -> BertClassifier:
    torch.manual_seed(0)
    model = BertClassifier(SETTINGS).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def sentences(length: int = 9) -> torch.Tensor:
    ids = torch.randint(1, 50, (3, length), generator=torch.Generator().manual_seed(1))
    ids[1, 5:] = ids[2, 2:] = 0
    return ids


@torch.no_grad()
def test_the_trace_is_the_model():
    model = classifier()
    walk = Propagator(model).by(composites.gradient())
    for ids in (sentences(), sentences(6)[:2], sentences()[2:]):
        torch.testing.assert_close(walk.forward(ids).logits, model(ids), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_padding_is_not_seen():
    model = classifier()
    ids = sentences()
    torch.testing.assert_close(model(ids)[2:], model(ids[2:, :2]), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(model(ids)[2:], model(ids[2:, :1]))


def test_relevance_reaches_the_words_and_no_mask():
    model, ids = classifier(), sentences()
    graph = trace(model)
    masks = {operation.name for operation in graph if operation.kind in ("mask", "parameter")}
    assert masks >= {"bert.ne", "bert.embeddings.position_embeddings.weight"} and not masks & graph.carriers()
    walk = Propagator(model).by(composites.gradient())
    start = torch.zeros(1, 3, 3, dtype=torch.float64)
    start[0, :, 1] = 1
    found = walk.propagate(walk.forward(ids), start, stop=WORDS).relevance[0]
    kept = []
    hook = model.get_submodule(WORDS).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = model(ids)
    hook.remove()
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert (found[1, 5:] == 0).all() and (found[1, :5] != 0).any()


def test_a_state_dict_tells_the_sizes():
    model, ids = classifier(), sentences()
    state = model.state_dict()
    assert {
        "bert.embeddings.LayerNorm.weight",
        "bert.encoder.layer.1.attention.self.query.weight",
        "bert.encoder.layer.0.attention.output.dense.bias",
        "bert.encoder.layer.0.intermediate.dense.weight",
        "bert.encoder.layer.1.output.LayerNorm.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
    } <= set(state)
    older = {**state, "bert.embeddings.position_ids": torch.arange(12)[None]}
    again = bert_of_state(older, heads=3)
    assert not again.training
    torch.testing.assert_close(again(ids), model(ids).detach())
    assert not torch.allclose(bert_of_state(state, heads=2)(ids), again(ids))
    with pytest.raises(InputError, match="no state dict of a BERT classifier"):
        bert_of_state({"fc.weight": torch.zeros(1)}, heads=3)
    del state["bert.pooler.dense.bias"]
    with pytest.raises(InputError, match=r"pooler\.dense\.bias: absent"):
        bert_of_state(state, heads=3)
    with pytest.raises(InputError, match="5 heads"):
        BertClassifier(BertSettings(width=24, heads=5))


def test_against_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, num_labels=3
    )
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(config).double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.4)
    ids = sentences()
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != 0).long()).logits
    torch.testing.assert_close(bert_of_state(theirs.state_dict(), heads=3)(ids), expected, rtol=1e-9, atol=1e-9)
