"""`asr pronounce` as a user types it, with the shipped model."""

import json

import pytest

from asr.models.pronunciation import SENTENCE_SCALES


@pytest.fixture(scope="module")
def recordings(say, tmp_path_factory):
    """Two recordings with their texts, the second text another's, and one that is no audio."""
    folder = tmp_path_factory.mktemp("speech")
    for name, text in (("a", "I think that the sun is hot"), ("b", "Mother has eaten a gun")):
        say("I think that the sun is hot", folder / f"{name}.wav")
        (folder / f"{name}.txt").write_text(text)
    (folder / "c.wav").write_text("no audio")
    (folder / "c.txt").write_text("hello")
    return folder


def test_words_phones_and_scores_are_lines(cli, recordings):
    code, out, err = cli("pronounce", recordings / "a.wav")
    assert (code, err) == (0, "")
    scores, words, *_ = out.splitlines()
    assert [each.split()[0] for each in scores.split(", ")] == [*SENTENCE_SCALES]
    assert words.startswith("I [AY] think [TH")
    assert "\x1b" not in out


def test_a_folder_is_scored_and_its_bad_file_reported(cli, recordings, tmp_path):
    code, out, err = cli("pronounce", recordings, "--format", "json", "--page", tmp_path / "page.html")
    assert code == 1
    assert "c.wav: " in err
    assert "b.wav: the text does not fit the recording" in err
    right, wrong = map(json.loads, out.splitlines())
    grades = [phone["grade"] for word in wrong["words"] for phone in word["phones"]]
    spans = [(each["phone"], len(each["expected"].split())) for each in wrong["mistakes"] if each["expected"]]
    named = {phone + i for phone, count in spans for i in range(count)}
    assert {i for i, grade in enumerate(grades) if grade == "wrong"} == named != set()
    assert [word["grade"] for word in right["words"]].count("good") > 3
    assert right["path"].endswith("a.wav")
    assert right["scores"]["total"] > 6
    assert (right["misfit"], wrong["scores"]) == (None, None)
    assert wrong["misfit"] in err
    page = (tmp_path / "page.html").read_text(encoding="utf8")
    assert page.count("<section>") == 2
    assert page.count('<audio class="learner"') == 2
    assert "reference" not in page[page.index("<body>") : page.index("<script>")]


def test_results_go_to_a_folder(cli, recordings, tmp_path):
    code, out, _ = cli("pronounce", recordings / "a.wav", recordings / "b.wav", "--output-dir", tmp_path)
    assert (code, out) == (0, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    code, out, _ = cli("pronounce", recordings / "a.wav", recordings / "b.wav")
    assert out == "".join(f"{name}: {(tmp_path / f'{name}.txt').read_text(encoding='utf8')}" for name in "ab")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", " "], "the text is empty"),
        (["--format", "ctm"], "--format must be one of text, json"),
        (["--reference", "r.wav"], "--reference must come with --page"),
        (["--model", "nowhere"], "no model folder at nowhere"),
    ],
)
def test_wrong_options_are_one_line(cli, recordings, options, message):
    code, out, err = cli("pronounce", recordings / "a.wav", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_one_text_is_for_one_recording(cli, recordings):
    code, _, err = cli("pronounce", recordings / "a.wav", recordings / "b.wav", "--text", "hello")
    assert code == 2
    assert "one text for 2 recordings" in err


def test_a_model_without_a_scorer_says_how_to_get_one(cli, recordings, tmp_path):
    cli("export", "en-us-phones", tmp_path / "model")
    code, out, _ = cli("pronounce", recordings / "a.wav", "--model", tmp_path / "model")
    assert (code, out != "") == (0, True)  # the copy has it, too
    for file in (tmp_path / "model").glob("pronunciation.*"):
        file.unlink()
    code, out, err = cli("pronounce", recordings / "a.wav", "--model", tmp_path / "model")
    assert (code, out) == (2, "")
    assert "train one with asr train-scorer" in err
