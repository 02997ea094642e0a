"""A class on one server: whose folder it is, what may be written there, and what is said where it may not.

The users and rights are real: children run as another user (setpriv) in folders of root's. Where that
cannot be had, these tests are skipped by name.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers import ROOT

resource = pytest.importorskip("resource", reason="users, rights and limits as Linux and macOS have them")
ALICE, BOB = 54321, 54322
SETPRIV = ["setpriv", "--clear-groups", "--reuid", "{0}", "--regid", "{0}", "--inh-caps=-all"]
MAKE = """
from pathlib import Path
from helpers import made
def make(part):
    (part / "weights.bin").write_bytes(bytes(100_000))
"""
FOLDER = MAKE + "print(made.folder('models', 'x', make, 'the folder of x'))\n"
SAID = """
import sys
try:
    exec(sys.argv[1])
except OSError as e:
    sys.exit(f"{type(e).__name__}: {e.strerror or e}")
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
"""


def child(code, user=None, limits=None, **variables):
    """A process of a user that runs `code`, and ends with the sentence of its error."""
    known = {k: v for k, v in os.environ.items() if k not in ("COURSE_CACHE", "HOME", "MTEB_CACHE")}
    command = [part.format(user) for part in SETPRIV] if user else []
    command += [sys.executable, "-B", "-c", SAID, code]
    known |= {k: str(v) for k, v in variables.items()}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=known,
        preexec_fn=limits,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run(code, user=None, **variables):
    process = child(code, user, **variables)
    out, err = process.communicate(timeout=60)
    return out.strip(), err.strip()


def others_run_python():
    if not sys.platform.startswith("linux") or os.geteuid() or not shutil.which("setpriv"):
        return False
    out, _ = run("import filelock, helpers, os; print(os.geteuid(), os.access('helpers', os.W_OK))", ALICE)
    return out == f"{ALICE} False"


as_others = pytest.mark.skipif(
    not others_run_python(), reason="needs Linux, root, setpriv, and a Python that other users may run"
)


@pytest.fixture
def room():
    """A folder of root's that every user may look into, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="room-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def home(room, user):
    folder = room / f"home-{user}"
    folder.mkdir()
    os.chown(folder, user, user)
    return folder


def snapshot(folder):
    return sorted((str(f), f.lstat().st_mtime_ns, f.lstat().st_ino) for f in folder.rglob("*"))


@as_others
@pytest.mark.parametrize("umask", [0o022, 0o002], ids=oct)
def test_a_whole_folder_in_a_cache_of_roots_is_used_without_a_write(room, umask):
    shared = room / "cache"
    out, err = run(f"import os; os.umask({umask})\n{FOLDER}", COURSE_CACHE=shared)
    assert out == str(shared / "models" / "x"), err
    before = snapshot(shared)
    out, err = run(FOLDER, ALICE, COURSE_CACHE=shared, HOME=room / "no-home")
    assert (out, err) == (str(shared / "models" / "x"), "")
    assert snapshot(shared) == before


@as_others
def test_what_a_library_writes_for_its_owner_alone_can_be_read_by_the_class(room):
    code = MAKE.replace("def make(part):", "def make(part):\n    (part / 'weights.bin').touch(0o600)")
    out, err = run(code + FOLDER.removeprefix(MAKE), COURSE_CACHE=room / "cache")
    assert (Path(out) / "weights.bin").stat().st_mode & 0o777 == 0o644, err
    assert run(FOLDER, ALICE, COURSE_CACHE=room / "cache", HOME=room)[0] == out


@as_others
@pytest.mark.parametrize("damage", ["missing", "damaged", "unreadable"])
def test_what_a_read_only_cache_lacks_is_made_in_the_home_and_that_is_said(room, damage):
    shared, own = room / "cache", home(room, ALICE)
    run(FOLDER, COURSE_CACHE=shared)
    weights = shared / "models" / "x" / "weights.bin"
    if damage == "missing":
        shutil.rmtree(shared / "models" / "x")
    elif damage == "damaged":
        weights.write_bytes(b"x")
    else:
        weights.chmod(0o600)
    out, err = run(FOLDER, ALICE, COURSE_CACHE=shared, HOME=own)
    made = own / ".cache" / "embedding-models-course" / "models"
    assert out == str(made / "x")
    said = f"{shared / 'models'} belongs to root and you are user {ALICE}"
    assert err == f"{said}; what is not in it is made in {made}"
    again, _ = run(FOLDER, ALICE, COURSE_CACHE=shared, HOME=own)
    assert again == out


@as_others
def test_without_a_home_what_is_missing_is_one_sentence(room):
    shared = room / "cache"
    shared.mkdir()
    for where in ("/nonexistent", "/root"):
        out, err = run(FOLDER, ALICE, COURSE_CACHE=shared, HOME=where)
        assert out == "" and err.startswith("PermissionError: the course has no place to write to: "), err
        assert f"{shared} belongs to root and you are user {ALICE}" in err
        assert err.endswith("Set COURSE_CACHE to a folder of your own") and "\n" not in err
    out, err = run(FOLDER, ALICE, COURSE_CACHE=shared)  # no HOME, and a user in no list
    assert "the course has no place to write to" in err and "\n" not in err


