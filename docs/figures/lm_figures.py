"""Draw the figures of language-models.md: perplexity over the order, teacher forcing, sizes, and what fusion weighs.

python docs/figures/lm_figures.py
"""

import csv
import itertools
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from asr import ctc
from asr.lm import config as configuration
from asr.lm.estimation import estimate
from asr.lm.folder import load
from asr.lm.language_model import perplexity
from asr.training.lm import train
from data_prep.mini import sentences

HERE = Path(__file__).parent
TITLE = {"fontsize": 10}


def draw_perplexity(path: Path) -> None:
    """Draw the perplexity of characters, in training and held out, over the order of the n-gram."""
    text = [list(line) for line in itertools.islice(sentences(np.random.default_rng(1)), 1200)]
    orders, given, held_out = range(1, 9), text[:1000], text[1000:]
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for smoothing, colour in (("kneser_ney", "C0"), ("witten_bell", "C3")):
        models = [
            estimate(given, "characters", order, smoothing, sorted({*"".join(map("".join, text))})) for order in orders
        ]
        axes.plot(orders, [perplexity(lm.score(held_out)) for lm in models], "o-", color=colour, label=smoothing)
        axes.plot(orders, [perplexity(lm.score(given)) for lm in models], "o:", color=colour, alpha=0.6)
    axes.set(xlabel="order", ylabel="perplexity of a character", yscale="log")
    axes.set_title("sentences of the mini corpus: solid held out, dotted in training", **TITLE)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_teacher_forcing(path: Path) -> None:
    """Draw what an LSTM expects after each letter of “hello”, before it has learnt it and after."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "hello.txt").write_text("hello\n")
        for axes, epochs in zip(panels, (1, 60), strict=True):
            values = {
                "text": {"text": f"{name}/hello.txt", "unit": "characters"},
                "model": {"name": "recurrent", "embedding_size": 16, "hidden_size": 32, "dropout": 0.0},
                "train": {"max_epochs": epochs, "learning_rate": 0.02},
            }
            lm = load(train(configuration.from_dict(values), Path(name) / str(epochs)))
            states, columns = lm.start(), []
            for token in [*lm.indices("hello"), 0]:
                columns.append(np.exp(lm.log_probs(states)[0]))
                states = lm.advance(states, np.array([token]))
            axes.imshow(np.array(columns).T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for t, token in enumerate([*lm.indices("hello"), 0]):
                axes.add_patch(plt.Rectangle((t - 0.5, token - 0.5), 1, 1, fill=False, edgecolor="C3", linewidth=2))
            axes.set_xticks(range(6), ["start", *"hello"])
            axes.set_yticks(range(len(lm.tokens)), ["end", *lm.tokens[1:]])
            axes.set_xlabel("the letter that is given")
            axes.set_title(f"after {epochs} epoch{'s' * (epochs > 1)}", **TITLE)
    panels[0].set_ylabel("the letter that is expected")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_fusion(path: Path) -> None:
    """Draw the scores of a few labellings over the weight of the language model: the best one changes."""
    labels = ["", "K", "AE", "T", "D", "G"]
    rows = np.full((5, 6), 0.01)
    for t, says in enumerate(({1: 0.45, 5: 0.5}, {0: 0.9}, {2: 0.95}, {0: 0.9}, {3: 0.3, 4: 0.4, 0: 0.25})):
        for c, value in says.items():
            rows[t, c] = value
    log_probs = np.log(rows / rows.sum(axis=1, keepdims=True))
    text = [line.split() for line in ["K AE T"] * 6 + ["K AE D", "G AE T", "G AE D", "D AE D"]]
    lm = estimate(text, "phones", 2, "witten_bell", labels[1:])
    weights = np.linspace(0, 0.6, 50)
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    totals = []
    for each in ctc.beam_search(log_probs[:, None], nbest=5)[0]:
        phones = [labels[token] for token in each.tokens]
        totals.append(each.score + weights * lm.score([phones])[0].sum())
        axes.plot(weights, totals[-1], label=" ".join(phones))
    axes.plot(weights, np.max(totals, axis=0), color="black", linewidth=3, alpha=0.3, label="the best")
    axes.set(xlabel="weight of the language model", ylabel="ln p(phones | audio) + weight · ln p(phones)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sizes(table: Path, path: Path) -> None:
    """Draw perplexity and words wrong over the size of a model, from the table that benchmarks/lm_size.py writes."""
    with table.open(encoding="utf8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    series = [
        ("own", "32", "oC7:"),
        ("history", "32", "oC7-"),
        ("history", "8", "oC0-"),
        ("history", "6", "oC2-"),
        ("history", "4", "oC3-"),
    ]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, column, label in zip(panels, ("perplexity", "wer"), ("perplexity", "words wrong, %"), strict=True):
        for contexts, bits, style in series:
            some = [row for row in rows if (row["contexts"], row["bits"]) == (contexts, bits)]
            name = ("float32" if bits == "32" else f"{bits} bits") + ", without --history" * (contexts == "own")
            axes.plot(*([float(row[key]) for row in some] for key in ("megabytes", column)), style, label=name)
        axes.set(xlabel="size of the folder, MB", ylabel=label, xscale="log")
        axes.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw_perplexity(HERE / "lm_perplexity.png")
    draw_teacher_forcing(HERE / "lm_teacher_forcing.png")
    draw_fusion(HERE / "lm_fusion.png")
    draw_sizes(HERE / "lm_size.tsv", HERE / "lm_size.png")
