"""Configurations: defaults, YAML, overrides, and every fault named by its key."""

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from asr import encoders
from asr.cli.train import run_folder
from asr.core import config as configuration
from asr.core.config import DataConfig, FeatureConfig, TrainConfig, from_dict, load
from asr.core.errors import ConfigError
from asr.core.settings import model_options
from asr.models.kinds import Kind, kind_of
from asr.speech import phones
from asr.speech.features import FeatureExtractor
from asr.training.gmm import GMMConfig
from data_prep import CORPORA

ROOT = Path(__file__).parents[3]
TABLES = {"children", "en", "de", "nl", "cs", "cmn", "es", "fr", "it", "ru"}  # which scripts write, as READMEs say
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("recipes/*/*.yaml"))


@pytest.fixture
def recipe(tmp_path):
    def write(text="data: {corpora: {mini: null}}\n"):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_there_are_recipes_for_each_corpus():
    assert {"mini", "timit", "mini_librispeech", "speechocean762"} <= {Path(path).parent.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES)
def test_every_recipe_loads_and_its_model_builds(path):
    config = load(ROOT / path)
    assert set(config.data.corpora) <= {*CORPORA, *TABLES}
    labels = phones.PhoneSet.load(config.data.labels).labels
    if not phones.is_own(config.data.labels):  # of one's own labels the file says what is scored
        assert phones.fold([labels[0]], config.data.labels, config.data.scoring)
    for corpus in CORPORA.keys() & config.data.corpora.keys():
        assert phones.fold([], CORPORA[corpus].phone_set, config.data.labels) == []
    if config.train.alignments is not None:  # by the name of a recipe beside it
        before = load((ROOT / path).with_name(f"{config.train.alignments}.yaml"))
        for name in ("corpora", "manifests", "labels", "scoring"):
            assert getattr(before.data, name) == getattr(config.data, name)
    num_features = FeatureExtractor(config.features).num_features
    if kind_of(config) is Kind.GMM_HMM:
        options = model_options(config.model, GMMConfig)
        assert bool(options.num_pdfs) == (config.train.alignments is not None)
        assert num_features == 39
        return
    network = encoders.build(config.model, num_features, len(labels) + 1)
    assert sum(weights.numel() for weights in network.parameters()) > 10_000


def test_the_timit_recipe_is_the_network_of_graves_2013():
    config = load(ROOT / "recipes/timit/blstm_ctc.yaml")
    assert FeatureExtractor(config.features).num_features == 123
    assert (config.model["num_layers"], config.model["hidden_size"]) == (3, 250)
    assert config.train.weight_noise == 0.075
    assert config.decode.beam_size == 100
    assert (config.data.labels, config.data.scoring) == ("timit61", "timit39")


def test_yaml_round_trip_keeps_every_value(tmp_path):
    config = from_dict(
        {
            "seed": 7,
            "data": {"corpora": {"mini": None, "timit": "/speech/TIMIT"}, "speeds": [0.9, 1.1], "max_duration": 3},
            "features": {"kind": "mfcc", "num_ceps": 12, "use_energy": False, "delta_order": 1, "cmvn": "speaker"},
            "spec_augment": {"num_freq_masks": 2, "max_time_share": 0.25},
            "model": {"name": "blstm", "stack": 3, "dropout": 0.1},
            "train": {"learning_rate": 1e-5, "precision": "bf16-mixed", "patience": 4},
            "decode": {"beam_size": 12, "nbest": 3},
        }
    )
    path = tmp_path / "config.yaml"
    path.write_text(configuration.to_yaml(config), encoding="utf8")
    assert load(path) == config
    assert config.data.max_duration == 3.0
    assert config.train.learning_rate == 1e-5
    assert list(config.data.speeds) == [0.9, 1.1]


