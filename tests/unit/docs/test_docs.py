"""What the documents and --help tell a reader to type exists: commands, options, targets, files, settings, links.

The reference pages have every command, setting and public name. Sessions in the documents compute what they show; the
lines of code, numbers and figures of the theory are what the code says. `make docs` checks links to anchors and names.
"""

import ast
import doctest
import importlib
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import naive
import numpy as np
import pytest
import torch
import typer

import asr
import asr.ctc
from asr import encoders
from asr.cli.app import app
from asr.core import config as configuration
from asr.core.errors import ConfigError
from asr.ctc import crf_loss, ctc_posteriors
from asr.hmm.inference import forward_backward, viterbi
from asr.lm import config as lm_configuration
from asr.lm import fusion
from asr.recognition.recogniser import Recogniser
from asr.speech.segments import Segment
from asr.training.gmm import GMMConfig

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("recipes/*/README.md"), *ROOT.glob("docs/**/*.md")])
BY_NAME = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf8")
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
ASR = typer.main.get_command(app)
VERBS = ASR.commands
COMMANDS = {name: verb for name, verb in VERBS.items() if not hasattr(verb, "commands")} | {
    f"{group} {name}": verb for group, verbs in VERBS.items() for name, verb in getattr(verbs, "commands", {}).items()
}
HELP = {verb: command.help for verb, command in COMMANDS.items()}


def code(document):
    """Lines of fenced and indented blocks, and spans between backticks."""
    text = document.read_text(encoding="utf8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^(?: {4}|\t)(.*)$", text, re.MULTILINE)
    return [line for block in fenced for line in block.splitlines()] + indented + re.findall(r"`([^`\n]+)`", text)


def names_of(option):
    """The names of an option, those that switch it off too."""
    return [*option.opts, *option.secondary_opts]


def python_blocks(document):
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf8"), re.MULTILINE | re.DOTALL)


def typed(lines):
    """The words of each `asr` and `make` command among some lines, comments apart, without those that have gaps."""
    for line in lines:
        found = re.fullmatch(r"(?:\$ )?(?:\S*/)?((?:asr|make) [^#]*?)(?:\s+#.*)?", line.strip())
        if found and not re.search(r"…|\.\.\.|<\w+>|\|", found[1]):
            yield shlex.split(found[1])


def yaml_files(document):
    """The YAML files that a document has its reader write, by the name in their first line."""
    blocks = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", document.read_text(encoding="utf8"), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def commands():
    for document in DOCUMENTS:
        written = yaml_files(document).keys()
        for words in typed(code(document)):
            if written & set(words):  # there is no such file before the reader has written it
                continue
            yield pytest.param(words, id=f"{document.relative_to(ROOT)}: {' '.join(words)}")
    for verb, text in HELP.items():
        for words in typed(text.splitlines()):
            yield pytest.param(words, id=f"asr {verb} --help: {' '.join(words)}")


def check_settings(recipe, settings):
    assert (ROOT / recipe).is_file(), recipe
    configuration.load(ROOT / recipe, settings)


def check_make(words):
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    for word in words:
        assert "=" in word or word in TARGETS, f"no target {word}"
    for name in variables:
        assert f"$({name})" in MAKEFILE or f"$(if $({name})" in MAKEFILE, f"no variable {name}"
    recipe = f"recipes/{variables.get('RECIPE', 'mini')}/{variables.get('SYSTEM', 'blstm_ctc')}.yaml"
    check_settings(recipe, variables.get("ARGS", "").split())


