"""`best_of`: more candidates than are wanted, of which those are returned that the model finds most probable.

As OpenAI defines it: "the one with the highest log probability per token", that is the mean over a choice's tokens, of
log-probabilities under the model itself. What is generated counts in the usage, returned or not.
"""

from dataclasses import replace

from handler.completion import Choice, Completion, TextRequest


def asking_for_candidates(request: TextRequest) -> TextRequest:
    """The request for all candidates, with the log-probabilities they are compared by."""
    return replace(request, n=request.candidates, logprobs=request.logprobs or 0)


def best(candidates: Completion, request: TextRequest) -> Completion:
    """The `n` best candidates of each prompt, the best first; equally good ones stay as they were drawn.

    Args:
        candidates: what `asking_for_candidates` was answered with.
        request: what was really asked for.
    """
    each = request.candidates
    ranked = [
        choice
        for start in range(0, len(candidates.choices), each)
        for choice in sorted(candidates.choices[start : start + each], key=_mean_logprob, reverse=True)[: request.n]
    ]
    choices = [
        replace(choice, index=index, tokens=None if request.logprobs is None else choice.tokens)
        for index, choice in enumerate(ranked)
    ]
    return replace(candidates, choices=choices)


def _mean_logprob(choice: Choice) -> float:
    """Of the generated tokens, the end of text among them; a text that a stop string left empty is worse than any."""
    generated = [token for token in choice.tokens or () if token.part != "prompt"]
    logprobs = [token.logprob for token in generated if token.logprob is not None]
    return sum(logprobs) / len(logprobs) if logprobs else float("-inf")
