"""A whole build: each step takes what the one before it made, or what an earlier build left."""

import fcntl
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from image.build import bundle, disk, initramfs, keeping, keys, root, tools, tree, wheels
from image.build.faults import BuildFault
from image.build.keys import SigningKeys
from image.build.profile import Mirrors, Profile
from image.build.progress import Progress
from image.build.tools import Tools
from image.build.version import Version

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OVERLAY = REPOSITORY / "image/overlay"


def build_folder() -> Path:
    named = os.environ.get("RAILTIX_IMAGE_FOLDER")
    return Path(named).resolve() if named else REPOSITORY / "build/image"


@dataclass(frozen=True)
class Wanted:
    """What a build is asked for; without keys, this checkout's development keys sign."""

    profile: Profile
    mirrors: Mirrors
    version: Version
    keys: SigningKeys | None = None
    overlays: Sequence[Path] = ()


@dataclass(frozen=True)
class Base:
    """What takes minutes and stays the same from build to build."""

    tools: Tools
    root: Path
    initramfs: Path
    libraries: Path
    wheels: Path


class Build:
    """One build at a time in a folder."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.log = folder / "build.log"
        self.progress = progress
        self._kept = keeping.Kept(folder / "cache", progress)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Holds the folder's lock, and begins a new log."""
        tools.check_host()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.say("  waiting for another build in this folder ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.log.write_bytes(b"")
            yield

    def development_keys(self) -> SigningKeys:
        return keys.development(self.folder / "keys")

    def make_tools(self, mirrors: Mirrors) -> Tools:
        key = tools.key(mirrors)
        if not (self.folder / f"cache/tools-{key}").exists():
            tools.check_room(self.folder, gigabytes=8)
        made = self._kept.get(
            "tools tree (Debian 13)", "tools", key, lambda at: tools.make(at, mirrors, self.log)
        )
        link = self.folder / "tools"
        keeping.remove(link)
        link.symlink_to(made.relative_to(self.folder))
        return Tools(made, self.log)

    def make_base(self, profile: Profile, mirrors: Mirrors) -> Base:
        """Tools, packages, initramfs and wheels; all of it from the cache when nothing changed."""
        if profile.needs_archive and not (mirrors.archive and mirrors.archive_keyring):
            raise BuildFault(
                f"the profile {profile.name} takes packages from the Raspberry Pi archive",
                "Name it: --archive URL --archive-keyring FILE.",
            )
        its_tools = self.make_tools(mirrors)
        root_key = root.key(profile, mirrors)
        scratch = self.folder / "work"
        its_root = self._kept.get(
            "root file system (Debian's packages, arm64)",
            f"root-{profile.name}",
            root_key,
            lambda at: root.make(at, profile, mirrors, its_tools, scratch=scratch, log=self.log),
        )
        its_initramfs = self._kept.get(
            "initramfs",
            f"initramfs-{profile.name}",
            initramfs.key(profile, root_key),
            lambda at: initramfs.make(at, profile, its_root, its_tools, scratch),
        )
        wheels_key = wheels.key(REPOSITORY)
        its_wheels = self._kept.get(
            "firmware's wheels",
            "wheels",
            wheels_key,
            lambda at: wheels.make(at, REPOSITORY, its_tools, self.log),
        )
        libraries = self._kept.get(
            "firmware's packages, compiled",
            "libraries",
            tree.libraries_key(wheels_key),
            lambda at: tree.make_libraries(at, its_wheels, its_tools, self.log),
        )
        return Base(its_tools, its_root, its_initramfs, libraries, its_wheels)

    def make_slot(self, wanted: Wanted, base: Base, work: Path, keyring: Path) -> Path:
        """The tree and its ext4, in the work folder."""
        progress = self.progress
        epoch = wanted.version.epoch
        with progress.step("firmware"):
            own = wheels.make_own(work / "own", REPOSITORY, epoch, self.log)
        with progress.step("overlay, users, units"):
            tree.put_together(
                work / "tree",
                tree.Parts(
                    base.root,
                    base.initramfs,
                    base.libraries,
                    own,
                    keyring,
                    (OVERLAY, *wanted.overlays),
                ),
                wanted.profile,
                base.tools,
                version=wanted.version.text,
                repository=REPOSITORY,
                epoch=epoch,
                log=self.log,
            )
        with progress.step("ext4"):
            return disk.make_root(work, base.tools, epoch)

    def make_bundle(
        self, wanted: Wanted, base: Base, work: Path, signing: SigningKeys, name: str
    ) -> Path:
        with self.progress.step("bundle (signed)"):
            made = bundle.make(
                work,
                name,
                bundle.manifest(
                    wanted.profile.compatible,
                    wanted.version.text,
                    f"RailTix Credits appliance, {wanted.profile.title}",
                ),
                signing,
                base.tools,
                epoch=wanted.version.epoch,
            )
        return _deliver(made, self.folder)

    def make_image(self, wanted: Wanted, base: Base, work: Path, name: str) -> Path:
        with self.progress.step("boot partition"):
            disk.make_boot(work, wanted.profile, base.tools, wanted.version.epoch)
        with self.progress.step("image"):
            made = disk.make_disk(work, name, base.tools)
        return _deliver(made, self.folder)


def _deliver(made: Path, folder: Path) -> Path:
    at = folder / made.name
    made.replace(at)
    return at


def stem(wanted: Wanted) -> str:
    return f"railtix-{wanted.profile.name}-{wanted.version.text}"