def check_asr(words):
    verb, *words = words
    if verb.startswith("-"):
        assert verb in {"--help", *(name for option in ASR.params for name in option.opts)}
        return
    if verb in VERBS and verb not in COMMANDS:
        verb, words = (f"{verb} {words[0]}", words[1:]) if words else (verb, words)
    if verb in VERBS and not words:  # a mention of it
        return
    assert verb in COMMANDS, f"no verb {verb}"
    options = [name for option in COMMANDS[verb].params for name in names_of(option) if name.startswith("-")]
    values, settings = [], []
    while words:
        word = words.pop(0)
        if word.startswith("-") and word != "-":  # which is standard input
            assert word in (*options, "--help", "-h"), f"asr {verb} has no option {word}"
            words = words[1:]
        elif re.fullmatch(r"[\w.]+=.*", word):
            settings.append(word)
        else:
            values.append(word)
    if verb in ("prepare", "train") and values:  # a verb alone is a mention of it
        check_settings(values[0], settings)
    elif verb == "lm train" and values:
        lm_configuration.load(ROOT / values[0], settings)
    elif settings:
        check_settings("recipes/mini/blstm_ctc.yaml", settings)


@pytest.mark.parametrize("words", list(commands()))
def test_what_is_to_be_typed_exists(words):
    program, *arguments = words
    if program == "make":
        check_make(arguments)
    else:
        check_asr(arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [pytest.param(*item, id=item[0]) for document in DOCUMENTS for item in yaml_files(document).items()],
)
def test_a_yaml_that_the_reader_is_to_write_can_be_loaded(name, text, tmp_path):
    (tmp_path / Path(name).name).write_text(text)
    configuration.load(tmp_path / Path(name).name)


def test_the_readme_shows_the_ways_in():
    shown = [words[:2] for words in typed(code(ROOT / "README.md"))]
    for command in (["make", "train"], ["make", "test"], ["make", "transcribe"], ["asr", "transcribe"]):
        assert command in shown


