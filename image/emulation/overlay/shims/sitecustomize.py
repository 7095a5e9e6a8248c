"""Emulation only: what a Pi would say of itself and of its camera, said in its place.

The firmware's drivers, gpiozero, picamera2 and libcamera run as they are in the image.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

PI_4_MODEL_B = 0xC03114


def _tell_revision(module: ModuleType) -> None:
    module.get_pi_revision = lambda: PI_4_MODEL_B


def _see_virtual_camera(module: ModuleType) -> None:
    """libcamera's virtual camera gives one stream of NV12, and takes no control."""
    import numpy as np
    from picamera2 import request
    from picamera2.allocators import LibcameraAllocator

    class VirtualCamera(module.Picamera2):
        def _get_raw_modes(self):
            return [{"format": "NV12", "size": (640, 360)}]

        def __init__(self, *args, **named):
            super().__init__(*args, **named)
            self.allocator = LibcameraAllocator(self.camera)

        def create_video_configuration(self, *, main=None, lores=None, controls=None, **others):
            main = {**(main or {}), "format": "NV12"}
            return super().create_video_configuration(
                main=main, lores=None, raw=None, controls={}, **others
            )

    def make_array(self, name):
        # The Y plane is as it would be in YUV420, and nobody looks at the others.
        config = self.config["main"]
        stride = config["stride"]
        return np.asarray(self.make_buffer("main")).reshape(-1, stride)

    # Debian's kernel has no heap for frames: libcamera gives its own.
    module.DmaAllocator = type("NoAllocator", (), {"close": lambda self: None})
    module.Picamera2 = VirtualCamera
    request.CompletedRequest.make_array = make_array


_MENDED = {
    "gpiozero.pins.local": _tell_revision,
    "picamera2.picamera2": _see_virtual_camera,
}


class _Mending(Loader):
    def __init__(self, loader: Loader, name: str) -> None:
        self._loader, self._name = loader, name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _MENDED[self._name](module)


class _Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in _MENDED:
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Mending(spec.loader, name)
        return spec


sys.meta_path.insert(0, _Finder())
