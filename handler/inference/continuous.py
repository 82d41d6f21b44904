"""transformers' continuous batching as a backend of its own: paged attention, prompts and tokens in one batch.

Its manager (https://huggingface.co/docs/transformers/continuous_batching) has a thread that owns the cache: it admits
waiting sequences while there are pages, reads prompts in pieces beside those under way, shares the pages of equal
beginnings, and when pages run out takes those of the last come, which then read again what they had. One thread of ours
starts it, passes its tokens on, keeps the deadlines, and notices its end: an error there ends every request with an
error, and the next request starts a new manager.

What a sequence's tokens are depends on its company here: sums are formed in another order, and the random numbers are
the manager's. What needs more, such as a seed, is another backend's (see routing.py).
"""

import time
from functools import partial
from itertools import count
from traceback import clear_frames
from typing import Final

from transformers import PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from handler.errors import EngineError
from handler.inference.generation import EventQueue, QueuedGeneration
from handler.inference.own_thread import OwnThread
from handler.inference.paging import BATCH_SEQUENCES, blocks_of, free_share, new_manager, pages_of
from handler.inference.protocol import GenerationRequest, Load
from handler.inference.routing import needs_tokens_alone
from handler.inference.sequences import ManagedSequence
from handler.telemetry import logger

# How long a deadline may be overdue, and a failure of the manager unnoticed.
_LOOK_SECONDS: Final = 0.02


