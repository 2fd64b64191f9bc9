"""Utterances of prepared corpora as batches for training and scoring."""
