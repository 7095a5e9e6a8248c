"""Emulation only: picamera2 imports a screen's library, which Debian does not have."""


class PixelFormat:
    RGB888 = BGR888 = XRGB8888 = XBGR8888 = ARGB8888 = ABGR8888 = YUV420 = YVU420 = MJPEG = None
    NV12 = YUYV = UYVY = YVYU = VYUY = None
