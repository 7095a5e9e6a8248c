"""The image in an emulated machine: booted as it is, looked at, used, updated and cut off."""