class ContinuousBackend(OwnThread):
    """A backend over a model of transformers; see the module's text."""

    def __init__(self, model: PreTrainedModel, *, name: str, context_length: int, cache_bytes: int) -> None:
        """Make the cache.

        Args:
            model: what runs; its attention must be `paging.ATTENTION`.
            name: the engine's name.
            context_length: the most tokens of a sequence.
            cache_bytes: room for keys and values.

        Raises:
            UnsupportedModelError: not even one sequence fits, or memory does not hold the cache.
        """
        super().__init__()
        self.name = self.scorer = name
        self.context_length = context_length
        self.vocabulary_size: int = model.config.get_text_config().vocab_size
        self._model = model
        self._blocks = blocks_of(model, context_length, cache_bytes)
        self._manager: ContinuousBatchingManager | None = new_manager(model, self._blocks)  # guarded by _wake
        self._open: dict[str, ManagedSequence] = {}  # neither finished nor cancelled, by the manager's name for them
        self._ids = count()

    def submit(self, request: GenerationRequest) -> QueuedGeneration:
        """Hand a request's sequences to the manager, which lets them wait until there are pages.

        Raises:
            ValueError: more than tokens is asked for, which the manager does not give.
            EngineError: there is no manager, and none can be made.
        """
        if not needs_tokens_alone(request):
            raise ValueError("continuous batching gives tokens and nothing beside them")
        with self._wake:
            self._refuse_if_closed()
            sequences = self._sequences_of(request)
            generation = QueuedGeneration(sequences, sequences[0].events, self.name)
            manager = self._working_manager()
            self._awake(partial(self._run, manager), "continuous batching")
            for sequence in sequences:
                if sequence.is_late(time.time()):
                    sequence.finish("deadline")
                else:
                    self._open[sequence.id] = sequence
                    self._hand_over(sequence, manager)
        return generation

    def load(self) -> Load:
        """How busy it is now; there is a place for each of so many that all may grow as long as the context."""
        places = min(BATCH_SEQUENCES, self._blocks // pages_of(self.context_length))
        with self._wake:
            processor = self._manager.batch_processor if self._manager else None
            if processor is None:
                return Load(0, len(self._open), places, cache_use=0)
            running = min(len(processor.scheduler.active_requests), len(self._open))
            return Load(running, len(self._open) - running, places, cache_use=1 - free_share(processor.cache))

    def _working_manager(self) -> ContinuousBatchingManager:
        """The manager, a new one where there is none."""
        if self._manager is None:
            try:
                self._manager = new_manager(self._model, self._blocks)
            except Exception as error:
                self._failures += 1
                logger.error("continuous batching not started", error=type(error).__name__, reason=str(error))
                raise EngineError("Continuous batching cannot be started; the service's log says why.") from error
        return self._manager

    def _sequences_of(self, request: GenerationRequest) -> list[ManagedSequence]:
        events = EventQueue()
        return [
            ManagedSequence(
                str(next(self._ids)), p * request.n + sample, prompt, request.sampling[p], request, events, self._cancel
            )
            for p, prompt in enumerate(request.prompts)
            for sample in range(request.n)
        ]

    def _hand_over(self, sequence: ManagedSequence, manager: ContinuousBatchingManager) -> None:
        """Have the manager work on a sequence; whether one that is failing takes it or not, `_bury` knows of it."""
        sampling = sequence.sampling
        manager.add_request(
            list(sequence.prompt),
            sequence.id,
            max_new_tokens=sequence.request.max_tokens,
            streaming=True,
            eos_token_id=sorted(sequence.request.stop_tokens),
            temperature=float(sampling.temperature),
            top_k=min(sampling.top_k or self.vocabulary_size, self.vocabulary_size),
            top_p=float(sampling.top_p),
        )

    def _cancel(self, sequence: ManagedSequence) -> None:
        """Have the manager give up a sequence, unless it has finished; from any thread."""
        with self._wake:
            if self._open.pop(sequence.id, None) and self._manager:
                self._manager.cancel_request(sequence.id)

    def _run(self, manager: ContinuousBatchingManager) -> None:
        """The thread: listen until the manager fails or is not needed any more."""
        try:
            manager.start()  # here, for its thread is a daemon if the one that starts it is
            self._listen(manager)
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            with self._wake:
                self._bury(error)

    def _listen(self, manager: ContinuousBatchingManager) -> None:
        """Pass on what comes as long as there is something to do; raises what the manager fails with."""
        while self._goes_on(manager):
            outputs = _outputs_of(manager)
            failed = _has_failed(manager, outputs)
            if failed:
                manager.stop(hard_stop=True)
                outputs += _outputs_of(manager)
            with self._wake:
                self._pass_on(outputs)
                self._end_late(manager)
            if failed:
                raise manager.background_thread_status.fatal_error or RuntimeError("it has ended by itself")

    def _goes_on(self, manager: ContinuousBatchingManager) -> bool:
        """Wait until there is something to do; if nothing is to come any more, end the manager."""
        with self._wake:
            while not (self._open or self._may_end()):
                self._wake.wait()
            if self._closed:
                self._fail(RuntimeError("the backend was closed"))
            if not self._open:
                self._stop(manager)
                return False
            return True

    def _pass_on(self, outputs: list[GenerationOutput]) -> None:
        """Tell what has become of sequences, but for those that failed: of them `_bury` tells."""
        for output in outputs:
            sequence = self._open.get(output.request_id)
            if sequence is None or output.error is not None:  # it was cancelled, and this was on its way
                continue
            self._failures = 0
            sequence.advance(output)
            if output.is_finished():
                del self._open[sequence.id]

    def _end_late(self, manager: ContinuousBatchingManager) -> None:
        now = time.time()
        for sequence in [each for each in self._open.values() if each.is_late(now)]:
            del self._open[sequence.id]
            manager.cancel_request(sequence.id)
            sequence.finish("deadline")

    def _fail(self, error: Exception) -> None:
        """End everything under way with an error."""
        for sequence in self._open.values():
            sequence.fail(error)
        self._open.clear()

    def _bury(self, error: Exception) -> None:
        """The manager is no more: tell whoever waits, when it can be replaced."""
        self._failures += 1
        logger.error("continuous batching failed", error=type(error).__name__, reason=str(error))
        clear_frames(error.__traceback__)  # which hold the cache: there may be no room for the next one beside it
        self._manager = None
        self._fail(EngineError("Continuous batching has failed; the service's log says why."))
        self._ended()

    def _stop(self, manager: ContinuousBatchingManager) -> None:
        """End the manager, and say whether its cache is as empty as it was: a page that is lost is lost to all."""
        processor = manager.batch_processor
        manager.stop(hard_stop=self._closed)
        if processor is not None:
            logger.info("continuous batching ended", blocks=self._blocks, free=free_share(processor.cache))
        self._manager = None
        self._ended()


def _outputs_of(manager: ContinuousBatchingManager) -> list[GenerationOutput]:
    """What the manager has to say: waits a moment for the first, and takes along what there is beside it."""
    outputs = []
    output = manager.get_result(timeout=_LOOK_SECONDS)
    while output is not None:
        outputs.append(output)
        output = manager.get_result(timeout=0)
    return outputs


def _has_failed(manager: ContinuousBatchingManager, outputs: list[GenerationOutput]) -> bool:
    """Whether it has ended or is about to; as long as it is listened to, nobody asks it to."""
    denial = manager.background_thread_status.can_accept_new_requests()
    return denial is not None or any(output.error is not None for output in outputs)
