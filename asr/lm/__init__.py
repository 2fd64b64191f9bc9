"""Language models: the probability of a sequence of phones, characters or words, and of the next token.

    text ─ text.Numbering ─▶ Text ─ estimation.estimate_from ─▶ NGram        (ngram.py; ARPA files in and out: arpa.py)
                                  └ asr.training.lm ──────────▶ RecurrentLM  (recurrent_lm.py)
    either ─ score, perplexity (language_model.py); generation.continuation; folder.load, folder.save
           └ search.build: fused into CTC's beam (fusion.py), or a search for words (word_search.py) on a graph of the
             lexicon, of hints and of unknown words (lexicon.py, hints.py, word_graph.py)
    lexicon ─ graphone_training.train ─▶ Graphones, an n-gram that pronounces and spells (graphones.py)

Token 0 of every model is the edge of a sentence: as a context its start, as a prediction its end. The theory is in
docs/theory/language-models.md.
"""
