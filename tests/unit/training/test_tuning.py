import pytest

from asr.training.tuning import ASIDE, HMM, NEARER, PHONES, WORDS, Grid, Setting, search


def tried(rate, grid):
    """The settings in the order of the search, where `rate` gives the error rate of a weight and a penalty."""
    trials = search(lambda settings: [rate(each.weight, each.penalty) for each in settings], grid)
    assert all(trial.dev_rate == rate(trial.setting.weight, trial.setting.penalty) for trial in trials)
    assert all(trial.setting.prior_scale == 0 for trial in trials) or grid.prior_scales
    return [(trial.setting.weight, trial.setting.penalty) for trial in trials]


@pytest.mark.parametrize(("best", "last"), [(1.0, 4.0), (4.0, 8.0), (36.0, 36.0)])
def test_weights_are_tried_until_two_in_a_row_are_worse(best, last):
    found = tried(lambda weight, _: abs(weight - best), HMM)
    assert found[: HMM.weights.index(last) + 1] == [(weight, 0.0) for weight in HMM.weights if weight <= last]
    assert found[HMM.weights.index(last) + 1][0] == best  # then penalties with the best weight


def test_penalties_follow_the_best_weight_and_nearer_weights_the_best_penalty():
    found = tried(lambda weight, penalty: abs(weight - 4) + abs(penalty + 4), HMM)
    assert found[5:11] == [(4.0, 4.0 * ratio) for ratio in HMM.penalties]
    assert found[11:] == [(round(4 * factor, 2), round(-4 * factor, 2)) for factor in NEARER]


def test_without_a_use_for_the_language_model_only_weights_are_tried():
    assert tried(lambda weight, _: weight, PHONES) == [(0.0, 0.0), (0.1, -0.15), (0.2, -0.3)]


def test_no_setting_is_tried_twice():
    """Penalties of a small weight are rounded to 0, which was tried with the weights."""
    found = tried(lambda weight, penalty: abs(weight - 0.1), Grid((0.1, 0.2), 0.0, (0.01, -0.01, 1.0)))
    assert found[:3] == [(0.1, 0.0), (0.2, 0.0), (0.1, 0.1)]
    assert len(found) == len(set(found)) == 3 + len(NEARER)


def test_among_equals_the_smaller_penalty_and_weight_are_taken():
    found = tried(lambda weight, penalty: 1.0, Grid((1.0, 2.0, 3.0), 0.0, (-1.0, 1.0)))
    assert found == [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (1.0, -1.0), (1.0, 1.0), *((factor, 0.0) for factor in NEARER)]


def test_a_setting_is_rounded_to_what_is_written():
    assert Setting.of(1.2345, -0.5) == Setting(1.23, -0.62)
    assert str(Setting.of(0.0, -1.5).penalty) == "0.0"  # not -0.0


def test_prior_scales_are_tried_until_two_in_a_row_are_worse_then_penalties_beside_the_best():
    """A scale of 0.4 helps, and wants a greater penalty of words."""

    def rate(setting):
        penalty = 0.0 if setting.prior_scale < 0.4 else 0.5
        return abs(setting.weight - 1) + abs(setting.prior_scale - 0.4) + 0.1 * abs(setting.penalty - penalty)

    trials = search(lambda settings: [rate(each) for each in settings], WORDS)
    found = [(each.setting.weight, each.setting.penalty, each.setting.prior_scale) for each in trials]
    first = found.index((1.0, 0.0, 0.15))
    assert {scale for _, _, scale in found[:first]} == {0.0}
    assert found[first : first + 5] == [(1.0, 0.0, scale) for scale in (0.15, 0.3, 0.4, 0.5, 0.6)]
    assert found[first + 5 : -4] == [(1.0, step, 0.4) for step in ASIDE]
    assert found[-4:] == [(factor, round(0.5 * factor, 2), 0.4) for factor in NEARER]
    assert len(set(found)) == len(found)
    assert min(trials, key=lambda trial: trial.dev_rate).setting == Setting(1.0, 0.5, 0.4)


def test_a_setting_is_written_as_overrides_and_sets_all_three():
    setting = Setting(0.8, -0.5, 0.4)
    assert str(setting) == "decode.lm_weight=0.8 decode.insertion_penalty=-0.5 decode.label_prior_scale=0.4"
    assert setting.decode == {"lm_weight": 0.8, "insertion_penalty": -0.5, "label_prior_scale": 0.4}
