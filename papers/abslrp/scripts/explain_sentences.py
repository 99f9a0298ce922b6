"""Relevance of words for a sentence's sentiment: scored where the grammar knows the answer, and kept to be drawn."""

import numpy as np
import pandas as pd
import torch
from relmap.errors import InputError
from relmap.evidence.frames import write_computed
from relmap.job.device import choose_device
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.models.distilbert import load_distilbert
from relmap.models.inference import predict
from relmap.models.wordpiece import WordPiece, split

from papers.abslrp.grammar import splits
from papers.abslrp.text import position_of, roles_of, sheet_arrays, table_of, telling, token_maps

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    model, names = load_distilbert(files.weights, files.config, choose_device(params.device))
    positive = position_of(names, files.config)
    vocabulary, longest = WordPiece.read(files.vocabulary), len(model.distilbert.embeddings.position_embeddings.weight)
    _, sentences = splits(**params.sentences, seed=params.seed)
    encoded = vocabulary.encode([sentence.text for sentence in sentences], longest)
    signs = torch.tensor([2 * sentence.label - 1 for sentence in sentences])
    classes = torch.where(signs > 0, positive, 1 - positive)
    right = predict(model, encoded.ids, params.batch_size).argmax(1) == classes
    accuracy = right.double().mean().item()
    log.info("%.1f %% of %d held-out sentences of the grammar are rightly classified", 100 * accuracy, len(sentences))
    if not right.any():
        raise InputError(
            "config: `abslrp.sentiment`: no held-out sentence is rightly classified; train the network longer"
        )
    chosen = right.nonzero()[: params.explained, 0]
    roles = roles_of(sentences)
    maps = token_maps(model, encoded.ids[chosen], classes[chosen], batch_size=params.batch_size)
    lines = table_of(maps, encoded.words[chosen], roles[chosen], signs[chosen], params.seed)
    table = pd.DataFrame([{**line, "accuracy": accuracy, "n_tested": len(sentences)} for line in lines])

    # Shown for the positive class whatever the prediction, as in the paper: red speaks for it, blue against.
    texts, known = list(params.examples), []
    if not texts:
        known = telling(sentences, right, params.shown)
        texts = [sentences[place].text for place in known]
    shown = vocabulary.encode(texts, longest)
    found = token_maps(model, shown.ids, torch.full((len(texts),), positive), batch_size=params.batch_size)
    arrays = sheet_arrays([split(text) for text in texts], shown, found, predict(model, shown.ids)[:, positive])
    # What is known of the grammar's sentences alone: the label, and which words tell it.
    labels, told = np.full(len(texts), -1), np.zeros(arrays["words"].shape, bool)
    for row, place in enumerate(known):
        labels[row] = sentences[place].label
        told[row, : len(sentences[place].roles)] = np.array(sentences[place].roles) != 0
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(temporary, label=labels, telling=told, **arrays)
    write_computed(table, snakemake.output.table, "Relevance on the words that carry a sentence's sentiment")
