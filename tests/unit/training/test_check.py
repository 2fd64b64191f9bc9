"""Settings that a system is not trained by are refused before anything is made, and not left unread."""

import pytest

from asr.core.config import from_dict
from asr.core.errors import ConfigError
from asr.training import check


def config(model, **sections):
    return from_dict({"data": {"corpora": {"mini": None}}, "model": {"name": model}} | sections)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.init", "en-us-phones"),
        ("train.freeze", 1),
        ("train.layer_decay", 0.5),
        ("train.max_epochs", 3),
        ("train.devices", 2),
        ("train.criterion", {"name": "ctc_crf", "lm": "phone_trigram"}),
        ("spec_augment.num_time_masks", 1),
    ],
)
def test_gmm_hmms_have_no_settings_of_networks(key, value):
    section, _, name = key.partition(".")
    with pytest.raises(ConfigError, match=f"^{key} is for networks: leave it out; the section model trains GMM-HMMs$"):
        check(config("gmm_hmm", **{section: {name: value}}))


def test_gmm_hmms_have_no_speeds_and_no_conditions():
    with pytest.raises(ConfigError, match=r"^data\.speeds is for networks"):
        check(config("gmm_hmm", data={"corpora": {"mini": None}, "speeds": [0.9, 1.0]}))
    features = {"kind": "fbank", "delta_order": 0, "use_energy": False}
    with pytest.raises(ConfigError, match=r"^conditions\.noise is for networks"):
        check(config("gmm_hmm", features=features, conditions={"noise": 0.5}))


def test_what_a_kind_of_system_is_trained_by_passes():
    check(config("gmm_hmm"))
    check(config("gmm_hmm", train={"accelerator": "cpu"}))
    check(config("blstm", train={"freeze": 1, "max_epochs": 3}))
    check(
        from_dict(
            {
                "data": {"corpora": {"mini": None}},
                "model": {"name": "gmm_hmm", "num_pdfs": 9},
                "train": {"alignments": "a"},
            }
        )
    )


def test_attention_has_no_alignments():
    with pytest.raises(ConfigError, match=r"^train\.alignments is for HMMs: leave it out with attention_decoder$"):
        check(config("attention_decoder", train={"alignments": "gmm_hmm"}))


@pytest.mark.parametrize("system", [{"model": "attention_decoder"}, {"model": "blstm", "alignments": "gmm_hmm"}])
@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"consistency": 0.2}, r"train\.consistency must be 0 for"),
        ({"label_prior_scale": 0.3}, r"train\.label_prior_scale must be 0 for"),
        ({"criterion": {"frames": "en-us-phones"}}, r"train\.criterion\.frames must be null for"),
        ({"criterion": {"name": "ctc_crf", "lm": "phone_trigram"}}, r"train\.criterion\.name must be ctc"),
    ],
)
def test_what_ctc_alone_is_trained_by_is_refused_before_the_stages(system, setting, fault):
    train = setting | {key: value for key, value in system.items() if key != "model"}
    with pytest.raises(ConfigError, match=f"^{fault} "):
        check(config(system["model"], train=train))


@pytest.mark.parametrize(
    ("criterion", "fault"),
    [
        ({"ctc_weight": 0.1}, "ctc_weight does nothing without train.criterion.name=ctc_crf"),
        ({"warmup_epochs": 2, "frames": "en-us-phones"}, "warmup_epochs does nothing without train.criterion.name"),
        ({"name": "ctc_crf", "lm": "phone_trigram", "frame_weight": 0.5}, "frame_weight does nothing without train"),
    ],
)
def test_shares_of_a_loss_that_is_not_there_are_refused(criterion, fault):
    with pytest.raises(ConfigError, match=rf"^train\.criterion\.{fault}"):
        check(config("blstm", train={"criterion": criterion}))


def test_shares_of_the_losses_that_are_there_pass():
    check(config("blstm", train={"criterion": {"frames": "en-us-phones", "frame_weight": 0.5}}))
    crf = {"name": "ctc_crf", "lm": "phone_trigram", "ctc_weight": 0.5, "warmup_epochs": 2}
    check(config("blstm", train={"criterion": crf}))


@pytest.mark.parametrize("name", ["padding", "no_speech"])
def test_hybrids_have_no_sound_without_speech(name):
    sections = {"train": {"alignments": "gmm_hmm"}, "conditions": {name: 0.2}}
    sections["features"] = {"kind": "fbank", "delta_order": 0, "use_energy": False}
    with pytest.raises(ConfigError, match=rf"^conditions\.{name} must be 0 with train\.alignments"):
        check(config("blstm", **sections))
    sections["train"] = {}
    check(config("blstm", **sections))
