"""Prefix beam search over CTC posteriors."""

import math
import sys
from itertools import takewhile

import numpy as np
from numpy.typing import ArrayLike

from asr.core import workers
from asr.ctc import align_kernels, beam_kernels
from asr.ctc.arguments import check_log_probs, check_values
from asr.ctc.beam_kernels import Limits, TokenModel
from asr.ctc.hypothesis import Hypothesis

CELLS = 1 << 24  # frames × tokens of an utterance whose best path is looked for among all; it takes a tenth of a second
LOOK_BACK = 300  # frames, and twice the lag, in which a search of frames as they come looks for peaks
MARGIN = 100  # frames before and after those in which the search of a longer utterance had a token begin


def beam_search(
    log_probs: np.ndarray,
    input_lengths: ArrayLike | None = None,
    beam_size: int = 16,
    nbest: int = 1,
    blank: int = 0,
    beam_threshold: float = math.inf,
    token_threshold: float = 0.0,
    token_model: TokenModel | None = None,
) -> list[list[Hypothesis]]:
    """Find the most probable labellings, summing over the paths of each (Hannun et al. 2014, algorithm 1).

    Parameters
    ----------
    log_probs : (T, B, C)
        Natural logs.
    input_lengths : (B,), optional
        Number of frames of each utterance; T by default.
    beam_size
        Number of prefixes kept after each frame. If it exceeds the number of labellings, nothing is pruned and scores
        are exact. A beam of 1 is not `best_path`: it keeps the likeliest prefix, over all of its paths, and may merge
        two equal labels that the best path keeps apart by a blank that is hardly likelier.
    nbest
        Number of labellings to return for each utterance, at most `beam_size`; fewer where fewer are possible.
    blank
        Index of the blank.
    beam_threshold
        Drop prefixes that are more than this many nats below a frame's best; infinity drops none.
    token_threshold
        Tokens whose probability in a frame is below this do not extend a prefix there; 0 forbids none.
    token_model
        Log weights of tokens by the state of an automaton, such as a language model; already scaled.

    Returns
    -------
    list of list of Hypothesis
        The labellings of each utterance, most probable first, no two alike. Timesteps come from the best single path of
        the labelling. The token model's weights are part of the score.

    Raises
    ------
    ValueError
        Shapes, lengths, blank, sizes, thresholds or the token model do not fit, or a log probability is NaN or above 0.

    Examples
    --------
    >>> probs = np.array([[[0.6, 0.4]], [[0.6, 0.4]]])  # the likeliest path is all blank; three others spell (1,)
    >>> best = beam_search(np.log(probs))[0][0]
    >>> best.tokens, round(float(np.exp(best.score)), 2)
    ((1,), 0.64)
    """
    log_probs, lengths = check_log_probs(log_probs, input_lengths, blank)
    check_values(log_probs, lengths)
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"nbest must lie in 1..beam_size, but they are {nbest} and {beam_size}")
    if not (beam_threshold >= 0 and 0 <= token_threshold <= 1):
        raise ValueError(
            "beam_threshold must be at least 0 and token_threshold a probability, "
            f"but they are {beam_threshold} and {token_threshold}"
        )
    num_frames, batch, num_classes = log_probs.shape
    model = checked(token_model, num_classes)
    limits = Limits(
        int(blank), int(beam_size), float(beam_threshold), math.log(token_threshold) if token_threshold else -math.inf
    )
    tokens = np.full((batch, nbest, num_frames), -1, np.int64)
    spans, scores = np.zeros((*tokens.shape, 2), np.int32), np.full((batch, nbest), -np.inf)
    size = beam_kernels.workspace_size(num_frames, beam_size)
    scorer, found = (model, model.scores.max(axis=1)), (tokens, spans, scores)
    workers.run(_search, batch, size, log_probs, lengths, limits, scorer, found)
    return hypotheses(log_probs, lengths, blank, *found)


