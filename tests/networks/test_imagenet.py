import numpy as np
import pytest

from closedloop.errors import ClosedLoopError, InvalidArgumentError, UnknownNameError
from closedloop.networks.imagenet import class_index, class_words, imagenet_classes, imagenet_wordnet, match_classes
from closedloop.networks.torchvision import import_torchvision


def test_the_classes_are_those_of_torchvision():
    weights = import_torchvision().models.get_model_weights("resnet18").DEFAULT
    assert imagenet_classes() == tuple(weights.meta["categories"])
    assert (imagenet_classes()[1], imagenet_classes()[293]) == ("goldfish", "cheetah")


IMAGENET = imagenet_classes()


def test_wordnet_ids_stand_in_the_same_order():
    known = imagenet_wordnet()
    assert len(known) == 1000
    assert [k for k, _ in known] == sorted(k for k, _ in known)
    assert known[0] == ("n01440764", "tench, Tinca tinca")


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("n01440764", 0),
        ("n01440764_tench", 0),
        ("tench", 0),
        ("Tinca_tinca", 0),
        ("Great White  Shark", 2),
        ("crane", 517),
        ("n02012849", 134),
        ("maillot", 638),
        ("n03710721", 639),
    ],
)
def test_a_label_means_a_class_of_imagenet(label, number):
    assert match_classes([label], IMAGENET) == {label: number}


def test_a_label_means_a_class_of_another_network():
    classes = ["tabby, tabby cat", "dog", "", "tench"]
    assert match_classes(["tabby cat", "DOG", "2", "n01440764"], classes) == {
        "tabby cat": 0, "DOG": 1, "2": 2, "n01440764": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["tenche", "tenche", "n99999999"], IMAGENET, r"2 of 2 .* 'tenche' \(2 images\), 'n99999999' \(1 i.*tench"),
        (["cran"], IMAGENET, "'cran'"),
        (["panda bear"], ["cat"], "'panda bear'"),
        (["cat"], ["cat, big", "cat, small"], r"'cat' means several classes: 0 \('cat, big'\), 1 \('cat, small'\)"),
    ],
)  # fmt: skip
def test_what_means_no_class_is_named(labels, classes, message):
    with pytest.raises(ClosedLoopError, match=message):
        match_classes(labels, classes)


def test_a_wordnet_id_has_a_name():
    assert class_words("n01440764_tench") == class_words("n01440764") == "tench"
    assert class_words("n02012849") == "crane (n02012849)"  # a bird, and a machine
    assert class_words("n00000000") == "n00000000"
    assert class_words("red fox") == "red fox"


def test_classes_by_name_and_index():
    assert class_index("goldfish") == class_index("Goldfish") == class_index(1) == class_index(np.int64(1)) == 1
    assert class_index("giant_panda") == class_index("giant panda") == 388


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("goldfisch", r"no ImageNet class 'goldfisch'\. Did you mean 'goldfish'"),
        (1000, "by name or 0 to 999, got 1000"),
        (-1, "got -1"),
        (True, "got True"),
        (1.5, r"got 1\.5"),
    ],
)
def test_classes_that_are_not_there(label, message):
    with pytest.raises(UnknownNameError, match=message):
        class_index(label)


def test_a_class_by_any_of_its_names():
    assert class_index("n01443537") == class_index("Carassius auratus") == 1


def test_a_name_of_several_classes_is_refused():
    """A dog and a garment, which differ in a capital."""
    with pytest.raises(InvalidArgumentError, match=r"several ImageNet classes are called 'Cardigan'.*264 \(.*474 \("):
        class_index("Cardigan")
