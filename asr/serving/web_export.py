"""A static page that recognises speech in the browser: `asr export --web`.

    index.html ─ recording, 16 kHz ─▶ worker.js ─ model.onnx in onnxruntime-web ─▶ ctc.js ─▶ times.js ─▶ phones
                                                       ngram.safetensors ─▶ ngram.js ─┘

Features and network are one graph, so that the same samples have the same log posteriors as in Python. What decodes
them is written anew in JavaScript; `benchmarks/web.py` holds it against Python.
"""

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from asr.core.errors import ConfigError
from asr.core.files import digest, write_tensors, write_text
from asr.ctc.automaton import Automaton
from asr.lm import fusion
from asr.lm.ngram import NGram
from asr.lm.search import language_model
from asr.models import model_folder, times
from asr.models.ctc import CTCModel
from asr.recognition.recogniser import MOSTLY, SURE
from asr.serving import web_runtime
from asr.speech import phones
from asr.speech.features import FRAME_SHIFT

NGRAM = "ngram.safetensors"  # of CTC-CRF
LANGUAGE_MODEL = "lm.safetensors"  # of the search
LEAST_DIFFERENCE = 1e-6  # nats, more than rounding makes
OFFLINE = "offline.js"  # keeps the files in the browser
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'"
)
CHANGES = {  # of the first page of `asr serve`
    ' data-words="true"': "",
    '<meta charset="utf-8">': f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
    "</head>": '<link rel="stylesheet" href="page/browser.css">\n</head>',
    "Speech in phones and words": "Speech in phones",
    "Your recordings go to this server, and are not kept there.": "Your recordings do not leave this browser.",
}


def export(name: str | Path, folder: Path, int8: bool = False, runtime: Path | None = None) -> int:
    """Write the page, and return the bytes of its folder.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model's name.
    folder
        The folder to write.
    int8
        Whether the weights have 8 bits, and not 16.
    runtime
        A folder that has onnxruntime-web; None fetches it.

    Raises
    ------
    AsrError
        There is no such model, its decoding is more than a browser does, or onnxruntime-web is not to be had.
    """
    from asr.models.onnx import OnnxModel, write_graph

    source = model_folder.find(name)
    model = model_folder.load(source, light=True)
    if not isinstance(model, OnnxModel):
        raise ConfigError(f"{name} has no ONNX graph: only systems of `blstm` with CTC have one")
    if model.config.decode.label_prior_scale != 0:
        raise ConfigError(
            f"{name} is decoded with priors, which the page has not: en-us-phones and en-us-phones-small are not"
        )
    files = web_runtime.located(runtime)
    write_graph(folder / "model" / "model.onnx", model, from_waveform=True, storage="int8" if int8 else "float16")
    ngrams, own = {}, model.config.decode.lm
    lm = model.lm if own is None else language_model(own, model.tokens)
    if model.lm is not None:
        ngrams[NGRAM] = automaton_arrays(model.denominator.automaton)
    if lm is not None:
        if not isinstance(lm, NGram) or lm.unit == "words":
            raise ConfigError(f"{name} is decoded with {own}, which is no n-gram over its labels")
        ngrams[LANGUAGE_MODEL] = ngram_arrays(lm, model.tokens)
    for file, arrays in ngrams.items():
        write_tensors(folder / "model" / file, arrays)
    web_runtime.copy(files, folder / "runtime")
    described = _description(model_folder.name_of(source), model) | {"ngrams": [*ngrams]}
    texts = {"model/model.json": json.dumps(described, ensure_ascii=False, indent=1) + "\n", **_page()}
    if (source / "README.md").is_file():
        texts["model/README.md"] = (source / "README.md").read_text(encoding="utf8")
    for path, text in texts.items():
        write_text(folder / path, text)
    _write_offline(folder, [*texts, "model/model.onnx", *(f"model/{file}" for file in ngrams)])
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _description(name: str, model: CTCModel) -> dict[str, Any]:
    """Return what the page has to know of a model beside its graph."""
    calibration, labels, decode = model.calibration, model.config.data.labels, model.config.decode
    is_sure = max(calibration.posteriors, default=0.0) >= MOSTLY
    return {
        "name": name,
        "labels": model.tokens,
        "symbols": {label: phones.ipa(label, labels) for label in model.tokens[1:]},
        "silences": [label for label in model.tokens if label in times.silences()],
        "subsampling": round(model.frame_shift / FRAME_SHIFT),
        "frame_shift": model.frame_shift,
        "beam_size": decode.beam_size,
        "lm_weight": decode.lm_weight,
        "insertion_penalty": decode.insertion_penalty,
        "least_sure": SURE if is_sure else 0.0,
        "boundary_offset": calibration.boundary_offset,
        "calibration": {"posteriors": calibration.posteriors, "probabilities": calibration.probabilities},
    }


