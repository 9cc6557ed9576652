"""What optimizers that look at images are tested with: codes drawn as stripes, and features that read them off."""

import zlib

import numpy as np

from closedloop.interfaces import Space, Units


class Stripes:
    """A generator: each number of a code is the level of a stripe; differentiable, unless it is to be screened."""

    name = "stripes"

    def __init__(self, space: Space, smooth: bool = True, each: int = 2) -> None:
        self.space, self.resolution, self._each = space, space.dim * each, each
        if smooth:
            self.forward = self._forward

    def _level(self, codes):
        return (codes - self.space.center) / (8 * self.space.scale) + 0.5

    def __call__(self, codes):
        level = np.clip(self._level(np.asarray(codes)), 0, 1).astype(np.float32)
        rows = np.repeat(level, self._each, 1)[:, None, :, None]
        return np.broadcast_to(rows, (len(codes), 3, self.resolution, self.resolution)).copy()

    def _forward(self, codes):
        import torch

        center = torch.as_tensor(self.space.center, dtype=codes.dtype)
        level = ((codes - center) / (8 * self.space.scale) + 0.5).clamp(0, 1)
        rows = level.repeat_interleave(self._each, 1)[:, None, :, None]
        return rows.expand(len(codes), 3, self.resolution, self.resolution)


class Levels:
    """Features: the level of each stripe, and its square."""

    name = "levels"
    torch_device = "cpu"

    def __init__(self, count: int) -> None:
        self.units = Units.numbered("levels", 2 * count)
        self._count = count

    def record(self, images):
        level = images[:, 0, :: images.shape[2] // self._count, 0].astype(np.float32)
        return np.concatenate([level, (level - 0.5) ** 2], 1)

    def forward(self, x):
        import torch

        level = x[:, 0, :: x.shape[2] // self._count, 0]
        return torch.cat([level, (level - 0.5) ** 2], 1)


class Nothing(Levels):
    """Features that say nothing of the image: random numbers of its bytes."""

    name = "nothing"

    def record(self, images):
        found = [np.random.default_rng(zlib.crc32(image.tobytes())).random(2 * self._count) for image in images]
        return np.array(found, np.float32).reshape(len(images), -1)

    def forward(self, x):
        import torch

        noise = torch.from_numpy(self.record(x.detach().numpy()))
        return noise + 0 * x.sum((1, 2, 3))[:, None]