@pytest.mark.parametrize(
    ("words", "checker"),
    [
        (["trane"], check_make),
        (["train", "RECIPE=none"], check_make),
        (["train", "CORPUS=/x"], check_make),
        (["train", "ARGS=train.epochs=3"], check_make),
        (["trane", "recipes/mini/blstm_ctc.yaml"], check_asr),
        (["train", "recipes/mini/none.yaml"], check_asr),
        (["transcribe", "a.wav", "--formt", "json"], check_asr),
        (["evaluate", "runs/mini/blstm_ctc", "decode.width=3"], check_asr),
        (["lm", "trane", "recipes/mini/lm/phone_trigram.yaml"], check_asr),
        (["lm", "train", "recipes/mini/lm/phone_trigram.yaml", "model.width=3"], check_asr),
        (["lm", "score", "a", "b", "--eech"], check_asr),
        (["--vershun"], check_asr),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(words, checker):
    with pytest.raises((AssertionError, ConfigError)):
        checker(words)


@pytest.mark.parametrize("document", BY_NAME)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf8")):
        assert "://" in link or (document.parent / link).exists(), link


@pytest.mark.parametrize("document", BY_NAME)
def test_files_that_a_document_names_exist(document):
    if document.match("docs/guides/add-*.md"):  # its reader writes them
        pytest.skip("names files to be written")
    for line in code(document):
        for name in re.findall(r"(?<![\w./<-])(?:asr|benchmarks|data_prep|docs|recipes|tests)/[\w./*-]*[\w*]", line):
            assert any(ROOT.glob(name)) or re.search(r"/(?!README)[A-Z]{2,}\b", name), f"{name} in: {line}"


@pytest.mark.parametrize("document", BY_NAME)
def test_a_document_names_functions_and_not_lines(document):
    assert not re.findall(r"\.py(?::\d+|#L\d+)|\blines? \d+ of `", document.read_text(encoding="utf8"))


@pytest.mark.parametrize("document", BY_NAME)
def test_options_that_a_document_mentions_exist(document):
    scripts = [*ROOT.glob("benchmarks/*.py"), ROOT / "tests" / "hostile.py"]
    known = set(re.findall(r'"(--[\w-]+)"', "".join(path.read_text(encoding="utf8") for path in scripts)))
    known |= {name for command in (ASR, *COMMANDS.values()) for each in command.params for name in names_of(each)}
    assert set(re.findall(r"`(--\w[\w-]*)[^`\n]*`", document.read_text(encoding="utf8"))) <= known | {"--help"}


@pytest.mark.parametrize("document", BY_NAME)
def test_settings_that_a_document_mentions_exist(document):
    sections = "data|features|conditions|spec_augment|train|decode|model|text"
    mentioned = re.findall(rf"`((?:{sections})\.[a-z_]+)(?:=[^`\n]*)?`", document.read_text(encoding="utf8"))
    others = {"model.name", "model.safetensors", "model.onnx", "train.log", "train.tsv", "train.csv", "features.py"}
    assert {*mentioned} - others <= run_settings() | model_settings() | lm_settings()


def dotted(values, prefix=""):
    """The dotted names of nested values; corpora are values, and what `model` holds depends on its name."""
    for name, value in values.items():
        if isinstance(value, dict) and name not in ("corpora", "model"):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@cache
def run_settings():
    return set(dotted(configuration.to_dict(configuration.from_dict({"data": {"corpora": {"mini": None}}}))))


@cache
def model_settings():
    families = [importlib.import_module(f"asr.encoders.{name}").EncoderConfig for name in encoders.FAMILIES]
    return {f"model.{field.name}" for cls in (*families, GMMConfig) for field in fields(cls)}


@cache
def lm_settings():
    found = {f"model.{field.name}" for cls in lm_configuration.MODELS.values() for field in fields(cls)}
    values = {"text": {"text": "a.txt"}, "model": {"name": "recurrent"}}
    return found | set(dotted(lm_configuration.to_dict(lm_configuration.from_dict(values))))


@pytest.fixture(scope="module")
def hooks():
    """What fills in the reference pages when the site is built."""
    pytest.importorskip("mkdocs", reason='the site\'s tools are not installed: pip install -e ".[docs]"')
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = sys.modules["hooks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hooks"]


def test_the_examples_of_the_hooks_hold(hooks):
    found = doctest.testmod(hooks)
    assert found.attempted > 3
    assert not found.failed


def test_the_reference_has_every_command_and_option(hooks):
    assert "<!-- commands -->" in (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf8")
    sections = dict(re.findall(r"^## asr ?(.*)\n((?:(?!## ).*\n?)*)", hooks.commands_page(), re.MULTILINE))
    assert sections.keys() == {"", *VERBS, *COMMANDS}
    for verb, command in {"": ASR, **COMMANDS}.items():
        shown = re.sub(r"\s", "", sections[verb])
        for words in (*command.help.split("\n\n"), *(each.help for each in command.params)):
            assert re.sub(r"\s", "", words) in shown
        rows = re.findall(r"^\| `([^`]*)` \| .* \| (.*) \|$", sections[verb], re.MULTILINE)
        cells = {re.sub(r"<.*>|[.,/]", "", names).lower(): default for names, default in rows}
        defaults = {name: default for names, default in cells.items() for name in names.split()}
        names = {
            each: names_of(each) if each.opts[0].startswith("-") else [each.metavar or each.name]
            for each in command.params
        }
        assert defaults.keys() - {"-h", "--help"} == {name.lower() for each in names.values() for name in each}
        for parameter, (name, *_) in names.items():
            if type(parameter.default) in (str, int, float) and parameter.default:
                assert str(parameter.default) in defaults[name.lower()]


def test_the_reference_has_every_setting_and_no_other(hooks):
    assert "<!-- configuration -->" in (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf8")
    page = hooks.configuration_page()
    rows = re.findall(r"^\| `([\w.]+)` \| ([\w ]+) \| `?(.*?)`? \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == page.count("| `") - page.count(" | `")  # each line of a table has been read
    assert {name for name, *_ in rows} == run_settings() | model_settings() | lm_settings()


def test_the_reference_says_what_each_setting_means(hooks):
    silent = [f"{heading}: {key.name}" for heading, keys in hooks.settings().items() for key in keys if not key.meaning]
    assert not silent


def test_the_reference_has_every_public_name_and_each_exists():
    pages = "".join(path.read_text(encoding="utf8") for path in ROOT.glob("docs/reference/api/*.md"))
    named = re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE)
    assert len(named) == len(set(named))
    public = {f"{module.__name__}.{name}" for module in (asr, asr.ctc) for name in module.__all__}
    assert set(named) >= public
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("document", BY_NAME)
def test_pythons_imports_in_a_document_exist(document):
    for block in python_blocks(document):
        for node in [] if block.startswith(">>>") else ast.walk(ast.parse(block)):  # the former are run, below
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("asr", "data_prep"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_readmes_python_names_what_there_is():
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf8"), re.M | re.S)
    compile(block, "README.md", "exec")
    assert set(re.findall(r"phone\.(\w+)", block)) == {field.name for field in fields(Segment)}
    assert all(hasattr(Recogniser, name) for name in re.findall(r"\b(from_pretrained|transcribe)\(", block))


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_the_help_of_each_verb_teaches_by_an_example(cli, verb):
    code, out, _ = cli(*verb.split(), "--help")
    assert code == 0
    assert re.search(rf"asr {verb} [\w*-]", out)
    assert "\\b" not in out
    shown = re.sub(r"[│\s]", "", out)  # however it is broken into lines
    for parameter in (each for each in COMMANDS[verb].params if each.name != "help"):
        assert re.sub(r"\s", "", parameter.help) in shown
        if isinstance(default := getattr(parameter, "show_default", None), str):
            assert re.sub(r"\s", "", f"({default})") in shown


def test_help_lists_the_verbs_in_the_order_of_their_use(cli):
    code, out, _ = cli("--help")
    assert code == 0
    verbs = ("prepare", "train", "evaluate", "compare", "score", "align", "transcribe")
    places = [re.search(rf"^\W*{verb}\b", out, re.MULTILINE) for verb in verbs]
    assert all(places)
    assert [place.start() for place in places] == sorted(place.start() for place in places)


@pytest.fixture
def make():
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    inherited = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS|[A-Z]+$", name)}
    environment = inherited | {"PATH": os.environ["PATH"]}

    def run(*words):
        command = ["make", *words]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_make_alone_lists_every_target(make):
    text = make()
    assert text == make("help")
    for target in TARGETS:
        assert re.search(rf"^  {target}\s+\w", text, re.MULTILINE), target


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train"], "asr train recipes/mini/blstm_ctc.yaml"),
        (["train", "RECIPE=timit", "TIMIT=/x"], "asr train recipes/timit/blstm_ctc.yaml --data /x"),
        (["train", "RECIPE=timit", "TIMIT=/x"], "asr evaluate runs/timit/blstm_ctc --data /x"),
        (["train", "RECIPE=speechocean762", "DATA=/x"], "asr train recipes/speechocean762/blstm_ctc.yaml --data /x"),
        (["train", "ARGS=seed=2"], "asr train recipes/mini/blstm_ctc.yaml  seed=2"),
        (["evaluate", "RECIPE=timit"], "asr evaluate runs/timit/blstm_ctc"),
        (["transcribe", "AUDIO=a.wav b.flac"], "asr transcribe a.wav b.flac --model en-us-phones"),
        (
            ["transcribe", "AUDIO=a.wav", "MODEL=runs/mini/blstm_ctc"],
            "asr transcribe a.wav --model runs/mini/blstm_ctc",
        ),
    ],
)
def test_make_says_what_it_would_run(make, words, expected):
    lines = [" ".join(line.split()) for line in make("--dry-run", "--always-make", *words).splitlines()]
    assert any(" ".join(expected.split()) in line for line in lines), lines


CTC, CRITERIA, HMM = (ROOT / "docs" / "theory" / f"{name}.md" for name in ("ctc", "criteria", "hmm"))
# of the modules that a document quotes
FOLDERS = {CTC: ("asr/ctc", "tests"), CRITERIA: ("asr/ctc",), HMM: ("asr/hmm", "asr/models", "tests")}
ROW = re.compile(r"^\| ([^|]+) \| `(\w+)\.([\w.]+)` \| `([^`|]+)` \|$", re.MULTILINE)
QUOTES = {document: ROW.findall(document.read_text(encoding="utf8")) for document in FOLDERS}


def lines_of(folders, module, function):
    """The lines of a function or method of a module of the folders, without indentation and comments behind."""
    path = next(path for path in (ROOT / folder / f"{module}.py" for folder in folders) if path.is_file())
    text = path.read_text(encoding="utf8")
    found = ast.parse(text)
    for name in function.split("."):
        (found,) = (node for node in found.body if getattr(node, "name", None) == name)
    return [line.split("  #")[0].strip() for line in text.splitlines()[found.lineno - 1 : found.end_lineno]]


@pytest.mark.parametrize(
    ("folders", "module", "function", "line"),
    [pytest.param(FOLDERS[document], *quote, id=name) for document in QUOTES for name, *quote in QUOTES[document]],
)
def test_a_line_that_stands_beside_an_equation_is_in_the_code(folders, module, function, line):
    assert lines_of(folders, module, function).count(line) == 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (CTC, set(range(2, 17)) - {13}),  # 13 only says that 12 is differentiated
        (HMM, {19, 20, 21, 24, 25, 27, 32, 33, 34, 35, 37, 40, 49, 52, 53, 54, 91, 92, 103, 109, 110}),
    ],
)
def test_each_equation_of_the_paper_has_its_line(document, expected):
    rows = re.findall(r"^\| .*`\w+\.[\w.]+` \| `.*\|$", document.read_text(encoding="utf8"), re.MULTILINE)
    assert len(rows) == len(QUOTES[document])
    named = set()
    for equation, *_ in QUOTES[document]:
        for first, last in re.findall(r"\b(\d+)(?:–(\d+))?", equation.split(",")[0]):
            named.update(range(int(first), int(last or first) + 1))
    assert named >= expected


@pytest.mark.parametrize("document", BY_NAME)
def test_the_examples_compute_what_they_show(document):
    blocks = [block for block in python_blocks(document) if block.startswith(">>>")]
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, document.name, str(document), 0)
    assert len(examples.examples) > 10 * (document in FOLDERS) - 1
    report = []
    assert not doctest.DocTestRunner().run(examples, out=report.append).failed, "".join(report)


