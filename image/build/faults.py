"""What can go wrong in a build, each with what to do about it."""


class BuildFault(Exception):  # noqa: N818 -- like the faults of every other room
    """A build that cannot go on; `remedy` says what a person does next."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class StepFailed(BuildFault):
    """A program of the build ended with an error; the end of what it said is in `said`."""

    def __init__(self, what: str, said: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.said = said


# What a program says, and what a person can do about it; the first match counts.
_REMEDIES = (
    (
        ("No space left on device", "ENOSPC", "disk full", "Disk quota exceeded"),
        (
            "The disk is full: free some room, or name another folder with RAILTIX_IMAGE_FOLDER"
            " (a build wants 8 GB; `make clean` gives back what earlier ones took)."
        ),
    ),
    (
        ("Temporary failure resolving", "Could not resolve", "Could not connect", "Failed to fetch",
         "Connection timed out", "Network is unreachable", "Unable to connect", "InRelease"),
        (
            "Debian's mirror was not reached: look at this machine's network and apt's proxy"
            " (/etc/apt/apt.conf.d), or name another one with --mirror."
        ),
    ),
    (
        ("No matching distribution", "Max retries exceeded", "NewConnectionError",
         "Could not find a version", "ReadTimeoutError", "ProxyError"),
        (
            "The Python package index was not reached, or has no such wheel: look at this"
            " machine's network and at `pip config list`."
        ),
    ),
    (
        ("DO NOT MATCH THE HASHES",),
        (
            "A package is not the one that was locked, and nothing was installed: find out why"
            " before you lock anew."
        ),
    ),
    (
        ("Exec format error", "cannot execute binary", "can't run arm64"),
        (
            "This kernel cannot run arm64 programs: load its module by `modprobe binfmt_misc`, as"
            " root and outside a container, and build again."
        ),
    ),
    (
        ("Operation not permitted", "unshare failed", "must be superuser"),
        (
            "The build needs root and its own mounts: run it as root, in a container with"
            " --privileged."
        ),
    ),
)  # fmt: skip


def remedy_for(said: str) -> str:
    """What to do about a program that failed saying this."""
    for signs, remedy in _REMEDIES:
        if any(sign in said for sign in signs):
            return remedy
    return "Its last lines are above; the whole of them is in the log it names."