def test_yaml_holds_every_key(recipe):
    """A key that to_yaml left out would come back as its default, unnoticed."""
    text = configuration.to_yaml(load(recipe()))
    for section in (DataConfig, FeatureConfig, TrainConfig):
        assert all(re.search(rf"^  {field.name}:", text, re.MULTILINE) for field in fields(section))


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(recipe):
    path = recipe("data: {corpora: {mini: null}, max_frames: 500}\nmodel: {name: blstm, stack: 2}\n")
    config = load(path, ["data.max_frames=600", "model.hidden_size=8", "train.learning_rate=1e-4", "seed=3"])
    assert (config.data.max_frames, config.seed, config.train.learning_rate) == (600, 3, 1e-4)
    assert config.model == {"name": "blstm", "stack": 2, "hidden_size": 8}
    assert load(path).data.max_frames == 500
    assert load(path).data.num_buckets == DataConfig(corpora={"mini": None}).num_buckets
    assert list(load(path, ["data.speeds=[0.9,1.1]"]).data.speeds) == [0.9, 1.1]
    assert load(path, ["data.corpora.timit=/a=b c"]).data.corpora == {"mini": None, "timit": "/a=b c"}


def test_a_configuration_is_frozen(recipe):
    config = load(recipe())
    with pytest.raises(FrozenInstanceError):
        config.seed = 2
    with pytest.raises(FrozenInstanceError):
        config.train.max_epochs = 2


