"""Sound and symbols: audio, features, phone sets, label files, pronunciations."""