def _search(
    utterances: np.ndarray,
    log_probs: np.ndarray,
    lengths: np.ndarray,
    limits: Limits,
    scorer: tuple[TokenModel, np.ndarray],
    found: tuple[np.ndarray, ...],
    work: np.ndarray,
) -> None:
    """Search some utterances of a batch, one after another."""
    for b in utterances.tolist():
        rows = np.array(log_probs[: lengths[b], b], np.float64, order="C")
        beam = beam_kernels.begin(log_probs.shape[2], limits.beam_size, work)
        each, reached = tuple(array[b] for array in found), (0, 1, 1)
        while True:
            reached = num_done, size, num_nodes = beam_kernels.search(rows, reached, limits, scorer, beam, each)
            if num_done == len(rows):
                break
            held = beam.held[beam_kernels.NODE, :size]
            tree, former = beam_kernels.make_room(held, num_nodes, limits.beam_size, beam.tree)
            beam, reached = beam._replace(tree=tree), (num_done, size, len(former))


class LiveSearch:
    """The same search of frames that come one after another: tokens are told as soon as they are final.

    A token is final when all prefixes of the beam have it, and in any case `lag` frames after it was likeliest: those
    that differ from the best one before that are dropped.

    Parameters
    ----------
    num_classes
        Classes, of which the blank is one.
    lag
        Frames after which a token is final. With infinity the search ends with the labelling that `beam_search` finds.
    beam_size, blank, token_model
        As for `beam_search`.

    Raises
    ------
    ValueError
        The sizes, the lag, the blank or the token model do not fit.

    Examples
    --------
    >>> search = LiveSearch(2, lag=1)
    >>> search.accept(np.log([[0.6, 0.4], [0.1, 0.9]])), search.accept(np.log([[0.9, 0.1]])), search.finish()
    ([], [(1, 1)], [])
    """

    def __init__(
        self,
        num_classes: int,
        lag: float = 10,
        beam_size: int = 16,
        token_model: TokenModel | None = None,
        blank: int = 0,
    ):
        if not (beam_size >= 1 and lag >= 0 and 0 <= blank < num_classes):
            raise ValueError(f"beam_size, lag and blank must fit, but are {beam_size}, {lag} and {blank}")
        model = checked(token_model, num_classes)
        self._scorer, self._lag = (model, model.scores.max(axis=1)), lag
        self._limits = Limits(int(blank), int(beam_size), math.inf, -math.inf)
        work = np.empty(beam_kernels.workspace_size(beam_kernels.ROOM, beam_size))
        self._beam = beam_kernels.begin(num_classes, beam_size, work)
        self._size, self._num_nodes, self._told = 1, 1, 0  # prefixes, nodes, and the node of what was told
        self._longest = sys.maxsize if lag == math.inf else LOOK_BACK + 2 * math.ceil(lag)
        self._time, self._last = 0, -1  # frames so far, of which the last are kept, and that of the last token told
        self._rows = np.zeros((0, num_classes))

    def accept(self, log_probs: ArrayLike) -> list[tuple[int, int]]:
        """Hear the next frames, and return the tokens that are final now, each with the frame in which it is likeliest.

        Parameters
        ----------
        log_probs : (n, C)
            Natural logs.

        Raises
        ------
        ValueError
            The shape is another, or a log probability is NaN or above 0.
        """
        rows = np.array(log_probs, np.float64, order="C")
        if rows.ndim != 2 or rows.shape[1] != self._rows.shape[1]:
            raise ValueError(f"log_probs must be (n, {self._rows.shape[1]}), not {rows.shape}")
        check_values(rows[:, None], np.array([len(rows)]))
        told = list[tuple[int, int]]()
        for frame in rows:
            if self._num_nodes + self._limits.beam_size > len(self._beam.tree):
                self._make_room()
            self._size, self._num_nodes = beam_kernels.advance_compiled(
                frame, self._time + 1, self._limits, self._scorer, self._beam, self._size, self._num_nodes
            )
            self._time += 1
            self._rows = np.concatenate([self._rows[-self._longest :], frame[None]])
            told += self._settle() if self._size else []
        return told

    def finish(self) -> list[tuple[int, int]]:
        """Return the tokens that remain when nothing follows; the search is over then."""
        if self._size == 0:  # a frame allowed nothing
            return []
        states = self._beam.held[beam_kernels.STATE, : self._size]
        totals = self._beam.scores[beam_kernels.ENDS, : self._size] + self._scorer[0].finals[states]
        path = self._path(int(self._beam.held[beam_kernels.NODE, totals.argmax()])) if totals.max() > -math.inf else []
        self._size = 0
        return [(self._token(node), peak) for node, peak in zip(path, self._peaks(path), strict=True)]

    def _settle(self) -> list[tuple[int, int]]:
        """Drop what differs from the best prefix too long ago, and return the tokens that all others share."""
        paths = [self._path(node) for node in self._beam.held[beam_kernels.NODE, : self._size].tolist()]
        old = [sum(peak < self._time - self._lag for peak in self._peaks(path)) for path in paths]
        best = int(self._beam.scores[beam_kernels.ENDS, : self._size].argmax())
        settled = paths[best][: old[best]]
        kept = [k for k, path in enumerate(paths) if path[: old[k]] == settled]
        for rows in (self._beam.scores, self._beam.held):
            rows[:, : len(kept)] = rows[:, kept]
        self._size = len(kept)
        shared = takewhile(lambda nodes: len({*nodes}) == 1, zip(*(paths[k] for k in kept), strict=False))
        final = [nodes[0] for nodes in shared]
        told = [(self._token(node), peak) for node, peak in zip(final, self._peaks(paths[best]), strict=False)]
        if final:
            self._told, self._last = final[-1], told[-1][1]
            self._beam.tree[self._told, beam_kernels.PARENT] = 0  # what was told before is not needed any more
        self._make_room()
        return told

    def _path(self, node: int) -> list[int]:
        """Return the nodes from the first after what was told to one."""
        path = []
        while node != self._told:
            path.append(node)
            node = int(self._beam.tree[node, beam_kernels.PARENT])
        return path[::-1]

    def _peaks(self, path: list[int]) -> list[int]:
        """Return the frames in which the tokens of a path are likeliest, one after the other."""
        first, last = self._time - len(self._rows), len(self._rows) - 1
        lows, low = list[int](), self._last - first
        for node in path:  # after it came up, and after those before
            low = min(last, max(0, low + 1, int(self._beam.tree[node, beam_kernels.BORN]) - first))
            lows.append(low)
        peaks, end = list[int](), last + 1
        for node, low in zip(reversed(path), reversed(lows), strict=True):  # and before that of the next one
            end = low + int(self._rows[low : max(low + 1, end), self._token(node)].argmax())
            peaks.append(first + end)
        return peaks[::-1]

    def _token(self, node: int) -> int:
        return int(self._beam.tree[node, beam_kernels.TOKEN])

    def _make_room(self) -> None:
        """Take nodes out that lead to no prefix of the beam: one that returns is born anew."""
        held = self._beam.held[beam_kernels.NODE, : self._size]
        tree, former = beam_kernels.make_room(held, self._num_nodes, self._limits.beam_size, self._beam.tree)
        self._beam, self._num_nodes = self._beam._replace(tree=tree), len(former)
        self._told = int(np.searchsorted(former, self._told))


