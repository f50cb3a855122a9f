import pytest

from unrolled.hyperparameters import HyperParameters, add_to_class


class Plain(HyperParameters):
    def __init__(self, a, b=2, *, c=3):
        self.save_hyperparameters()


def test_every_argument_becomes_an_attribute_and_a_hyperparameter():
    model, other = Plain(1, c=30), Plain(2)
    assert (model.a, model.b, model.c, other.a) == (1, 2, 30, 2)
    assert model.hparams is not other.hparams
    assert model.hparams == {"a": 1, "b": 2, "c": 30}


def test_ignored_names_underscores_self_locals_and_deleted_arguments_are_left_out():
    class Selective(HyperParameters):
        def __init__(self, a, b, gone, _hidden=0):
            local = a  # no argument: not kept
            del gone
            self.save_hyperparameters(ignore=["b"])
            self.total = local, b

    value = [1, 2]
    model = Selective(value, 2, 5, _hidden=3)
    assert model.hparams == {"a": [1, 2]}
    assert model.a is model.hparams["a"] is value  # the very object
    assert not any(hasattr(model, name) for name in ("b", "gone", "_hidden", "self", "local"))
    assert model.total == (value, 2)


@pytest.mark.parametrize("ignore", [["a", "b"], ("a", "b"), {"a", "b"}, iter(["b", "a"])])
def test_ignore_takes_any_collection_of_names(ignore):
    class Model(HyperParameters):
        def __init__(self, a, b, c):
            self.save_hyperparameters(ignore=ignore)

    assert Model(1, 2, 3).hparams == {"c": 3}


def test_keyword_extras_are_kept_one_by_one_and_positional_ones_as_a_tuple():
    class Model(HyperParameters):
        def __init__(this, a, *sizes, **kwargs):  # noqa: N805 (self may have another name)
            this.save_hyperparameters(ignore=["dropped"])

    model = Model(1, 3, 4, lr=0.1, dropped=2, _private=3)
    assert model.hparams == {"a": 1, "sizes": (3, 4), "lr": 0.1}
    assert model.lr == 0.1
    assert not hasattr(model, "kwargs")


class Parent(HyperParameters):
    def __init__(self, lr, sigma=0.01):
        self.save_hyperparameters()


class Child(Parent):
    def __init__(self, num_inputs, lr, *layers, _cache=None, **extras):
        super().__init__(lr)


class Grandchild(Child):
    def __init__(self, depth):
        super().__init__(5, 0.5, "x", wide=True)


def test_a_call_sees_the_arguments_of_every_class_below():
    assert Grandchild(7).hparams == {
        "lr": 0.5,
        "sigma": 0.01,
        "num_inputs": 5,
        "layers": ("x",),
        "wide": True,
        "depth": 7,
    }


def test_the_parents_value_counts_where_both_have_a_name():
    class Doubling(Parent):
        def __init__(self, lr):
            super().__init__(2 * lr)

    model = Doubling(0.1)
    assert model.lr == model.hparams["lr"] == 0.2


def test_a_default_of_the_class_is_no_method_and_gives_way():
    class Base(HyperParameters):
        lr = 0.5

        def __init__(self):
            self.save_hyperparameters()

        def step(self):
            return "a method"

        @property
        def width(self):
            return 7

    class Model(Base):
        def __init__(self, lr=0.1, step=3, width=9):
            super().__init__()

    model = Model(lr=0.3)
    assert (model.lr, model.step(), model.width) == (0.3, "a method", 7)
    assert model.hparams == {"lr": 0.3, "step": 3, "width": 9}


def test_a_later_ignore_takes_back_what_a_parent_kept():
    class Forgetting(Parent):
        def __init__(self, lr, text):
            super().__init__(lr)
            self.save_hyperparameters(ignore=["text", "never_there"])

    model = Forgetting(0.1, "long")
    assert model.hparams == {"lr": 0.1, "sigma": 0.01}
    assert not hasattr(model, "text")


def test_a_parents_ignore_holds_for_the_subclass_arguments():
    class Ignoring(HyperParameters):
        def __init__(self, a):
            self.part = Plain(1)  # which does not take the arguments of its owner
            self.save_hyperparameters(ignore=["text"])

    class WithText(Ignoring):
        def __init__(self, a, text, width):
            super().__init__(a)

    model = WithText(1, "long", 3)
    assert model.hparams == {"a": 1, "width": 3}
    assert model.part.hparams == {"a": 1, "b": 2, "c": 3}


def test_arguments_used_in_closures_are_kept():
    class Model(HyperParameters):
        def __init__(self, a, b):
            self.add = lambda: self.a + b
            self.save_hyperparameters()

    model = Model(1, 2)
    assert model.hparams == {"a": 1, "b": 2}
    assert model.add() == 3


def test_a_name_kept_twice_has_the_last_value():
    class Twice(HyperParameters):
        def __init__(self, a):
            self.save_hyperparameters()
            a = a + 1
            self.save_hyperparameters()

    assert Twice(1).hparams == {"a": 2}


def test_add_to_class_gives_a_method_to_existing_and_new_instances():
    class Model:
        b = 1

        def plus(self, n):
            return "the method that is replaced"

    before = Model()

    @add_to_class(Model)
    def plus(self, n):
        return self.b + n

    assert before.plus(2) == Model().plus(2) == 3
    assert plus(before, 5) == 6  # the name in the notebook stays the function


def test_a_constructor_added_later_keeps_its_arguments():
    class Model(HyperParameters):
        pass

    @add_to_class(Model)
    def __init__(self, width, lr=0.1):  # noqa: N807
        self.save_hyperparameters()

    assert Model(3).hparams == {"width": 3, "lr": 0.1}


def test_what_a_subclass_ignores_stays_ignored_when_a_parent_saves():
    class Parent(HyperParameters):
        def __init__(self, a):
            self.save_hyperparameters()

    class Child(Parent):
        def __init__(self, a, text):
            self.save_hyperparameters(ignore=["text"])
            super().__init__(a)

    assert Child(1, "long").hparams == {"a": 1}
