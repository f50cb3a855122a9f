"""What if the batch size does not divide the number of examples?"""

from unrolled import torch as unrolled


def main() -> None:
    data = unrolled.SyntheticRegressionData([2, -3.4], 4.2, num_train=1000, batch_size=32, seed=0)
    sizes = [len(X) for X, _ in data.train_dataloader()]
    print(
        f"1000 examples in minibatches of 32: {len(sizes)} minibatches, the last has {sizes[-1]}."
    )
    print("It is used like the others. Its gradient is a mean over fewer examples, so it is")
    print("noisier, and each of its examples moves the weights 4 times as far as elsewhere;")
    print("the loss of the epoch weighs every example alike.")


if __name__ == "__main__":
    main()