def checked(model: TokenModel | None, num_classes: int) -> TokenModel:
    """Return a token model as the kernel takes it, by default one that adds nothing.

    Raises
    ------
    ValueError
        Shapes do not fit, a next state does not exist, or a score is NaN or above 0.
    """
    if model is None:
        return TokenModel(np.zeros((1, num_classes)), np.zeros((1, num_classes), np.int32), np.zeros(1))
    scores, finals = (np.asarray(values, np.float64, order="C") for values in (model.scores, model.finals))
    next_states = np.asarray(model.next_states)
    shape = (finals.size, num_classes)
    if finals.ndim != 1 or finals.size < 1 or scores.shape != shape or next_states.shape != shape:
        raise ValueError(
            f"for {num_classes} classes a token model has scores and next_states (Q, {num_classes}) and finals (Q,), "
            f"not {scores.shape}, {next_states.shape} and {finals.shape}"
        )
    if not (next_states.min() >= 0 and next_states.max() < len(finals)):  # NaN is neither
        raise ValueError(f"the next_states of a token model must lie in 0..{len(finals) - 1}")
    if not (scores.max() < np.inf and finals.max() < np.inf):  # NaN is the largest of all
        raise ValueError("the scores and finals of a token model must not be NaN or +inf")
    return TokenModel(scores, np.asarray(next_states, np.int32, order="C"), finals)


