"""CMU ARCTIC becomes manifests; corpora that share speakers are kept apart."""

import numpy as np
import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSet

from asr.core.errors import CorpusError
from asr.data import splits
from data_prep import cmu_arctic, own, prepare


def sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)


def arctic(folder, speaker="slt", lines=('( arctic_a0001 "Author, of the danger--trail." )',)):
    etc = folder / f"cmu_us_{speaker}_arctic" / "etc"
    etc.mkdir(parents=True)
    (etc / "txt.done.data").write_text("\n".join(lines) + "\n")
    sound(etc.parent / "wav" / "arctic_a0001.wav")


def test_cmu_arctic(tmp_path):
    arctic(tmp_path / "deep" / "er", "slt")
    arctic(tmp_path / "deep", "bdl")
    cmu_arctic.prepare(tmp_path, tmp_path / "out")
    found = {each.id: each for each in SupervisionSet.from_file(tmp_path / "out" / "supervisions_train.jsonl.gz")}
    assert set(found) == {"slt-arctic_a0001", "bdl-arctic_a0001"}
    one = found["slt-arctic_a0001"]
    assert (one.speaker, one.gender, one.text) == ("slt", "f", "Author of the danger trail")
    assert one.custom["phones"] == "AO TH ER AH V DH AH D EY N JH ER T R EY L"
    assert one.custom["word_lengths"] == [3, 2, 2, 5, 4]
    assert not (tmp_path / "out" / "recordings_test.jsonl.gz").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [('arctic_a0001 "Author"', 'line 1: .* is not \\( NAME "TEXT" \\)'), ('( a "42" )', "line 1: the word '42'")],
)
def test_malformed_cmu_arctic(line, message, tmp_path):
    arctic(tmp_path, lines=[line])
    with pytest.raises(CorpusError, match=message):
        cmu_arctic.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(CorpusError, match="has no cmu_us_SPEAKER_arctic"):
        cmu_arctic.prepare(tmp_path / "out", tmp_path / "more")


HEADER = "path\tspeaker\tsplit\tgender\twords\tphones\n"


def write_table(folder, *rows, header=HEADER):
    folder.mkdir(exist_ok=True)
    (folder / "utterances.tsv").write_text(header + "".join(f"{row}\n" for row in rows))
    for row in rows:
        sound(folder / row.split("\t")[0])
    return folder


def test_corpora_that_share_speakers_and_utterances(tmp_path):
    rows = ("a.wav\tann\ttrain\tf\thello\t", "b.wav\tbob\tdev\tm\thello\t", "c.wav\tcid\ttest\tm\thello\t")
    prepare("table", write_table(tmp_path / "one", *rows), tmp_path / "data")
    others = ("a.wav\tann\ttrain\tf\thello\t", "d.wav\tbob\ttrain\tm\thello\t", "e.wav\tcid\tdev\tm\thello\t")
    write_table(tmp_path / "two", *others, "f.wav\tdan\ttrain\tm\thello\t")
    own.prepare(tmp_path / "two", tmp_path / "data" / "librispeech")  # as if it were that
    write_table(tmp_path / "namesakes", "g.wav\tcid\ttrain\tm\thello\t", "h.wav\teve\tdev\tf\thello\t")
    own.prepare(tmp_path / "namesakes", tmp_path / "data" / "mini")
    arctic(tmp_path / "three", "slt")
    prepare("cmu_arctic", tmp_path / "three", tmp_path / "data")

    def found(split):
        cuts = splits.load_split(tmp_path / "data", ["table", "librispeech", "mini", "cmu_arctic"], split)
        return [(cut.id, cut.corpus) for cut in cuts]

    others = [("f", "librispeech"), ("g", "mini"), ("slt-arctic_a0001", "cmu_arctic")]
    assert found("train") == [("a", "table"), *others]
    assert found("dev") == [("b", "table"), ("h", "mini")]
    assert found("test") == [("c", "table")]
    with pytest.raises(CorpusError, match="cmu_arctic: no dev utterances"):
        splits.load_split(tmp_path / "data", ["cmu_arctic"], "dev")
    alone = splits.load_split(tmp_path / "data", ["librispeech"], "train")
    assert [cut.id for cut in alone] == ["a", "d", "f"]
    assert len(RecordingSet.from_file(tmp_path / "data" / "librispeech" / "recordings_train.jsonl.gz")) == 3
