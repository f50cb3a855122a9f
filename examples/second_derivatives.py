"""What does it take to differentiate twice?"""

import torch

from unrolled import torch as unrolled


def main() -> None:
    X, y = unrolled.SyntheticRegressionData([2, -3.4], 4.2, seed=0).X[:100], torch.zeros(100, 1)
    model = unrolled.LinearRegressionScratch(2, lr=0.03, seed=0)
    loss = model.loss(model(X), y)

    (once,) = torch.autograd.grad(loss, model.w, create_graph=True)
    print(f"first derivative of the loss by w: shape {tuple(once.shape)}")
    rows = [torch.autograd.grad(g, model.w, retain_graph=True)[0].flatten() for g in once.flatten()]
    hessian = torch.stack(rows)
    print(f"second derivative: shape {tuple(hessian.shape)}, equal to X'X / n up to ", end="")
    print(f"{(hessian - X.T @ X / len(X)).abs().max().item():.0e}")

    loss = model.loss(model(X), y)
    (once,) = torch.autograd.grad(loss, model.w)  # without create_graph
    print(f"without create_graph the first derivative is a mere number: {once.requires_grad=}")
    print("Differentiating twice needs the graph of the first backward pass, and as many passes")
    print("as there are parameters: d^2 numbers for d of them, which is why training uses one.")


if __name__ == "__main__":
    main()
