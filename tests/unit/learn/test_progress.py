import numpy as np
import pytest


@pytest.fixture
def seen():
    """What a training of two epochs of three batches reported, by what it measured."""
    import keras

    from serve.learn.progress import ReportProgress

    def train(metrics, held_out):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse", metrics=metrics)
        x, y = np.ones((6, 2), np.float32), np.ones((6, 1), np.float32)
        seen = []
        report = ReportProgress(2, lambda done, text: seen.append((done, text)))
        held_out = (x, y) if held_out else None
        model.fit(
            x, y, batch_size=2, epochs=2, validation_data=held_out, callbacks=[report], verbose=0
        )
        return seen

    return train


def test_every_batch_is_a_step_from_nothing_to_all(seen):
    parts = [done for done, _ in seen([], held_out=False)]
    assert parts == pytest.approx([1 / 6, 2 / 6, 3 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])


def test_the_line_names_the_epoch_and_what_the_last_one_reached(seen):
    texts = [text for _, text in seen(["accuracy"], held_out=True)]
    assert texts[:3] == ["epoch 1/2"] * 3
    assert texts[3].startswith("epoch 1/2  held-out accuracy ")
    assert texts[3].endswith("%")
    for text in texts[4:-1]:
        assert text == texts[3].replace("epoch 1", "epoch 2")
    assert texts[-1].startswith("epoch 2/2  held-out accuracy ")


def test_without_an_accuracy_the_line_has_the_loss_and_without_that_the_epoch_alone(seen):
    assert seen([], held_out=True)[-1][1].startswith("epoch 2/2  held-out loss ")
    assert seen([], held_out=False)[-1][1] == "epoch 2/2"


def test_a_training_without_a_known_number_of_batches_never_passes_its_epoch():
    from serve.learn.progress import ReportProgress

    parts = []
    report = ReportProgress(1, lambda done, text: parts.append(done))
    report.set_params({"steps": None})
    report.on_epoch_begin(0)
    for batch in range(3):
        report.on_train_batch_end(batch)
    assert max(parts) <= 1
