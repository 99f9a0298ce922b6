"""
What absLRP's rules ask of the config. No rules here.
"""

# Figure 9's classifier: files by what they are, as a folder of Hugging Face's hub has them.
SENTIMENT_FILES = {"weights": "model.safetensors", "config": "config.json", "vocabulary": "vocab.txt"}
SENTIMENT_COLLECTION = "distilbert_sst2"


def sentiment_file(kind):
    """A file of the classifier of sentences: trained here, retrieved, or in the folder that the config names."""
    source, name = config["abslrp"]["sentiment"]["weights"], SENTIMENT_FILES[kind]
    if source == "retrieve":
        return f"<data_root>/{SENTIMENT_COLLECTION}/archives/{SENTIMENT_COLLECTION}.{name}"
    return f"<results>/abslrp/sentiment/{name}" if source == "train" else os.path.join(source, name)


def refuse_absent_sentiment():
    """A user's own files, named before anything runs."""
    source = config["abslrp"]["sentiment"]["weights"]
    absent = [name for name in SENTIMENT_FILES.values() if not os.path.isfile(os.path.join(source, name))]
    if source not in ("train", "retrieve") and absent:
        sys.exit(
            f"error: config: `abslrp.sentiment.weights`: no file {os.path.join(source, absent[0])}; name a folder with "
            f"{', '.join(SENTIMENT_FILES.values())} of a DistilBERT, or write train or retrieve"
        )


refuse_absent_sentiment()
COMPUTED_TABLES["abslrp"] = ["abslrp_toy", "abslrp_sentiment"]
