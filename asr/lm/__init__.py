"""Language models: how likely a sequence of phones, characters or words is, and what comes next.

    text ─ text.read ─▶ sentences ─ estimation.estimate ─▶ NGram        (ngram.py; ARPA files in and out: arpa.py)
                                  └ training.train ──────▶ RecurrentLM  (recurrent.py)
    either ─ score, perplexity; generation.continuation; folder.load, folder.save
           └ decoding.build: fused into CTC's beam (fusion.py), or over words (lexicon.py, words.py)

Token 0 of every model is the edge of a sentence: as a context its start, as a prediction its end. The theory is in
docs/theory/language-models.md.
"""
