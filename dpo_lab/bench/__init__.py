"""The benchmark beside TRL's DPOTrainer: `dpo-lab bench`.

shapes      models from a config, pairs of random tokens with lengths like those of HH
contenders  who is timed, and what is the same for all
rival       TRL's trainer; ours: this library's trainer, and bare loops for the ladder
jobs        one contender in a process of its own
floors      the arithmetic that a step needs, and how fast this machine multiplies
command     checks that all train alike, then times them in turn
tables      what the small benchmarks in bench/ measured
report      numbers, tables and verdicts out of what was measured
"""
