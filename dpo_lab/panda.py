"""Real human votes: five language models, compared two at a time by three people."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

NAMES = ("llama-7b", "pythia-6.9b", "bloom-7b", "opt-7b", "cerebras-gpt-6.7B")

# One word for each block of rows, one digit for each of the ten pairs of NAMES, in the order
# (0, 1), (0, 2), ..., (3, 4): what most of the three voters said. 1: the pair's first model
# is better, 2: its second, 0: a tie, and a dot: the block has no such row.
OUTCOMES = """
.1.1.111.2 1.1.2.21.2 .11.....11 2221111211 ......1... 1..12...11 .1..1.1221 21.1111...
..11111..2 .11.1..2.. 111222..1. ....22.... 1.11...... ..11.11112 .22.22..1. ......1..1
.2........ .11.1...22 111..22... 11110..00. .12...2221 .2..2..1.. 12112...1. 2222112.22
2022100220 .0........ 211.11..22 .00.00.000 0011011112 222222..11 0000000000 1111..111.
.1.1...0.. 222...1.11 1111201111 022022.211 1..2.02.22 ..0....... 11..11.22. 2.221..22.
.0..0..00. 1111.0000. 1111022221 1111000000 ..1.11...2 11.1....0. .21.21211. 2.0.1.1..0
1111.22... ...1...... 2.0.111..0 .0.00.0... .1....22.. 12.22.2... .....21..1 121121.112
1122.22.2. .111.1111. 11112.1.11 202211.222 000.000000 2.2.1.12.1 0....0.... .12.1..222
1.112..11. 0...000... .....0.... .111111... 1211211111 .11.11..22 ..11.1.112 .......2..
1..1222.21 1221221211 111122..11 1111000000 1111220211 .2.02.021. 2.222.1..1 11112221.2
1111222111 1111.1.... 12.2222112 .111111... .2.22.21.2 1111...... .2..2...1. 0.022021.2
.11.11.... .11111.... 1..1...... 1.112..11. ...1..1.11 ....2..1.. .1..1..22. .1..1..22.
...112.2.1 ........1. ...1..1.11 1101.2.2.1 2000111... ...1..1.11 2222111111 .222222222
..1..1.1.2 1111.1.11. 00.0.00000 01.111.0.. ...2..2.22 111121.11. 211211..22 1111......
.2.12.1111 .111101201 .11.11.112 ..0...1.2. ....11111. 2.2..22... ...1.1.... ..11...11.
.1.1.2.221 212.1.12.1 22.22121.2 .1.11.1211 ...1.11.11 .1.1121211 2111111222 11112..11.
11211.1..1 111111111. 2202111122 1111221211 1111112222 1.11...... 2212212112 .1..11....
1.11211112 111112.221 1.112221.. 1111222.2. .11111.... .2222..1.. .1.1221.11 1111.11.11
.....111.. 2....11... ..1..1.1.2 21.211.... 1.11..1111 1111111.11 12112..11. 11.1.2.221
.2.22.2112 ..1.111... 1111.2.2.1 2.2..1..2. 2111111111 11111.1..1 ....22..11 1121.2.211
1.1.2..11. 11.1..1.11 ...2..2... .22.2...11 2111111222
"""


class PandaVotes(NamedTuple):
    """Votes on answers of five models to the same prompts, counted.

    names: the models, in the order of the tables.
    wins: (models, models) how often most voters preferred the row's model to the column's.
    ties: (models, models) how often most voters called the two a tie; symmetric.
    blocks: (blocks, models, models) `wins` split by neighbouring prompts; sums to `wins`.
    unanimous: rows, ties among them, on which all three voters said the same.
    """

    names: tuple[str, ...]
    wins: Float[Tensor, "models models"]
    ties: Float[Tensor, "models models"]
    blocks: Float[Tensor, "blocks models models"]
    unanimous: int


def panda_votes() -> PandaVotes:
    """The human votes of PandaLM's test set, as counts.

    Source: testset-v1 of https://github.com/WeOpenML/PandaLM (commit 3871806e72b4, Apache-2.0;
    Wang et al. 2024). 999 rows; in each, three people compared the answers of two models to one
    prompt. A row counts for what at least two of the three said (there is no row with three
    different votes). The prompts and answers themselves are not part of this project.

    The rows of one prompt stand together and in the order of the models' names. A block is a
    longest run of rows in that order: one prompt, or a few neighbours, never a part of one.
    """
    first, second = torch.combinations(torch.arange(len(NAMES))).unbind(-1)
    said = torch.tensor([[ord(mark) for mark in word] for word in OUTCOMES.split()])
    blocks = torch.zeros(len(said), len(NAMES), len(NAMES), dtype=torch.float64)
    blocks[:, first, second] = (said == ord("1")).double()
    blocks[:, second, first] = (said == ord("2")).double()
    ties = torch.zeros(len(NAMES), len(NAMES), dtype=torch.float64)
    ties[first, second] = ties[second, first] = (said == ord("0")).double().sum(0)
    return PandaVotes(NAMES, blocks.sum(0), ties, blocks, unanimous=879)
