"""The utterances of prepared corpora, and batches of them for training and scoring."""
