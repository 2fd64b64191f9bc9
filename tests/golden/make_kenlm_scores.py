"""Make kenlm.arpa, a trigram of random sentences, and kenlm.tsv: sentences with KenLM's scores of them (log10).

pip install ".[bench]" && python tests/golden/make_kenlm_scores.py
"""

from pathlib import Path

import numpy as np

from asr.lm import arpa
from asr.lm.estimation import estimate
from asr.lm.language_model import UNKNOWN


def main() -> None:
    import kenlm  # of the bench extra

    draws = np.random.default_rng(1)
    sentences = [list("abcdefgh"[i] for i in draws.zipf(1.6, 9) % 8) for _ in range(30)]
    folder = Path(__file__).parent
    arpa.write(estimate(sentences, "words", 3, tokens=[UNKNOWN, *"abcdefgh"]), folder / "kenlm.arpa")
    model = kenlm.Model(str(folder / "kenlm.arpa"))
    lines = [" ".join(each) for each in [*sentences[:10], *draws.choice(list("abcdefghz"), (30, 6)), []]]
    (folder / "kenlm.tsv").write_text("".join(f"{line}\t{model.score(line):.6f}\n" for line in lines))


if __name__ == "__main__":
    main()
