"""Options before and behind the verb: version, help, how much is said; completion."""

import re

import numpy as np
import pytest
import soundfile

import asr
from asr.core import terminal


@pytest.fixture
def tone(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16000) / 5), 16000)
    return tmp_path / "a.wav"


def test_the_version(cli):
    assert cli("--version") == (0, f"asr {asr.__version__}\n", "")


@pytest.mark.parametrize("verb", [[], ["transcribe"], ["lm"], ["lm", "score"]])
def test_short_help_is_help(cli, verb):
    assert cli(*verb, "-h") == cli(*verb, "--help")
    assert "Usage:" in cli(*verb, "-h")[1]


@pytest.mark.parametrize("form", ["text", "json"])
def test_results_go_to_one_place(cli, tone, tmp_path, form):
    other = tmp_path / "b.wav"
    other.write_bytes(tone.read_bytes())
    code, printed, err = cli("transcribe", tone, other, "--format", form)
    assert (code, err) == (0, "")
    code, out, _ = cli("transcribe", tone, other, "--format", form, "--output-dir", tmp_path / "out")
    assert (code, out) == (0, "")
    written = [each.read_text(encoding="utf8") for each in sorted((tmp_path / "out").iterdir())]
    heads = [f"{tone}: ", f"{other}: "] if form == "text" else ["", ""]
    assert "".join(head + text for head, text in zip(heads, written, strict=True)) == printed != ""


@pytest.mark.parametrize("place", ["before", "behind"])
def test_quiet_keeps_faults_and_hides_progress(cli, tone, tmp_path, monkeypatch, place):
    monkeypatch.setattr(terminal, "INTERVAL", 0.0)  # a line of progress at each step

    def run(*option):
        words = ["transcribe", tone, tmp_path / "none.wav", "--output-dir", tmp_path / "out"]
        return cli(*option, *words) if place == "before" else cli(*words, *option)

    code, _, err = run()
    assert code == 1
    assert "transcribing" in err
    code, _, err = run("-q")
    assert code == 1
    assert [line[:5] for line in err.splitlines()] == ["asr: ", "asr: "]
    assert "none.wav: no such file" in err


@pytest.mark.parametrize("verb", [["transcribe"], ["score", "x"]])
def test_verbose_says_where_a_fault_was_found(cli, tmp_path, verb):
    (tmp_path / "a.wav").write_text("no sound")
    code, out, short = cli(*verb, tmp_path / "a.wav")
    assert (code, out, short.count("\n")) == (2, "", 1)
    code, out, long = cli(*verb, tmp_path / "a.wav", "-v")
    assert (code, out) == (2, "")
    assert short in long
    assert "Traceback" in long


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "mp4"], "asr: --format must be one of text, json, ctm, textgrid, srt, vtt, tsv, audacity, but"),
        (["--nbest", "3"], "asr: --nbest must be 1, or come with --format json, but it is 3\n"),
        (["--nbest", "9", "--beam-size", "2", "--format", "json"], "asr: --nbest must lie in 1..beam_size"),
        (["--words", "--lm", "nowhere"], "asr: no language model at nowhere: give a run or model folder of"),
    ],
)  # fmt: skip
def test_a_fault_of_an_option_names_the_option(cli, tone, options, message):
    code, out, err = cli("transcribe", tone, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message)


def test_only_few_options_go_with_a_stream(cli, tone):
    for options in (["--ipa"], ["--format", "json"], ["--output-dir", "x"], ["--penalty", "1"]):
        code, out, err = cli("transcribe", tone, "--stream", *options)
        assert (code, out) == (2, "")
        assert "only --model, --channel and --mic go with it" in err
    assert cli("transcribe", tone, "--stream", "-q")[0] == 0
    _, _, err = cli("transcribe", tone, "--stream", "--model", "en-us-phones")
    assert "has to hear a recording's end" in err


def test_completion_of_the_shell(python):
    code = "import sys; sys.argv[0] = 'asr'; from asr.cli.app import main; main()"
    found = python(code, _ASR_COMPLETE="complete_bash", COMP_WORDS="asr trans", COMP_CWORD="1")
    assert found.stdout.split() == ["transcribe"]
    found = python(code, _ASR_COMPLETE="complete_bash", COMP_WORDS="asr align --g", COMP_CWORD="2")
    assert set(found.stdout.split()) == {"--g2p", "--gop"}


def test_the_readers_of_a_help_see_both_ways_to_complete(cli):
    _, out, _ = cli("-h")
    assert re.search(r"--install-completion\b", out)
    assert re.search(r"--show-completion\b", out)
