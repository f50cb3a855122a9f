"""``unrolled bench``: time training steps of one model, here and in other frameworks, in turns.

- `task`: the work that all do; `competitors`: the list; ``<framework>.py``, `ours`: their code;
- `race`: turns, and the clock; `limit`: the bare matrix product that all are measured by;
- `results`: what the timings say; `tables`: for people; `plan`, `command`: the command line's side.

To let something else be measured in the same way, make `race.Entrant`s of it and hand a
`race.Race` to `race.run`; to add a way to train, add it to `competitors.COMPETITORS`.
"""
