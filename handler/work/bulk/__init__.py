"""Files too large for one worker: split into byte ranges, answered range by range, and joined.

Step Functions' Distributed Map (infra/bulk.yaml) is the engine; here is what its three steps do. They pass on ranges
and keys, never lines. All that is done lies in the results bucket below one folder, named by the input and its content,
so that a second delivery, a retry or a whole second run does only what has no result yet.
"""