@pytest.fixture(scope="module")
def lattice():
    return runpy.run_path(str(ROOT / "docs" / "figures" / "ctc_lattice.py"))


def spelled_states(path, target):
    """The state of each frame of a path that spells a target: 2s + 1 on label s, else 2 × the labels behind."""
    labels = [naive.collapse(path[: t + 1]) for t in range(len(path))]
    return [2 * len(behind) - (c != 0) for behind, c in zip(labels, path, strict=True)]


@pytest.mark.parametrize("outputs", ["made up", "equal"])
def test_the_lattice_shows_what_enumeration_finds(lattice, outputs):
    target, log_probs = tuple(lattice["TARGET"]), lattice["made_up_log_probs"]()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-12)
    if outputs == "equal":
        log_probs = np.full(log_probs.shape, -np.log(4))
    num_frames, num_classes = log_probs.shape
    counts, probs = np.zeros((2, num_frames, 2 * len(target) + 1))
    best, frames = (-np.inf, None), np.arange(num_frames)
    for path in itertools.product(range(num_classes), repeat=num_frames):
        if naive.collapse(path) == target:
            states, score = spelled_states(path, target), log_probs[frames, path].sum()
            counts[frames, states] += 1
            probs[frames, states] += np.exp(score)
            best = max(best, (score, states))
    assert counts[0].sum() == 495
    np.testing.assert_array_equal(lattice["path_counts"](), counts)
    score, posteriors = lattice["state_posteriors"](log_probs)
    np.testing.assert_allclose(score, np.log(probs[0].sum()), rtol=1e-12)
    np.testing.assert_allclose(posteriors, probs / probs[0].sum(), rtol=0, atol=1e-12)
    by_class = ctc_posteriors(log_probs[:, None], np.array([target]))[:, 0]
    np.testing.assert_allclose(posteriors[:, ::2].sum(axis=1), by_class[:, 0], rtol=0, atol=1e-12)
    if outputs == "equal":
        np.testing.assert_allclose(posteriors * 495, counts, rtol=0, atol=1e-9)
    else:
        assert lattice["forced_states"](log_probs).tolist() == best[1]
        assert [lattice["CLASSES"][target[s // 2]] if s % 2 else "-" for s in best[1]] == list(lattice["SAID"])


def test_the_lattice_is_drawn(lattice, tmp_path):
    path = tmp_path / "lattice.png"
    lattice["draw"](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 20_000 < path.stat().st_size < 150_000


@pytest.fixture(scope="module")
def criteria_lattice():
    return runpy.run_path(str(ROOT / "docs" / "figures" / "criteria_lattice.py"))


def test_the_lattices_of_the_criteria_are_those_of_the_loss(criteria_lattice):
    """Its gradient is the difference of their posteriors, and the loss that of the logarithms of their sums."""
    log_probs = criteria_lattice["made_up_log_probs"]()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-12)
    numerator, right = criteria_lattice["place_posteriors"](log_probs, True)
    whole, every = criteria_lattice["place_posteriors"](log_probs, False)
    leaf = torch.from_numpy(log_probs).requires_grad_()
    weights = fusion.denominator(criteria_lattice["bigram"](), ["<blank>", "a", "b"])
    loss = crf_loss(leaf, torch.tensor([1, 2]), [6], [2], weights, reduction="sum")
    loss.backward()
    np.testing.assert_allclose(loss.item(), np.log(whole) - np.log(numerator), rtol=1e-12)
    classes = np.eye(3)[[0, 1, 0, 2, 0]]
    np.testing.assert_allclose(leaf.grad, (every - right) @ classes, rtol=0, atol=1e-12)


def test_the_lattices_of_the_criteria_are_drawn(criteria_lattice, tmp_path):
    path = tmp_path / "lattice.png"
    criteria_lattice["draw"](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 20_000 < path.stat().st_size < 150_000


@pytest.fixture(scope="module")
def trellis():
    return runpy.run_path(str(ROOT / "docs" / "figures" / "hmm_trellis.py"))


def test_the_trellis_of_the_hmm_shows_what_enumeration_finds(trellis):
    scores, graph = trellis["hmm"]()
    num_frames, frames = len(scores), np.arange(len(scores))
    weighted = {}  # a path through six states in a row is told by the frames where the last five begin
    for begins in itertools.combinations(range(1, num_frames), 5):
        path = tuple(np.searchsorted(begins, frames, side="right").tolist())
        weighted[path] = np.exp(scores[frames, path].sum())
    expected = np.zeros((num_frames, 6))
    for path, weight in weighted.items():
        expected[frames, path] += weight / sum(weighted.values())
    np.testing.assert_allclose(forward_backward(scores, graph).states, expected, rtol=0, atol=1e-12)
    assert tuple(viterbi(scores, graph)[1]) == max(weighted, key=weighted.get)


def test_the_trellis_of_ctc_is_ctcs(trellis):
    log_probs, graph = trellis["ctc"]()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-12)
    found = forward_backward(log_probs, graph)
    by_class = ctc_posteriors(log_probs[:, None], np.array([[1, 2]]))[:, 0]
    np.testing.assert_allclose(found.states @ np.eye(3)[graph.pdfs], by_class, rtol=0, atol=1e-12)
    states = viterbi(log_probs, graph)[1]
    assert ["-ab"[symbol] for symbol in graph.pdfs[states]] == list(trellis["SPIKES"])


def test_the_trellis_is_drawn(trellis, tmp_path):
    path = tmp_path / "trellis.png"
    trellis["draw"](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 20_000 < path.stat().st_size < 150_000
