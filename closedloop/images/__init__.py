"""Images: sets of them, their size, their 8 bits, and how natural they look."""

from closedloop.images.eight_bit import encode_png, from_bytes, quantize, to_bytes, write_png
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, as_image_set, folder_images, natural_references, read_folder, read_image

__all__ = [
    "ImageSet",
    "as_image_set",
    "encode_png",
    "folder_images",
    "from_bytes",
    "natural_references",
    "quantize",
    "read_folder",
    "read_image",
    "resize_images",
    "to_bytes",
    "write_png",
]
