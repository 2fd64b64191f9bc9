import numpy as np
import pytest

from asr.core.jit import njit
from asr.ctc import lanes
from asr.ctc.lanes import LANES

pytestmark = pytest.mark.kernels


@njit()
def weighted_sum(weights, values, total):
    lines = lanes.spread(0.0)
    for i in range(np.uintp(len(weights))):
        lines += weights[i] * lanes.load(values, i)
    lanes.store(total, np.uintp(0), lines)


@njit()
def arithmetic(values):
    a, b = lanes.load(values, 0), lanes.load(values, 1)
    lanes.store(values, 2, a + b)
    lanes.store(values, 3, a * b)
    lanes.store(values, 4, a / b)
    lanes.store(values, 5, 2.0 / b)
    lanes.store(values, 6, lanes.spread(-3))


def test_operations_have_the_bits_of_numpy(rng):
    values = rng.standard_normal((7, LANES))
    a, b = values[:2]
    expected = np.array([a, b, a + b, a * b, a / b, 2.0 / b, np.full(LANES, -3.0)])
    arithmetic(values)
    assert np.array_equal(values, expected)


def test_lanes_are_added_up_in_order_whatever_the_others_hold(rng):
    weights, values = rng.standard_normal(101), 10.0 ** rng.uniform(-20, 20, (101, LANES))
    values[7, 1], values[8, 2] = np.nan, np.inf
    total = np.zeros((1, LANES))
    weighted_sum(weights, values, total)
    for lane in range(LANES):
        expected = 0.0
        for weight, value in zip(weights.tolist(), values[:, lane].tolist(), strict=True):
            expected += weight * value
        np.testing.assert_array_equal(total[0, lane], expected)


@pytest.mark.parametrize(("shape", "row"), [((6, LANES), 6), ((6, LANES - 1), 0)])
def test_bounds_are_checked_where_numba_checks_them(run_python, shape, row):
    found = run_python(
        f"""
import numpy as np
from asr.core.jit import njit
from asr.ctc import lanes

@njit()
def copy(values, i):
    lanes.store(values, 0, lanes.load(values, i))

copy(np.zeros((7, lanes.LANES)), 6)
try:
    copy(np.zeros({shape}), {row})
except IndexError as error:
    print(error)
""",
        NUMBA_BOUNDSCHECK="1",
        NUMBA_DISABLE_JIT="0",
    )
    assert "out of bounds" in found
