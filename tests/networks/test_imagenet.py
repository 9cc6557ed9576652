from closedloop.networks.imagenet import imagenet_classes
from closedloop.networks.torchvision import import_torchvision


def test_the_classes_are_those_of_torchvision():
    weights = import_torchvision().models.get_model_weights("resnet18").DEFAULT
    assert imagenet_classes() == tuple(weights.meta["categories"])
    assert (imagenet_classes()[1], imagenet_classes()[293]) == ("goldfish", "cheetah")