def ngram_arrays(lm: NGram, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Return an n-gram over labels as arrays for the search of ngram.js.

    State 0 is the start. Of each state there are the labels that it does not leave to its backoff, with their log
    probabilities and the states that they lead to.
    """
    columns = fusion.classes(lm, labels)[1:]
    contexts, log_probs, after = fusion.tables(lm, columns)
    order = np.concatenate([[0], 1 + np.argsort(contexts[1:])])  # shorter contexts have lower numbers
    contexts, log_probs, after = contexts[order], log_probs[order], after[order]
    places = fusion.places(contexts)
    shorter, weights = lm.back_off(contexts)
    shorter = places[shorter]
    scores, targets = log_probs[:, columns], places[after[:, columns]]
    guess = scores[shorter] + weights[:, None]
    told = (np.abs(scores - guess) > LEAST_DIFFERENCE) | (targets != targets[shorter])
    told[shorter == np.arange(len(contexts))] = True  # the empty context
    return {
        "offsets": np.concatenate([[0], np.cumsum(told.sum(axis=1))]).astype(np.uint32),
        "labels": (1 + np.nonzero(told)[1]).astype(np.uint8),
        "targets": targets[told].astype(np.uint32),
        "log_probs": scores[told].astype(np.float32),
        "shorter": shorter.astype(np.uint32),
        "backoffs": weights.astype(np.float32),
        "finals": log_probs[:, 0].astype(np.float32),
    }


def automaton_arrays(automaton: Automaton) -> dict[str, np.ndarray]:
    """Return the automaton of CTC-CRF's n-gram as arrays for ngram.js: whole numbers as uint32, weights as float64."""
    arcs, links = automaton.leaving, automaton.links
    numbers = {
        "class_offsets": automaton.offsets,
        "arc_offsets": arcs.offsets,
        "arc_targets": arcs.others,
        "link_offsets": links.offsets,
        "link_sources": links.sources,
        "link_targets": links.targets,
    }
    weights = {"finals": automaton.finals, "arc_weights": arcs.weights, "link_weights": links.weights}
    return {name: each.astype(np.uint32) for name, each in numbers.items()} | weights


def _page() -> dict[str, str]:
    """Return the files of the page: those of `asr serve`, of which this folder's replace some."""
    own, served = (_texts(resources.files("asr.serving") / name) for name in ("web", "page"))
    first = served.pop("index.html")
    for before, after in CHANGES.items():
        first = first.replace(before, after)
    offline = own.pop(OFFLINE)
    return {"index.html": first, OFFLINE: offline} | {f"page/{name}": text for name, text in (served | own).items()}


def _texts(folder: Traversable) -> dict[str, str]:
    return {each.name: each.read_text("utf8") for each in folder.iterdir() if each.is_file()}


def _write_offline(folder: Path, names: Iterable[str]) -> None:
    """Name the page's files, and a hash of them, in the script that keeps them."""
    names = sorted({*names, *(f"runtime/{name}" for name in web_runtime.FILES)} - {OFFLINE})
    version = "asr-" + digest((folder / name).read_bytes() for name in names)
    head = f"const VERSION = {json.dumps(version)};\nconst FILES = {json.dumps(['./', *names])};\n"
    script = folder / OFFLINE
    write_text(script, head + script.read_text(encoding="utf8"))
