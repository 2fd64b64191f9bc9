"""Labels of one's own from the corpus to the recording: a file of phones, all phones there are, and letters."""

import json
import shutil

import pytest

from asr.core import config as configuration
from asr.data import labels, splits
from asr.speech import espeak, ipa, phones
from asr.speech.label_files import read_labels
from asr.training.inputs import prepare_corpora
from tests import own_speech
from tests.speech_forms import sound

SETTINGS = """
features: {num_mel_bins: 20, delta_order: 0}
model: {name: blstm, num_layers: 1, hidden_size: 16, stack: 3}
train: {max_epochs: 2, learning_rate: 0.01}
decode: {beam_size: 2}
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory, cli):
    """Train two epochs on a corpus, and keep nothing but the model folder."""

    def run(name, data, *settings, with_phones=False):
        folder = tmp_path_factory.mktemp(name)
        corpus = own_speech.corpus(folder / "de", with_phones)
        recipe = folder / f"{name}.yaml"
        recipe.write_text(
            f"data: {{corpora: {{de: {corpus}}}, manifests: {folder / 'data'}, max_frames: 800, num_buckets: 2, "
            f"{data.format(folder)}}}\n{SETTINGS}"
        )
        own_speech.lexicon(folder / "lexicon.tsv", without=("katzen",))
        own_speech.labels(folder / "labels.tsv")
        code, _, err = cli("train", recipe, *settings, "--run", folder / "run")
        assert code == 0, err
        code, out, err = cli("evaluate", folder / "run", f"data.manifests={folder / 'data'}")
        assert code == 0, err
        shutil.move(folder / "run" / "model", folder / "moved")
        scores = json.loads((folder / "run" / "metrics.json").read_text())["results"][-1]
        evaluation = json.loads((folder / "run" / "evaluation-de-test.json").read_text())
        for path in (folder / "lexicon.tsv", folder / "labels.tsv"):
            path.unlink()
        for path in (folder / "run", folder / "data"):
            shutil.rmtree(path)
        return folder / "moved", corpus / "dirk-0.wav", out + err, scores, evaluation

    return run


@pytest.fixture(scope="module")
def of_file(train):
    return train("file", "labels: {0}/labels.tsv", with_phones=True)


@pytest.fixture(scope="module")
def of_lexicon(train):
    return train("auto", "labels: auto, lexicon: {0}/lexicon.tsv")


@pytest.fixture(scope="module")
def of_letters(train):
    return train("letters", "units: phones", "data.labels=auto", "data.units=characters")


def test_labels_of_a_file_and_what_they_count_as(of_file):
    model, _, _, scores, evaluation = of_file
    tokens = (model / "tokens.txt").read_text(encoding="utf8").split("\n")
    assert {"S", "A:_F", "p͡f", "@"} <= set(tokens)
    assert "ʃ" not in tokens
    assert scores["scoring"] == "scoring.tsv"
    assert "A" in evaluation["confusions"]["labels"]
    assert "A:_F" not in evaluation["confusions"]["labels"]
    assert evaluation["pfer"] > 0
    assert {"plosive", "affricate", "vowel", "diphthong"} <= {row["group"] for row in evaluation["classes"]["manner"]}
    assert str(model.parent) not in (model / "config.yaml").read_text().replace(str(model.parent / "data"), "")


def test_the_model_folder_alone_writes_ipa_in_every_format(of_file, cli, tmp_path):
    model, audio, *_ = of_file
    (tmp_path / "none.txt").write_text("")
    for form in ("ctm", "textgrid", "json", "tsv", "audacity"):
        code, _, err = cli(
            "transcribe", audio, "--model", model, "--ipa", "--format", form, "--output-dir", tmp_path / form
        )
        assert code == 0, err
        (path,) = (tmp_path / form).iterdir()
        (found,) = read_labels(path).values()
        assert found
        assert set(found) <= {phone for text in own_speech.TEXTS for phone in own_speech.phones(text)}


def test_known_phones_are_aligned_by_their_labels(of_file, cli):
    model, audio, *_ = of_file
    code, out, err = cli("align", audio, "--phones", "S øː n @", "--model", model, "--format", "json")
    assert code == 0, err
    assert [phone["label"] for phone in json.loads(out)["phones"]] == ["S", "øː", "n", "@"]


def test_auto_has_the_lexicons_phones_and_g2p_the_rest(of_lexicon):
    model, _, _, scores, _ = of_lexicon
    tokens = (model / "tokens.txt").read_text(encoding="utf8").split("\n")[1:-1]
    said = {phone for word in own_speech.words() for phone in own_speech.phones(word)}
    assert set(tokens) <= said
    assert {"p͡f", "ɑː˥˩", "t͡s"} <= set(tokens)
    assert scores["num_utterances"] == len(own_speech.TEXTS)  # Katzen was guessed


def test_words_are_aligned_by_the_models_own_lexicon(of_lexicon, cli):
    model, audio, *_ = of_lexicon
    code, out, err = cli("align", audio, "--text", own_speech.TEXTS[0], "--model", model, "--format", "json")
    assert code in (0, 1), err
    found = json.loads(out)
    assert [word["label"] for word in found["words"]] == own_speech.TEXTS[0].split()
    pronounced = [phone for word in own_speech.TEXTS[0].split() for phone in own_speech.phones(word.lower())]
    assert [phone["label"] for phone in found["phones"]] == pronounced
    code, _, err = cli("align", audio, "--text", "Schöne Katzen", "--model", model, "--no-g2p")
    assert code == 2
    assert "the word 'Katzen' has no pronunciation" in err
    code, _, err = cli("align", audio, "--text", "Schöne Katzen", "--model", model)
    assert "guessed: Katzen" in err


def test_letters_have_a_character_and_a_word_error_rate(of_letters, cli):
    model, audio, out, scores, evaluation = of_letters
    assert scores["unit"] == evaluation["unit"] == "characters"
    assert "CER" in out
    assert "WER" in out
    assert "PER" not in out
    assert scores["words"]["num_words"] == sum(len(text.split()) for text in own_speech.TEXTS) + 1  # Tschüss-Ruf
    assert {"ö", "ü", "▁"} <= set((model / "tokens.txt").read_text(encoding="utf8").split("\n"))
    card = (model / "README.md").read_text()
    assert "character error rate" in card
    assert "Character recogniser" in card
    code, out, err = cli("transcribe", audio, "--model", model, "--format", "json")
    assert code == 0, err
    found = json.loads(out)
    letters = "".join(each["label"] for each in found["phones"]).replace("▁", " ").split()
    assert [word["label"] for word in found["words"]] == letters
    code, out, _ = cli("transcribe", audio, "--model", model)
    assert out.split() == letters
    code, _, err = cli("transcribe", audio, "--model", model, "--ipa")
    assert code == 2
    assert "--ipa must be left out: the model writes letters" in err
    code, _, err = cli("transcribe", audio, "--model", model, "--words")
    assert (code, err) == (2, f"asr: {model} writes letters, and so words: leave out --words\n")
    code, out, err = cli("align", audio, "--text", "Schöne Töchter", "--model", model, "--format", "json")
    assert [word["label"] for word in json.loads(out)["words"]] == ["schöne", "töchter"]


# --- what cannot be


@pytest.fixture
def prepare(tmp_path, cli):
    own_speech.corpus(tmp_path / "de")

    def run(data, verb="prepare"):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"data: {{corpora: {{de: {tmp_path / 'de'}}}, manifests: {tmp_path / 'data'}, {data}}}{SETTINGS}"
        )
        return cli(verb, recipe, *(["--run", tmp_path / "run"] if verb == "train" else []))

    return run


def test_words_without_a_lexicon_are_named(prepare):
    code, _, err = prepare("labels: auto")
    assert code == 2
    assert "the word 'Schöne' has no pronunciation: add it to the lexicon (data.lexicon)" in err


def test_labels_that_a_file_lacks_are_named(prepare, tmp_path):
    (tmp_path / "few.txt").write_text("a\nt\n")
    own_speech.lexicon(tmp_path / "lexicon.tsv")
    code, _, err = prepare(f"labels: {tmp_path / 'few.txt'}, lexicon: {tmp_path / 'lexicon.tsv'}", "train")
    assert code == 2
    assert "few.txt lacks labels of de: 'aɪ', 'aʊ', 'b'" in err


def test_labels_that_count_as_others_are_told(prepare, tmp_path):
    """Affricates were parted, and length and tone lost, without a word."""
    own_speech.corpus(tmp_path / "de", with_phones=True)
    plain = {sign for text in own_speech.TEXTS for phone in own_speech.phones(text) for sign in ipa.normal(phone)}
    (tmp_path / "few.txt").write_text("".join(f"{sign}\n" for sign in sorted(plain - {*ipa.TONES, "ː"})), "utf8")
    code, _, err = prepare(f"labels: {tmp_path / 'few.txt'}", "train")
    assert code == 0, err
    assert "few.txt lacks phones of de, which count as others: " in err
    for told in ("ɑː˥˩ as ɑ", "t͡s as t s", "iː as i"):
        assert told in err
    own_speech.labels(tmp_path / "labels.tsv")
    _, _, err = prepare(f"labels: {tmp_path / 'labels.tsv'}", "train")
    assert "count as others" not in err


def test_a_phone_that_two_corpora_write_otherwise_is_one_label(tmp_path, caplog):
    corpora = {}
    for name, said in (("one", "t͡ʃ a t s ."), ("two", "tʃ a ts"), ("three", "ts t͡s ʧ")):
        rows = [f"{sound(tmp_path / name / f'{name}{i}.wav').name}\t{name}{i}\t{said}\n" for i in range(3)]
        (tmp_path / name / "utterances.tsv").write_text("path\tspeaker\tphones\n" + "".join(rows), "utf8")
        corpora[name] = str(tmp_path / name)
    data = {"corpora": corpora, "manifests": str(tmp_path / "data"), "labels": "auto"}
    config = configuration.from_dict({"data": data})
    prepare_corpora(config.data)
    settled = labels.settle(config, tmp_path / "labels").data
    assert {*phones.PhoneSet.load(settled.labels).labels} == {"t͡ʃ", "a", "t", "s", ".", "ts", "t͡s"}  # three has both
    (cut, *_) = splits.load_split(settled.manifests, ["two"], "dev")
    assert splits.reference(cut, settled.labels) == ["t͡ʃ", "a", "ts"]
    assert "labels that may be no phones: .: if they are none, write blanks between phones" in caplog.text


def test_espeak_respells_in_the_lexicons_phones_and_names_what_is_none(prepare, tmp_path):
    path = own_speech.lexicon(tmp_path / "lexicon.tsv", without=("kuchen", "mäuse"))
    code, _, err = prepare(f"labels: auto, lexicon: {path}, g2p: espeak:de")
    assert code == 0
    assert "1 of 21 words are guessed: Kuchen" in err
    assert "the guess of 'Mäuse' has 'z', which is no phone of the lexicon" in err
    code, _, err = prepare(f"labels: auto, lexicon: {path}, g2p: espeak:xx")
    assert code == 2
    assert "espeak-ng has no voice 'xx': write af, am" in err
    code, _, err = prepare(f"labels: auto, lexicon: {path}, g2p: espeak:fo")
    assert code == 2
    assert "espeak-ng has a voice and no rules for that language: name data.lexicon" in err


def test_a_check_of_letters_or_of_another_lexicon_says_nothing_of_cmudict(tmp_path, cli):
    corpus = own_speech.corpus(tmp_path / "de")
    lexicon = own_speech.lexicon(tmp_path / "lexicon.tsv", without=("katzen",))
    for settings in (["--characters"], ["--lexicon", lexicon]):
        code, out, err = cli("data", "check", corpus, *settings, "--output", tmp_path / "check")
        assert code == 0, err
        assert "words without a pronunciation: none" in out
        assert "CMUdict" not in out


def test_a_check_of_phones_of_another_language_says_how(tmp_path, cli):
    rows = [f"{sound(tmp_path / f'{name}.wav').name}\t{name}\tq aˤ tˤ\n" for name in "abc"]
    (tmp_path / "utterances.tsv").write_text("path\tspeaker\tphones\n" + "".join(rows), encoding="utf8")
    code, _, err = cli("data", "check", tmp_path)
    assert code == 2
    assert (
        "for phones of other languages take data.labels=auto in a recipe, and --lexicon none in asr data check" in err
    )
    code, out, err = cli("data", "check", tmp_path, "--lexicon", "none", "--output", tmp_path / "check")
    assert (code, "left out: 0 utterances" in out) == (0, True), err


def test_settings_that_do_not_fit_are_named(prepare, tmp_path):
    for data, fault in {
        "units: characters": "data.labels must be auto or a file of characters",
        "labels: auto, g2p: lexicon": "data.g2p=lexicon has nothing to learn from",
        "labels: auto, g2p: german": "data.g2p is 'german': write lexicon, none, or espeak:",
        f"labels: auto, lexicon: {tmp_path / 'no.tsv'}": "cannot read the lexicon",
        "labels: auto, units: letters": "data.units must be one of phones, characters",
    }.items():
        code, _, err = prepare(data)
        assert code == 2
        assert fault in err
        assert len(err.strip().splitlines()) == 1, err


def test_the_same_recordings_with_other_labels_are_prepared_anew(prepare, tmp_path):
    assert prepare("labels: auto, units: characters")[0] == 0
    assert "ö" in (tmp_path / "data" / "de" / "phones.tsv").read_text(encoding="utf8")
    assert prepare("labels: auto, g2p: espeak:de")[0] == 0
    said = {phone for text in own_speech.TEXTS for phone in espeak.ipa(text, "de")}
    listed = (tmp_path / "data" / "de" / "phones.tsv").read_text(encoding="utf8").split("\n")[1:-1]
    assert len({line.split("\t")[0] for line in listed} & said) > 25
    prepare("labels: arpabet39")
    assert not (tmp_path / "data" / "de" / "phones.tsv").exists()


def test_english_of_the_library_and_another_language_have_one_set_of_labels(mini_tree, tmp_path):
    corpora = {"mini": str(mini_tree), "de": str(own_speech.corpus(tmp_path / "de", with_phones=True))}
    data = {"corpora": corpora, "manifests": str(tmp_path / "data"), "labels": "auto"}
    config = configuration.from_dict({"data": data})
    prepare_corpora(config.data)
    settled = labels.settle(config, tmp_path / "labels").data
    known = phones.PhoneSet.load(settled.labels).labels
    assert known.count("t͡ʃ") == 1
    assert "tʃ" not in known  # mini's ch in IPA
    assert {"ɑː˥˩", "æ", "ð", "p͡f"} <= {*known}
    for corpus, said in (("mini", "timit61"), ("de", str(tmp_path / "data" / "de" / "phones.tsv"))):
        (cut, *_) = splits.load_split(settled.manifests, [corpus], "dev")
        assert cut.phone_set == said
        its = splits.reference(cut, settled.labels)
        assert {*its} <= {*known}
        assert len(its) == len(cut.supervisions[0].custom["phones"].split())
    letters = configuration.from_dict({"data": data | {"units": "characters", "corpora": {"mini": str(mini_tree)}}})
    spelt = labels.settle(letters, tmp_path / "letters").data
    (cut, *_) = splits.load_split(spelt.manifests, ["mini"], "dev")
    assert "".join(splits.reference(cut, spelt.labels)).replace("▁", " ") == " ".join(splits.words(cut))
