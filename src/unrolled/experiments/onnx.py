"""Export the language model of a run as an ONNX file.

ONNX has recurrent operators of its own, with the same formulas as ours, so the graph is
written directly from the saved parameters: Gather the one-hot rows, RNN, GRU or LSTM for
each layer, then the linear layer. Batch and sequence length stay open.

Reference: https://onnx.ai/onnx/operators, operator set 14 and later.
"""

from pathlib import Path
from typing import Any

import numpy as np

from unrolled.errors import RunError
from unrolled.experiments.language_model import checked, open_run
from unrolled.models.weights import GATE_ORDERS, join_gates, layer_prefix, without_prefix
from unrolled.writing import write_whole

OPSET = 17
IR_VERSION = 8  # of that operator set's time, so that older runtimes read the file


def export(run: Path, file: Path) -> None:
    """Write the language model of a run as ONNX.

    The graph takes ids ``X (B, T)`` and for each layer a state ``(1, B, H)``, named
    ``H0_in``, ``H1_in``, ... (LSTM: ``C0_in``, ... too), zeros at the start of a text. It
    gives logits ``(T * B, V)``, time-major, and the states after it, ``H0_out``, ...

    Raises:
        RunError: the run is damaged or no language model; the file exists already or
            cannot be written; the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise RunError("export needs the package onnx; install it: pip install onnx") from None
    if file.exists():
        raise RunError(f"'{file}' exists already; choose another file, or remove it")
    directory, config = open_run(run)
    values, tokens = directory.load_model(), directory.read_json("vocabulary.json")
    with directory.telling_damage():
        settings = checked(config, values, tokens)
    model = build(values, settings.model, settings.num_layers)
    onnx.checker.check_model(model, full_check=True)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, model.SerializeToString())
    except OSError as error:
        raise RunError(f"'{file}' cannot be written: {error.strerror}") from None


def build(values: dict[str, Any], cell: str, num_layers: int) -> Any:
    """The ONNX model of parameters under the from-scratch names."""
    from onnx import TensorProto, helper, numpy_helper

    H, V = values["W_hq"].shape
    # the graph computes in this type, whatever the file holds
    values = {name: value.astype(np.float32) for name, value in values.items()}
    constants: dict[str, Any] = {
        "rows": np.eye(V, dtype=np.float32),
        "W_hq": values["W_hq"],
        "b_q": values["b_q"],
        "flat": np.array([-1, H], dtype=np.int64),
        "directions": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["X"], ["ids"], perm=[1, 0]),  # (T, B)
        helper.make_node("Gather", ["rows", "ids"], ["below0"]),  # one-hot (T, B, V)
    ]
    attributes: dict[str, Any] = {"linear_before_reset": 1} if cell == "gru" else {}
    parts = ("H", "C") if cell == "lstm" else ("H",)
    states = [f"{part}{layer}" for layer in range(num_layers) for part in parts]
    for layer in range(num_layers):
        weights = without_prefix(layer_prefix(layer, num_layers), values)
        W, R, b_x, b_h = join_gates(cell, GATE_ORDERS["onnx"][cell], weights)
        constants |= {
            f"W{layer}": W.T[None],  # (1, G * H, D)
            f"R{layer}": R.T[None],  # (1, G * H, H)
            f"B{layer}": np.concatenate([b_x, b_h])[None],  # (1, 2 * G * H)
        }
        nodes += [
            helper.make_node(
                cell.upper(),
                [f"below{layer}", f"W{layer}", f"R{layer}", f"B{layer}", ""]
                + [f"{part}{layer}_in" for part in parts],
                [f"all{layer}"] + [f"{part}{layer}_out" for part in parts],
                hidden_size=H,
                **attributes,
            ),
            # (T, 1, B, H) -> (T, B, H)
            helper.make_node("Squeeze", [f"all{layer}", "directions"], [f"below{layer + 1}"]),
        ]
    nodes += [
        helper.make_node("Reshape", [f"below{num_layers}", "flat"], ["hidden"]),  # (T * B, H)
        helper.make_node("MatMul", ["hidden", "W_hq"], ["scores"]),
        helper.make_node("Add", ["scores", "b_q"], ["logits"]),  # (T * B, V)
    ]

    def state_info(end: str) -> list[Any]:
        shape = [1, "B", H]
        return [helper.make_tensor_value_info(s + end, TensorProto.FLOAT, shape) for s in states]

    graph = helper.make_graph(
        nodes,
        "unrolled",
        inputs=[
            helper.make_tensor_value_info("X", TensorProto.INT64, ["B", "T"]),
            *state_info("_in"),
        ],
        outputs=[
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["T*B", V]),
            *state_info("_out"),
        ],
        initializer=[
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in constants.items()
        ],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
