"""``unrolled bench``: training speed beside other ways to train the same model.

- `task`: the work that all do, and its operations;
- `race`: turns, and the clock; `results`: what the timings say; `tables`: for people;
- `competitors`: the list; ``<framework>.py``: their code; `ours`: the project's own;
- `limit`: the bare matrix product that all are measured by;
- `training`: the tables to measure; `command`: the command line's side.

To let something else be measured in the same way, make `race.Entrant`s of it and hand a
`race.Race` to `race.run`; to add a way to train, `competitors.register` it.
"""
