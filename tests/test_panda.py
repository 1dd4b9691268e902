"""The counted votes against the rows they were counted from, and against their own totals."""

from __future__ import annotations

import gzip
import json

import torch

from dpo_lab.panda import panda_votes


def test_the_tables_agree_with_each_other_and_with_the_published_totals():
    votes = panda_votes()
    assert votes.wins.tolist() == [
        [0, 58, 72, 71, 80],
        [27, 0, 49, 53, 53],
        [28, 47, 0, 43, 59],
        [24, 32, 35, 0, 49],
        [24, 27, 30, 33, 0],
    ]
    assert torch.equal(votes.ties, votes.ties.T)
    assert votes.wins.sum() + votes.ties.sum() / 2 == 999
    assert votes.ties.sum() / 2 == 105  # as the source's own table of labels says
    assert votes.wins.sum(1).tolist() == [281, 182, 177, 140, 114]
    assert (votes.wins + votes.wins.T).sum(1).tolist() == [384, 346, 363, 340, 355]
    assert torch.equal(votes.blocks.sum(0), votes.wins)
    assert votes.blocks.max() == 1


def test_recount_from_the_rows(shared_data):
    votes = panda_votes()
    with gzip.open(shared_data / "panda_votes.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    wins, ties = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    blocks: list[torch.Tensor] = []
    last = ("", "")
    for row in rows:
        pair = (row["model_a"], row["model_b"])
        assert pair[0] < pair[1]  # as the chapter says: always in the order of the names
        if not blocks or pair <= last:  # the names start again: another prompt
            blocks.append(torch.zeros(5, 5, dtype=torch.float64))
        last = pair
        one, two = map(votes.names.index, pair)
        if row["votes"].count(1) >= 2:
            wins[one, two] += 1
            blocks[-1][one, two] += 1
        elif row["votes"].count(2) >= 2:
            wins[two, one] += 1
            blocks[-1][two, one] += 1
        else:
            assert row["votes"].count(0) >= 2
            ties[one, two] += 1
            ties[two, one] += 1
    assert torch.equal(wins, votes.wins)
    assert torch.equal(ties, votes.ties)
    assert torch.equal(torch.stack(blocks), votes.blocks)
    assert votes.unanimous == sum(len(set(row["votes"])) == 1 for row in rows)


def test_nearly_every_block_is_one_prompt_and_no_prompt_is_cut(shared_data):
    prompts: dict[int, str] = {}  # of the rows whose texts are at hand: those with a winner
    for part in ("train", "test"):
        with gzip.open(shared_data / f"panda_pairs_{part}.jsonl.gz", "rt", encoding="utf-8") as f:
            for pair in map(json.loads, f):
                prompts[pair["idx"]] = pair["chosen"].rpartition("\n\nAssistant:")[0]
    with gzip.open(shared_data / "panda_votes.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    seen: dict[int, set[str]] = {}
    block, last = -1, ("", "")
    for row in rows:
        pair = (row["model_a"], row["model_b"])
        block += block < 0 or pair <= last
        last = pair
        if row["idx"] in prompts:
            seen.setdefault(block, set()).add(prompts[row["idx"]])
    assert block + 1 == len(panda_votes().blocks)
    assert len(prompts) == 802
    alone = sum(len(found) == 1 for found in seen.values())
    assert sum(map(len, seen.values())) == len(set(prompts.values()))  # each in one block only
    assert (alone, len(seen)) == (144, 148)
