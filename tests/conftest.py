import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20260614)


@pytest.fixture(scope="session")
def speech_data():
    """The folder of real speech samples: $ASR_TEST_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ASR_TEST_DATA", default))
    if not (folder / "speechocean762-mini").is_dir():
        pytest.skip(f"no real speech at {folder}: set ASR_TEST_DATA to the folder that holds speechocean762-mini")
    return folder