def test_seeds_are_several_and_different():
    corpora = {"data": {"corpora": {"mini": None}}}
    assert from_dict(corpora).seeds == ()
    assert from_dict(corpora | {"seeds": [3, 1]}).seeds == (3, 1)
    for wrong in ([1], [1, 1], [1, -2]):
        with pytest.raises(ConfigError, match="seeds must be a list of two or more different integers from 0"):
            from_dict(corpora | {"seeds": wrong})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.max_frames=0", "data.max_frames must be positive, but it is 0"),
        ("data.num_buckets=0", "data.num_buckets must be positive"),
        ("data.max_duration=-1", "data.max_duration must be positive"),
        ("data.speeds=[]", "data.speeds must be factors in 0.5..2"),
        ("data.speeds=[1.0,3.0]", "data.speeds must be factors in 0.5..2"),
        ("features.kind=plp", "features.kind must be one of fbank, mfcc, but it is 'plp'"),
        ("features.cmvn=all", "features.cmvn must be one of global, speaker, utterance, speech, running, none"),
        ("features.num_mel_bins=3", "features.num_mel_bins must lie in 4..128"),
        ("features={kind: mfcc, num_ceps: 41}", "features.num_ceps must lie in 1..num_mel_bins"),
        ("features.delta_order=3", "features.delta_order must be 0, 1 or 2"),
        ("spec_augment.num_time_masks=-1", "spec_augment.num_time_masks must be 0 or more"),
        ("spec_augment.max_time_share=1.5", "spec_augment.max_time_share must lie in 0..1"),
        ("train.max_epochs=0", "train.max_epochs must be positive"),
        ("train.learning_rate=0", "train.learning_rate must be positive"),
        ("train.patience=-1", "train.patience must be 0 or more"),
        ("train.weight_noise=-0.1", "train.weight_noise must be 0 or more"),
        ("train.warmup=1", "train.warmup must lie in 0..1"),
        ("train.average=1", "train.average must lie in 0..1"),
        ("train.layer_decay=0", "train.layer_decay must lie above 0 and up to 1"),
        ("train.freeze=-1", "train.freeze must be 0 or more"),
        ("train.precision=8", "train.precision must be one of 32-true, bf16-mixed"),
        ("train.accelerator=abacus", "train.accelerator must be one of auto, cpu, gpu"),
        ("decode.beam_size=0", "decode.beam_size must be 1 or more"),
        ("decode.nbest=17", "decode.nbest must lie in 1..beam_size"),
        ("seed=-1", "seed must be an integer from 0"),
    ],
)
def test_a_value_out_of_range_is_named(recipe, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(recipe(), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_epochs=many", "train.max_epochs must be of type int, but it is 'many'"),
        ("train.max_epochs=1.5", "train.max_epochs must be of type int, but it is 1.5"),
        ("train.max_epochs=null", "train.max_epochs must be of type int, but it is None"),
        ("train.learning_rate=[1]", "train.learning_rate must be of type float, but it is [1]"),
        ("features.use_energy=maybe", "features.use_energy must be of type bool, but it is 'maybe'"),
        ("data.speeds=[fast]", "data.speeds must be of type tuple[float, ...], but it is ['fast']"),
        ("data.corpora=mini", "data.corpora must be of type dict[str, str | None], but it is 'mini'"),
        ("data.corpora=[mini]", "data.corpora=[mini]: a list where"),
        ("train=3", "train must be a section of keys and values, but it is 3"),
        ("model=blstm", "model must hold a name and the options of that encoder, but it is 'blstm'"),
        ("seed=one", "seed must be of type int, but it is 'one'"),
        ("seed=true", "seed must be of type int, but it is True"),
        ("seeds=[a,b]", "seeds must be of type tuple[int, ...], but it is ['a', 'b']"),
        ("seeds=[true,2]", "seeds must be of type tuple[int, ...], but it is [True, 2]"),
        ("seeds=3", "seeds must be of type tuple[int, ...], but it is 3"),
    ],
)
def test_a_wrong_type_is_named(recipe, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(recipe(), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.epochs=3",
            r"^unknown key 'train.epochs': did you mean train.max_epochs\? train has max_epochs",
        ),
        (
            "training.max_epochs=3",
            r"^unknown key 'training.max_epochs': did you mean train.max_epochs\? the sections are",
        ),
        ("epochs=3", r"^unknown key 'epochs': did you mean train.max_epochs\? the sections are seed, seeds, data"),
        (
            "features.delta.order=3",
            r"^unknown key 'features.delta.order': did you mean features.delta_order\? feat",
        ),
        (
            "decode.max_epochs=3",
            r"^unknown key 'decode.max_epochs': did you mean train.max_epochs\? decode has",
        ),
        ("decode.x=1", r"^unknown key 'decode.x'; decode has beam_size, nbest"),
        ("x={}", r"^unknown key 'x'; the sections are seed"),
        ("train.max_epochs", r"^'train.max_epochs' is not of the form section.key=value"),
        ("=3", r"^'=3' is not of the form section.key=value"),
        ("data.speeds=[1", r"^cannot read 'data.speeds=\[1': did not find expected"),
    ],
)
def test_an_unknown_key_is_named_with_those_there_are(recipe, override, message):
    with pytest.raises(ConfigError, match=message):
        load(recipe(), [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {corpora: {mini: null}}\ntrain: [\n", "line 3"),
        ("data:\n\tcorpora: 1\n", "line 2: found character that cannot start any token"),
        (b"\xff\xfe\x00", "cannot read"),
        ("data: {corpora: [mini]}\n", "data.corpora must be of type dict[str, str | None], but it is ['mini']"),
        ("- 1\n- 2\n", "must hold sections such as 'data:' and 'model:'"),
        ("", "recipe.yaml: data.corpora must name at least one corpus"),
        ("data: {corpora: {mini: null}}\ntrain: {epochs: 3}\n", "recipe.yaml: unknown key 'train.epochs': did you"),
        ("data: {corpora: {mini: null}, labels: '${nothing}'}\n", "Interpolation key 'nothing' not found"),
        ("data: {corpora: {mini: null}, labels: '???'}\n", "labels"),
        ("model: {stack: 2}\ndata: {corpora: {mini: null}}\n", "model must hold a name"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(recipe, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(recipe(text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_recipes_stand(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*none.yaml; the recipes stand in recipes/<recipe>/<system>.yaml"):
        load(tmp_path / "none.yaml")


def test_corpora_are_looked_for_in_one_folder(tmp_path):
    (tmp_path / "timit").mkdir()
    config = from_dict({"data": {"corpora": {"timit": None, "mini": None, "speechocean762": "/elsewhere"}}})
    found = configuration.with_corpora_in(config, tmp_path).data.corpora
    assert found == {"timit": str(tmp_path / "timit"), "mini": str(tmp_path), "speechocean762": "/elsewhere"}


@pytest.mark.parametrize("path", ["recipes/mini/blstm_ctc.yaml", "/anywhere/recipes/mini/blstm_ctc.yaml"])
def test_run_folder(path):
    assert run_folder(Path(path)) == Path("runs/mini/blstm_ctc")


def test_run_folder_of_a_recipe_in_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folder(Path("mine.yaml")) == Path("runs") / tmp_path.name / "mine"


def test_configurations_and_the_command_line_need_no_torch(python):
    process = python(
        "import asr.core.config, asr.cli.app, sys; print([m for m in ('torch', 'lhotse') if m in sys.modules])"
    )
    assert process.stdout.strip() == "[]", process.stderr
