import subprocess
import sys
from pathlib import Path

import pytest

from serve.errors import ConfigError
from serve.learn.recipes import RECIPES, Made, Trained, prepare, recipes_for, train


def test_an_unknown_recipe_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=", ".join(sorted(RECIPES))):
        train("nothing", tmp_path, None, lambda done, text: None)


def test_what_is_missing_is_trained_fastest_first_and_once():
    missing = ["digits-generate", "digits-large", "digits-vae", "churn", "digits"]
    assert recipes_for(missing) == ["digits", "digits-vae", "digits-large"]
    assert recipes_for(["churn"]) == []


def test_recipes_are_listed_without_waiting_for_keras():
    code = "import sys, serve.learn.recipes; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_prepared_and_knows_how_long_it_trains(name):
    recipe = prepare(name)
    assert recipe.EPOCHS >= 1
    assert callable(recipe.train)


def test_a_training_is_handed_what_was_asked_for(monkeypatch, tmp_path):
    asked = []
    trained = Trained((Made("digits", tmp_path),), 1.0, 3, 0.1, "digits")
    monkeypatch.setattr(prepare("digits"), "train", lambda *args: asked.append(args) or trained)
    report = print
    assert train("digits", tmp_path, 3, report) is trained
    assert asked == [(tmp_path, 3, report)]


def test_the_folder_of_a_training_is_that_of_the_recipe_s_own_model():
    made = (Made("digits-vae", Path("vae")), Made("digits-generate", Path("generate")))
    assert Trained(made, 0.9, 1, 0.1, "digits").folder == Path("vae")
