"""What a worker process does with a recording."""

import json

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from asr.lm.recurrent_lm import RecurrentLM
from asr.serving.recognising import Job, Workshop
from asr.serving.settings import Models
from asr.speech import audio
from tests.serving import RECORDING


def test_a_phrase_is_rescored_when_it_has_ended(monkeypatch):
    """The phrase so far is searched anew every tenth of a second, and rescoring would take longer than the rest."""
    rescored = []
    score = RecurrentLM.score
    monkeypatch.setattr(RecurrentLM, "score", lambda lm, sentences: rescored.append(1) or score(lm, sentences))
    workshop, sound = Workshop(Models("en-us-phones", "en-us-words")), audio.load(RECORDING).tobytes()
    for is_final in (False, True):
        answer = workshop.do(Job("phrase", "stream", {"ipa": False, "is_final": is_final}), sound, np.inf)
        assert [word["label"] for word in json.loads(answer["text"])["words"]][-2:] == ["glorious", "scrap"]
        assert len(rescored) == is_final
