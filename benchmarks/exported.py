"""The network in torch, in onnxruntime, and with weights of 8 bits: log posteriors, phones, error rates, speed.

python benchmarks/exported.py --data /path/to/LibriSpeech
python benchmarks/exported.py --corpus speechocean762 --data /path/to/speechocean762 --model runs/en_us_phones/blstm_ctc

Utterances of a corpus's test set, one after the other, with the model's own beam; onnxruntime runs what
`asr export --onnx` writes. Its log posteriors are held against torch's for the same weights, float16 as exported.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from _bench import describe

from asr.core.terminal import track
from asr.data import splits
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.models import model_folder
from asr.speech import audio
from asr.speech.features import FeatureExtractor
from data_prep import prepare


def main() -> None:
    """Print a row for each way to run the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones")
    parser.add_argument("--corpus", default="mini_librispeech", help="whose test set (default mini_librispeech)")
    parser.add_argument("--data", type=Path, help="where it lies, unless it is prepared already")
    parser.add_argument("--manifests", type=Path, default=Path("data"))
    parser.add_argument("--count", type=int, default=500, help="utterances, at equal steps (default 500)")
    arguments = parser.parse_args()
    if arguments.data is None and not splits.has_split(arguments.manifests, arguments.corpus, "test"):
        print(f"left out: it needs {arguments.corpus} and --data")
        return
    print(describe("torch", "onnxruntime"))
    prepare(arguments.corpus, arguments.data, arguments.manifests)
    cuts = list(splits.load_split(arguments.manifests, [arguments.corpus], "test"))
    cuts = cuts[:: max(1, len(cuts) // arguments.count)]
    with tempfile.TemporaryDirectory() as name:
        for kind, int8 in (("float32", False), ("int8", True)):
            model_folder.export(arguments.model, Path(name) / kind, graphs=[model_folder.GRAPH], int8=int8)
        models = {
            "torch": model_folder.load(Path(name) / "float32"),
            "onnxruntime": model_folder.load(Path(name) / "float32", light=True),
            "onnxruntime, int8": model_folder.load(Path(name) / "int8", light=True),
        }
        sizes = {kind: (Path(name) / kind / "model.onnx").stat().st_size / 1e6 for kind in ("float32", "int8")}
    model = models["torch"]
    extractor, beam = FeatureExtractor(model.config.features), model.config.decode.beam_size
    errors = dict.fromkeys(models, ErrorCounts(0, 0, 0, 0))
    seconds, worst, same = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0.0), dict.fromkeys(models, 0)
    for cut in track(cuts, "recognising"):
        features = model.normaliser(extractor(audio.load(cut.recording.sources[0].source)))
        truth, found = splits.reference(cut, "arpabet39"), {}
        for name, each in models.items():
            start = time.perf_counter()
            (emissions,) = each.emissions([features])
            seconds[name] += time.perf_counter() - start
            (hypothesis,) = each.decode([emissions], beam)
            found[name] = emissions, hypothesis.tokens
            errors[name] += count_errors(truth, [model.tokens[token] for token in hypothesis.tokens])
            worst[name] = max(worst[name], float(np.abs(emissions - found["torch"][0]).max()))
            same[name] += hypothesis.tokens == found["torch"][1]
    duration = sum(cut.duration for cut in cuts)
    print(
        f"{arguments.corpus} test: {len(cuts)} utterances; graphs of {sizes['float32']:.1f} and {sizes['int8']:.1f} MB"
    )
    for name in models:
        print(
            f"{name:20} PER {100 * errors[name].rate:.2f} %   phones as torch's in {same[name]} of {len(cuts)}   "
            f"log posteriors off by {worst[name]:.1e} at most   network {duration / seconds[name]:.0f} x real time"
        )


if __name__ == "__main__":
    main()