@as_others
def test_a_read_only_course_folder_has_its_cache_in_the_home(room):
    own = home(room, ALICE)
    out, err = run("import helpers; print(helpers.cache())", ALICE, HOME=own)
    assert (out, err) == (str(own / ".cache" / "embedding-models-course"), "")


@as_others
def test_a_cache_that_cannot_be_made_says_which_folder_and_whose(room):
    _, err = run(FOLDER, ALICE, COURSE_CACHE=room / "a" / "b", HOME=home(room, ALICE))
    assert err == (
        f"PermissionError: COURSE_CACHE is {room / 'a' / 'b'}, which cannot be made: {room} belongs to root "
        f"and you are user {ALICE}. Set it to a folder of your own"
    )


def test_a_cache_that_is_a_file_is_one_sentence(room):
    (room / "file").touch()
    for place in (room / "file", room / "file" / "below"):
        _, err = run(FOLDER, COURSE_CACHE=place)
        assert err.startswith(f"NotADirectoryError: COURSE_CACHE is {place}, but {room / 'file'} is a file")


@pytest.mark.parametrize("variable", ["COURSE_CACHE", "COURSE_MODELS_DIR"])
def test_a_tilde_is_the_readers_home(room, variable):
    code = "import helpers; from helpers import models; print(helpers.cache(), models.originals())"
    out, err = run(code, HOME=room, **{variable: "~/x"})
    assert str(room / "x") in out.split(), err
    _, err = run(code, HOME=room, **{variable: "~nobody-of-this-name/x"})
    assert f"ValueError: {variable} is ~nobody-of-this-name/x, and there is no such home folder" in err
    assert not list(ROOT.glob("~*"))


@as_others
def test_two_users_share_a_cache_that_both_may_write(room):
    shared = room / "cache"
    shared.mkdir()
    shared.chmod(0o1777)
    own = {user: home(room, user) for user in (ALICE, BOB)}
    first, err = run(FOLDER, ALICE, COURSE_CACHE=shared, HOME=own[ALICE])
    assert first == str(shared / "models" / "x"), err
    assert (shared / "models").stat().st_mode & 0o7777 == 0o1777
    assert (shared / "models" / "x.lock").stat().st_mode & 0o666 == 0o666
    other = FOLDER.replace("'x'", "'y'")
    assert run(other, BOB, COURSE_CACHE=shared, HOME=own[BOB])[0] == str(shared / "models" / "y")
    assert run(FOLDER, BOB, COURSE_CACHE=shared, HOME=own[BOB]) == (first, "")
    assert not list(own[BOB].iterdir())


@as_others
@pytest.mark.parametrize("mode", [0o644, 0o600], ids=oct)
def test_a_lock_that_another_user_left_does_not_stop_the_second(room, mode):
    (room / "cache" / "models").mkdir(parents=True)
    for folder in (room / "cache", room / "cache" / "models"):
        folder.chmod(0o777)
    (room / "cache" / "models" / "x.lock").touch(mode)
    out, err = run(FOLDER, ALICE, COURSE_CACHE=room / "cache", HOME="/nonexistent")
    assert (out, err) == (str(room / "cache" / "models" / "x"), "")


@as_others
def test_a_damaged_folder_of_another_user_is_said(room):
    shared = room / "cache"
    shared.mkdir()
    shared.chmod(0o1777)
    folder = Path(run(FOLDER, ALICE, COURSE_CACHE=shared)[0])
    (folder / "weights.bin").write_bytes(b"x")
    _, err = run(FOLDER, BOB, COURSE_CACHE=shared)
    said, sentence = err.split("\n")
    assert said == "the folder of x is damaged (weights.bin is not what was written) and is made again"
    assert f"{folder} is damaged and cannot be removed ({folder} belongs to user {ALICE}" in sentence
    assert sentence.endswith("set COURSE_CACHE to a folder of your own")


@as_others
def test_clean_as_another_user_removes_nothing_of_roots(room):
    run(FOLDER, COURSE_CACHE=room / "cache")
    before = snapshot(room / "cache")
    clean = "from helpers import models; sys.exit(models.main(['clean']))"
    out, _ = run(clean, ALICE, COURSE_CACHE=room / "cache", COURSE_MODELS_DIR=room, HOME=home(room, ALICE))
    assert out.endswith("0 MB freed") and snapshot(room / "cache") == before


