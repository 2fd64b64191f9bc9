"""From a configuration and a corpus to a run folder: networks, Gaussian mixtures, language models."""
