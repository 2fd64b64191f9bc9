"""Hidden Markov models with Gaussian mixtures: the classic recogniser, as a baseline for CTC."""