@as_others
def test_a_download_into_a_folder_of_roots_says_whose_it_is(room):
    (room / "models").mkdir()
    code = "from helpers import models; sys.exit(models.main(['download', 'bert-base-uncased']))"
    _, err = run(code, ALICE, COURSE_MODELS_DIR=room / "models", HOME=room)
    assert err == (
        f"bert-base-uncased: bert-base-uncased cannot be put into {room / 'models'}: {room / 'models'} belongs "
        f"to root and you are user {ALICE}. Set COURSE_MODELS_DIR to a folder of your own"
    )
    (room / "models" / ".partial").mkdir()
    _, err = run(code, ALICE, COURSE_MODELS_DIR=room / "models", HOME=room)
    assert f"{room / 'models' / '.partial'} belongs to root" in err and "\n" not in err


@as_others
def test_a_room_of_a_shared_cache_is_open_from_its_first_moment(room):
    """A break between making the folder and opening it to the others would shut them out for good."""
    (room / "cache").mkdir()
    (room / "cache").chmod(0o1777)
    killed = "from pathlib import Path; Path.rename = lambda *_: os._exit(137)\n"
    run(f"import os; {killed}{FOLDER}", ALICE, COURSE_CACHE=room / "cache")
    assert not (room / "cache" / "models").exists()
    assert run(FOLDER, BOB, COURSE_CACHE=room / "cache") == (str(room / "cache" / "models" / "x"), "")


def test_ten_kernels_at_once_make_one_folder(room):
    ten = [child(FOLDER, COURSE_CACHE=room / "cache", HOME=room) for _ in range(10)]
    said = {process.communicate(timeout=60) for process in ten}
    assert said == {(f"{room / 'cache' / 'models' / 'x'}\n", "")}
    assert sorted(f.name for f in (room / "cache" / "models").iterdir()) == ["x", "x.lock"]


@as_others
def test_ten_users_at_once_make_one_folder(room):
    (room / "cache").mkdir()
    (room / "cache").chmod(0o1777)
    ten = [child(FOLDER, ALICE + k, COURSE_CACHE=room / "cache") for k in range(10)]
    said = {process.communicate(timeout=60) for process in ten}
    assert said == {(f"{room / 'cache' / 'models' / 'x'}\n", "")}


# limits ----------------------------------------------------------------------------------------


def test_a_limit_on_a_files_size_is_one_sentence(room):
    def limits():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    process = child(FOLDER, limits=limits, COURSE_CACHE=room / "cache")
    out, err = process.communicate()
    assert out == "" and err.strip() == (
        "OSError: no room on the disk (no file may be that large here: ulimit -f) for the folder of x; "
        "make room and try again"
    )
    assert sorted(f.name for f in (room / "cache" / "models").iterdir()) == ["x.lock"]


@pytest.fixture
def small_disk(room):
    def mount(options):
        (room / "disk").mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(room / "disk")], capture_output=True
        )
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk ({options})")
        return room / "disk"

    if not (shutil.which("mount") and sys.platform.startswith("linux")):
        pytest.skip("needs Linux's mount")
    yield mount
    subprocess.run(["umount", str(room / "disk")], capture_output=True)


FULL = {
    "no room": ("size=64k", "no room on the disk for the folder of x; make room and try again"),
    "no inodes": ("size=1m,nr_inodes=5", "(it can hold no more files: its inodes are used up) for the"),
    "no inode for the lock": (
        "size=1m,nr_inodes=3",
        "(it can hold no more files: its inodes are used up) for",
    ),
    "no inode at all": ("size=1m,nr_inodes=1", "(it can hold no more files: its inodes are used up) for"),
    "a quota": (
        "size=1m,usrquota,usrquota_block_hardlimit=64k",
        "(your quota is used up) for the folder of x",
    ),
}


@pytest.mark.parametrize(("options", "sentence"), FULL.values(), ids=FULL)
def test_a_small_disk_is_one_sentence_and_keeps_nothing_half(small_disk, options, sentence):
    disk = small_disk(options)
    out, err = run(FOLDER, COURSE_CACHE=disk)
    assert out == "" and err.startswith("OSError: no room on the disk") and sentence in err, err
    assert err.endswith("make room and try again") and "\n" not in err
    assert {f.name for f in disk.rglob("*")} <= {"models", "x.lock"}


# mteb ------------------------------------------------------------------------------------------


def test_mteb_gets_a_place_where_there_is_no_home_and_is_left_alone_where_there_is(room):
    code = "import helpers, os; print(os.environ.get('MTEB_CACHE'))"
    assert run(code, HOME=room, COURSE_CACHE=room / "cache")[0] == "None"
    assert run(code, HOME=room, MTEB_CACHE="mine")[0] == "mine"
    (room / "no-home").touch()
    assert run(code, HOME=room / "no-home", COURSE_CACHE=room / "c")[0] == str(room / "c" / "mteb")


@as_others
def test_mteb_gets_a_place_where_nothing_else_can_be_written(room):
    (room / "cache").mkdir()
    code = (
        "import helpers, os; place = os.environ['MTEB_CACHE']; os.mkdir(place); os.rmdir(place); print(place)"
    )
    assert run(code, ALICE, HOME=room, COURSE_CACHE=room / "cache") == (
        f"{tempfile.gettempdir()}/mteb-{ALICE}",
        "",
    )