def hypotheses(
    log_probs: np.ndarray, lengths: np.ndarray, blank: int, tokens: np.ndarray, spans: np.ndarray, scores: np.ndarray
) -> list[list[Hypothesis]]:
    """Return the hypotheses of a search, with timesteps and confidences.

    Parameters
    ----------
    log_probs : (T, B, C)
        Natural logs.
    lengths : (B,)
        Number of frames of each utterance.
    blank
        Index of the blank.
    tokens : (B, N, T)
        −1 after the last.
    spans : (B, N, T, 2)
        The first and the last frame in which the search had each token begin. The best path of a long utterance is
        looked for near them, since among all frames and tokens it takes time that grows with the square of the length.
    scores : (B, N)
        −inf where there is no hypothesis.
    """
    found = scores > -np.inf
    utterances, tokens = np.nonzero(found)[0], tokens[found]
    num_labels = (tokens >= 0).sum(axis=1)
    is_long = lengths[utterances] * num_labels > CELLS
    if is_long.any():
        timesteps = np.zeros(tokens.shape, np.int64)
        timesteps[~is_long] = _timesteps(log_probs, lengths, blank, utterances[~is_long], tokens[~is_long])
        near = spans[found] + [-MARGIN, MARGIN]
        for n in np.flatnonzero(is_long):
            symbols = np.append(blank, tokens[n, : num_labels[n]])
            rows = np.ascontiguousarray(log_probs[: lengths[utterances[n]], utterances[n]])
            align_kernels.best_path_within(rows, symbols, near[n], timesteps[n])
    else:
        timesteps = _timesteps(log_probs, lengths, blank, utterances, tokens)
    each: list[list[Hypothesis]] = [[] for _ in scores]
    for b, labels, peaks, length, score in zip(
        utterances, tokens, timesteps, num_labels.tolist(), scores[found].tolist(), strict=True
    ):
        labels, peaks = labels[:length], peaks[:length]
        confidences = np.exp(log_probs[peaks, b, labels], dtype=np.float64)
        each[b].append(Hypothesis(tuple(labels.tolist()), tuple(peaks.tolist()), score, tuple(confidences.tolist())))
    return each


def _timesteps(
    log_probs: np.ndarray, lengths: np.ndarray, blank: int, utterances: np.ndarray, tokens: np.ndarray
) -> np.ndarray:
    """Return the frames (N, T) in which the tokens (N, T) of these utterances peak on their best path."""
    symbols = np.pad(tokens.clip(0), ((0, 0), (1, 0)), constant_values=blank).astype(np.uintp)
    shapes = np.array([utterances, lengths[utterances], (tokens >= 0).sum(axis=1)])
    frames, confidences = np.zeros((*tokens.shape, 3), np.int64), np.empty(tokens.shape)
    priors, scores = np.zeros(log_probs.shape[2]), np.empty(len(tokens))
    size = align_kernels.workspace_size(*shapes[1:])
    found = frames, confidences, scores
    workers.run(align_kernels.best_paths, len(tokens), size, log_probs, symbols, shapes, priors, found)
    return frames[:, :, align_kernels.PEAK]
