"""Train a small DistilBERT on sentences whose sentiment a grammar knows; the files are those of Hugging Face's hub."""

import torch
from relmap.job.device import choose_device
from relmap.job.files import as_json, atomic_paths
from relmap.job.logs import job
from relmap.models.distilbert import DistilBertSettings, new_distilbert
from relmap.models.training import InMemory, TrainingConfig, train_as_is, write_history
from relmap.models.wordpiece import SPECIAL, WordPiece
from safetensors.torch import save_file

from papers.abslrp.grammar import VOCABULARY, splits

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, output = snakemake.params, snakemake.output
    sentences, _ = splits(**params.sentences, seed=params.seed)
    vocabulary = WordPiece([*SPECIAL, *VOCABULARY])
    encoded = vocabulary.encode([sentence.text for sentence in sentences], params.network["positions"])
    labels = torch.tensor([sentence.label for sentence in sentences])
    sizes = DistilBertSettings(vocabulary=len(vocabulary.tokens), dropout=0.0, **params.network)
    model = new_distilbert(sizes, params.seed).to(choose_device(params.device))
    recipe = TrainingConfig(**params.training, precision=params.precision)
    fit = train_as_is(model, InMemory(encoded.ids, labels), recipe, seed=params.seed, name="sentiment")
    log.info("accuracy %.1f %% on sentences of the training that were held out", 100 * fit.accuracy)
    with atomic_paths(output.weights, output.config, output.vocabulary) as (weights, config, words):
        save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, weights)
        config.write_text(as_json(sizes.to_config(), f"{output.config}: config"))
        words.write_text(vocabulary.text(), encoding="utf-8")
    write_history(fit.history, output.history)
