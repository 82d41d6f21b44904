"""Benchmarks, side by side with the baseline program and with peers; `make bench-NAME` runs one.

Each prints a table and writes `bench/results/NAME.jsonl`, a line per figure, subject and setting. A subject is a
program of its own in `bench/peers`, in an environment of its own where it needs one (`bench/peers/NAME.txt`), and
speaks the line protocol of `bench/peers/child.py`. Everything made on the way lies in `.cache/bench`.

Rounds are interleaved, subject after subject, because a shared machine is up to a third faster or slower from one
minute to the next; only medians over the same rounds are compared. While one subject runs, the others are stopped.
"""
