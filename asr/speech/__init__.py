"""Sound and symbols: audio, features, phone sets, label files and pronunciations."""
