from tests.unit.learn.conftest import IMAGE, PROBABILITIES, ends, loaded


def test_the_network_goes_from_an_image_to_the_probabilities_of_ten_classes():
    from serve.learn import digits_small

    assert ends(digits_small.network()) == ([IMAGE], [PROBABILITIES])


def test_the_first_layer_of_the_cascade_has_its_signature(trained_on_few):
    folder = trained_on_few("digits-small")
    _, inputs, outputs = loaded(folder)
    assert inputs == [("image", "FP32", (-1, 28, 28, 1))]
    assert outputs == {"probabilities": (-1, 10)}
    assert {"learning_curves.png", "confusion.png"} <= {path.name for path in folder.iterdir()}


def test_the_small_network_costs_a_twentieth_of_the_large_one_at_most():
    from serve.engines.complexity import complexity_of
    from serve.learn import digits_large, digits_small
    from serve.types import Signature, TensorSpec

    image = TensorSpec("image", "FP32", (-1, 28, 28, 1))
    flops = []
    for recipe in (digits_small, digits_large):
        network = recipe.network()
        call = lambda tensors, network=network: network(tensors["image"], training=False)  # noqa: E731
        flops.append(complexity_of(call, (), Signature("s", (image,), (), True)).flops)
    assert flops[0] * 20 <= flops[1]
