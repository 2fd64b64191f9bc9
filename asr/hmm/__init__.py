"""Hidden Markov models with Gaussian mixtures: the classic recogniser that CTC is compared with."""
