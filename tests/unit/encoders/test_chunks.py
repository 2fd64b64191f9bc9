"""Backward layers in windows: torch beside our own kernels, how far they look, and one window for all."""

import pytest
import torch

from asr.encoders import lstm
from asr.encoders.blstm import EncoderConfig

LENGTHS = torch.tensor([100, 47, 5, 0])


def network(**options):
    torch.manual_seed(1)
    sizes = {"num_layers": 3, "hidden_size": 12, "stack": 3, "channels": 2} | options
    return EncoderConfig(**sizes).build(num_features=20, num_classes=7)


@pytest.fixture
def features():
    return torch.randn(4, 100, 20, generator=torch.Generator().manual_seed(2))


def valid(logits, lengths):
    return torch.cat([logits[:length, b] for b, length in enumerate(lengths)])


@pytest.mark.parametrize(("chunk", "lookahead"), [(1, 0), (4, 3), (2, 9), (50, 0)])
def test_our_kernels_compute_what_torch_does_and_its_gradients(chunk, lookahead, features, monkeypatch):
    made, weight = network(chunk=chunk, lookahead=lookahead), torch.randn(7)
    found = []
    for has_kernels in (True, False):
        if not has_kernels:
            monkeypatch.setattr(lstm, "can_run", lambda *_: False)
        made.zero_grad()
        logits = valid(*made(features, LENGTHS))
        (torch.tanh(logits) * weight).sum().backward()
        found.append((logits.detach(), [each.grad.clone() for each in made.parameters()]))
    (ours, gradients), (theirs, expected) = found
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_chunk_as_long_as_the_utterance_is_a_bidirectional_network(features):
    chunked, plain = network(chunk=40), network()
    torch.testing.assert_close(valid(*chunked(features, LENGTHS)), valid(*plain(features, LENGTHS)))


@pytest.mark.parametrize(("chunk", "lookahead"), [(4, 3), (5, 0), (1, 2)])
def test_no_output_needs_more_of_the_future_than_the_chunk_and_the_lookahead(chunk, lookahead, features):
    """A change from step 20 on is felt from the first chunk whose window reaches step 19, which convolutions see."""
    made, changed = network(chunk=chunk, lookahead=lookahead), features.clone()
    changed[0, 60:] += 1
    felt = (made(changed, LENGTHS)[0] - made(features, LENGTHS)[0])[:, 0].abs().amax(dim=1) > 0
    first = next(start for start in range(0, 34, chunk) if start + chunk + lookahead > 19)
    assert felt.nonzero()[0].item() == first
    assert felt[first:].all()


def test_padding_is_not_felt(features):
    made, changed = network(chunk=4, lookahead=3), features.clone()
    for b, length in enumerate(LENGTHS):
        changed[b, length:] = torch.nan
    torch.testing.assert_close(valid(*made(changed, LENGTHS)), valid(*made(features, LENGTHS)))
