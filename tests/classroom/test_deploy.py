"""What deploy/ holds, without a hub: its settings, a reader's own copy, versions, and values of the chart."""

import asyncio
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from helpers import ROOT

pwd = pytest.importorskip("pwd", reason="accounts as Linux and macOS have them")
resource = pytest.importorskip("resource")
DEPLOY = ROOT / "deploy"
sys.path.insert(0, str(DEPLOY))

import classroom  # noqa: E402
import own_copy  # noqa: E402

LESSON = Path("notebooks/03_cross_encoder_scoring.ipynb")


# settings --------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "cache").mkdir()
    return {
        "CONFIGPROXY_AUTH_TOKEN": "a secret",
        "CLASS_STATE": str(tmp_path / "state"),
        "COURSE_CACHE": str(tmp_path / "cache"),
    }


def test_good_settings(good):
    found = classroom.settings(good)
    assert (found.course, found.python) == (ROOT, ROOT / ".venv" / "bin" / "python")
    assert (found.memory, found.cpus, found.threads, found.idle) == (4 * 2**30, None, 2, 3600)
    more = {
        "CLASS_MEMORY": "2.5G",
        "CLASS_CPUS": "1.5",
        "CLASS_TEACHERS": "ada, grace",
        "CLASS_GROUP": "class",
    }
    found = classroom.settings(good | more | {"CLASS_IDLE_MINUTES": "0"})
    assert (found.memory, found.cpus, found.idle) == (int(2.5 * 2**30), 1.5, 0)
    assert (found.teachers, found.group) == ({"ada", "grace"}, "class")


BAD = {
    "no course": ({"CLASS_COURSE": "/nowhere"}, "CLASS_COURSE is /nowhere, which is not a folder"),
    "half a path": ({"CLASS_COURSE": "course"}, "CLASS_COURSE is course: give the whole path"),
    "another folder": ({"CLASS_COURSE": "/"}, "CLASS_COURSE is /, which has no folder notebooks"),
    "no cache": ({"COURSE_CACHE": "/nowhere"}, "COURSE_CACHE is /nowhere, which is not a folder"),
    "no state": ({"CLASS_STATE": "/nowhere"}, "CLASS_STATE is /nowhere, which is not a folder"),
    "no unit": ({"CLASS_MEMORY": "4"}, "CLASS_MEMORY is '4': give a number and one of K, M, G, T"),
    "too little": ({"CLASS_MEMORY": "500M"}, "CLASS_MEMORY is 500M: a reader needs 1G"),
    "a word": ({"CLASS_THREADS": "two"}, "CLASS_THREADS is 'two': give a number"),
    "less than none": ({"CLASS_IDLE_MINUTES": "-1"}, "CLASS_IDLE_MINUTES is '-1': give a number"),
    "no secret": ({"CONFIGPROXY_AUTH_TOKEN": ""}, "CONFIGPROXY_AUTH_TOKEN is not set"),
}


@pytest.mark.parametrize(("wrong", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_one_sentence(good, wrong, sentence):
    with pytest.raises(ValueError) as e:
        classroom.settings(good | wrong)
    assert str(e.value).startswith(sentence) and "\n" not in str(e.value)


def test_a_hub_of_another_python_is_refused(good, tmp_path):
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(ValueError, match="run `make setup`"):
        classroom.settings(good | {"CLASS_COURSE": str(tmp_path)})
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.8.1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the hub runs on Python 3\.\d+ and the course on 3.8"):
        classroom.settings(good | {"CLASS_COURSE": str(tmp_path)})


class Config:
    """Takes what a configuration sets: c.JupyterHub.db_url = ... -> found["JupyterHub.db_url"]."""

    def __init__(self):
        object.__setattr__(self, "found", {})

    def __getattr__(self, section):
        found = self.found

        class Section:
            def __setattr__(self, name, value):
                found[f"{section}.{name}"] = value

        return Section()


def read_config(monkeypatch, environ):
    for name in [name for name in os.environ if name.startswith("CLASS_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    c = Config()
    file = DEPLOY / "jupyterhub_config.py"
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    exec(code, {"get_config": lambda: c, "__file__": str(file)})
    return c.found


def test_the_configuration(monkeypatch, good):
    found = read_config(monkeypatch, good)
    assert found["JupyterHub.spawner_class"] == "systemdspawner.SystemdSpawner"
    assert found["Spawner.mem_limit"] == 4 * 2**30 and found["Spawner.cpu_limit"] is None
    assert found["SystemdSpawner.unit_extra_properties"] == {"MemorySwapMax": "0"}
    assert found["SystemdSpawner.readonly_paths"] == [str(ROOT), good["COURSE_CACHE"]]
    kept = ("JupyterHub.cleanup_servers", "JupyterHub.cleanup_proxy", "ConfigurableHTTPProxy.should_start")
    assert [found[name] for name in kept] == [False] * 3
    assert found["JupyterHub.db_url"] == f"sqlite:///{good['CLASS_STATE']}/jupyterhub.sqlite"
    assert found["PAMAuthenticator.allowed_groups"] == {"readers"}
    assert "--timeout=3600" in found["JupyterHub.services"][0]["command"]
    assert found["Spawner.environment"]["COURSE_MODELS"] == "bundled"
    assert "Authenticator.allow_all" not in found


def test_the_configuration_without_culling_and_with_another_authenticator(monkeypatch, good):
    found = read_config(monkeypatch, good | {"CLASS_IDLE_MINUTES": "0", "CLASS_AUTHENTICATOR": "native"})
    assert "JupyterHub.services" not in found and "PAMAuthenticator.allowed_groups" not in found
    assert found["JupyterHub.authenticator_class"] == "native"


def test_the_configuration_ends_with_the_sentence(monkeypatch, good):
    with pytest.raises(SystemExit) as e:
        read_config(monkeypatch, good | {"CLASS_MEMORY": "much"})
    assert str(e.value).startswith("The classroom server does not start: CLASS_MEMORY is 'much': give a")


def test_every_setting_is_described_where_it_is_looked_for():
    head = (DEPLOY / "jupyterhub_config.py").read_text(encoding="utf-8").split('"""')[1]
    used = set(
        re.findall(r'"((?:CLASS|COURSE|CONFIGPROXY)_\w+)"', Path(classroom.__file__).read_text("utf-8"))
    )
    for unit in DEPLOY.glob("*.service"):
        used |= set(re.findall(r"\$\{(\w+)\}", text(unit)))
    described = set(re.findall(r"^((?:CLASS|COURSE|CONFIGPROXY)_\w+) ", head, re.M))
    assert used == described
    page = (ROOT / "docs" / "classroom_server.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b(?:CLASS|CONFIGPROXY)_[A-Z]\w+", page)) <= described | {"CLASS_TEST_READERS"}


# a reader's own copy ---------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path):
    """A little course."""
    folder = tmp_path / "course"
    for name in (str(LESSON), "notebooks/solutions/03.ipynb", "models/recipes/table.tsv", "docs/page.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}, first version", encoding="utf-8")
    (folder / "notebooks" / ".ipynb_checkpoints").mkdir()
    (folder / "notebooks" / ".ipynb_checkpoints" / "03.ipynb").touch()
    (folder / "models" / "bundled").mkdir()
    (folder / "models" / "bundled" / "weights.safetensors").touch()
    return folder


def brought(course, folder):
    return [file.as_posix() for file in own_copy.bring(course, folder)]


def text(file):
    return file.read_text(encoding="utf-8")


def test_the_first_login_brings_the_lessons_and_no_weights(course, tmp_path):
    first = brought(course, tmp_path / "own")
    assert first == ["docs/page.md", "models/recipes/table.tsv", str(LESSON), "notebooks/solutions/03.ipynb"]
    assert text(tmp_path / "own" / LESSON) == text(course / LESSON)
    assert brought(course, tmp_path / "own") == []


def test_nothing_of_the_readers_is_overwritten(course, tmp_path):
    own = tmp_path / "own"
    brought(course, own)
    (own / LESSON).write_text("what the reader wrote", encoding="utf-8")
    (own / "notebooks" / "mine.ipynb").write_text("mine", encoding="utf-8")
    (course / LESSON).write_text("second version", encoding="utf-8")
    (course / "docs" / "page.md").write_text("second version", encoding="utf-8")
    assert brought(course, own) == ["docs/page.md"], "what the reader left as it was becomes new"
    assert (
        text(own / LESSON) == "what the reader wrote" and text(own / "docs" / "page.md") == "second version"
    )
    (own / LESSON).rename(own / "notebooks" / "my 03.ipynb")
    assert brought(course, own) == [str(LESSON)], "a lesson that was renamed comes afresh"
    assert text(own / "notebooks" / "my 03.ipynb") == "what the reader wrote"
    assert text(own / "notebooks" / "mine.ipynb") == "mine"


def test_without_the_list_of_what_was_given_all_is_the_readers(course, tmp_path):
    own = tmp_path / "own"
    brought(course, own)
    for damaged in ("not JSON", "[1]"):
        (own / own_copy.GIVEN).write_text(damaged, encoding="utf-8")
        (course / LESSON).write_text(f"another version than {damaged}", encoding="utf-8")
        assert brought(course, own) == []
    (course / "docs" / "page.md").write_text("another version", encoding="utf-8")
    assert brought(course, own) == ["docs/page.md"], "but what equals the course's is the course's again"


def test_a_link_is_not_followed(course, tmp_path):
    own, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept", encoding="utf-8")
    (own / "docs").mkdir(parents=True)
    (own / "notebooks").symlink_to(elsewhere)  # a folder
    (own / "docs" / "page.md").symlink_to(elsewhere / "kept")  # a file
    (own / "docs" / ".page.md.part").symlink_to(elsewhere / "kept")
    (own / own_copy.GIVEN).symlink_to(elsewhere / "kept")  # the list
    (own / "models").symlink_to(tmp_path / "nowhere")  # one that leads nowhere
    assert brought(course, own) == []
    (own / "docs" / "page.md").unlink()
    assert brought(course, own) == ["docs/page.md"]
    assert [f.name for f in elsewhere.iterdir()] == ["kept"] and text(elsewhere / "kept") == "kept"
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "linked").symlink_to(elsewhere)  # the whole copy
    assert brought(course, tmp_path / "linked") == [] and len(list(elsewhere.iterdir())) == 1


def test_a_file_where_the_course_has_a_folder_is_the_readers(course, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "notebooks").write_text("a file", encoding="utf-8")
    (own / "docs" / "page.md").mkdir(parents=True)
    assert brought(course, own) == ["models/recipes/table.tsv"]
    assert text(own / "notebooks") == "a file"


def test_a_half_made_copy_is_finished_next_time(course, tmp_path):
    own = tmp_path / "own"
    half = own_copy.bring(course, own)
    assert [next(half), next(half)] == [Path("docs/page.md"), Path("models/recipes/table.tsv")]
    half.close()  # here it broke off; and one that was killed left a part
    (own / "notebooks").mkdir()
    (own / LESSON.with_name(f".{LESSON.name}.part")).write_text("half of", encoding="utf-8")
    assert brought(course, own) == [str(LESSON), "notebooks/solutions/03.ipynb"]
    assert text(own / LESSON) == text(course / LESSON)
    assert list(own.rglob("*.part")) == []
    assert set(json.loads(text(own / own_copy.GIVEN))) == {f.as_posix() for f in own_copy.lessons(course)}


def run_copy(course, folder, **more):
    command = [sys.executable, DEPLOY / "own_copy.py", course, folder]
    return subprocess.run(command, capture_output=True, encoding="utf-8", **more)


def test_a_full_disk_is_one_sentence_and_keeps_nothing_half(course, tmp_path):
    (course / LESSON).write_bytes(bytes(100_000))
    limits = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    done = run_copy(course, tmp_path / "own", preexec_fn=limits)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"There is no room on the disk for your copy of the lessons in {tmp_path / 'own'}: ask your teacher to "
        "make room, and start your server again.\n"
    )
    assert not (tmp_path / "own" / LESSON).exists() and not list((tmp_path / "own").rglob("*.part"))
    assert run_copy(course, tmp_path / "own").returncode == 0
    assert (tmp_path / "own" / LESSON).stat().st_size == 100_000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_no_room_and_no_quota_read_the_same(course, tmp_path, monkeypatch, number):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(own_copy, "_put_whole", full)
    assert own_copy.main(str(course), str(tmp_path)).startswith("There is no room on the disk for your copy")


def test_a_folder_that_cannot_be_written_is_one_sentence(course, tmp_path):
    (tmp_path / "file").touch()
    done = run_copy(course, tmp_path / "file" / "own")
    assert done.returncode == 1 and "could not be made: Not a directory" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_the_lessons_open_beside_themselves_is_copied():
    """Lessons read by relative paths; what they name must stand beside a reader's copy."""
    files = {file.as_posix() for file in own_copy.lessons(ROOT)}
    wanted = set()
    for path in ROOT.glob("notebooks/**/[0-9]*.ipynb"):
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            found = re.findall(r"""["'(](\.\./[^"')#]+)""", "".join(cell["source"]))
            wanted |= {os.path.relpath((path.parent / f).resolve(), ROOT) for f in found}
    assert "models/recipes/contamination.tsv" in wanted
    assert wanted <= files, wanted - files


@pytest.fixture
def hook(good):
    """Run the hook of the hub for a reader of this process's own."""
    found = classroom.settings(good)

    def run(home):
        spawner = SimpleNamespace(home_dir=str(home), user=SimpleNamespace(name="ada"))
        asyncio.run(classroom.copy_lessons(spawner, found))

    return run


def test_the_hook_copies_and_its_failure_is_what_the_hubs_page_shows(hook, tmp_path):
    hook(tmp_path / "home")
    assert (tmp_path / "home" / classroom.FOLDER / LESSON).exists()
    (tmp_path / "file").touch()
    with pytest.raises(classroom.NoCopy) as e:
        hook(tmp_path / "file")
    assert e.value.jupyterhub_message.startswith("Your copy of the lessons in ")


def test_a_python_that_the_reader_may_not_run_is_one_sentence(good, tmp_path):
    python = tmp_path / "course" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    found = dataclasses.replace(classroom.settings(good), course=tmp_path / "course")
    spawner = SimpleNamespace(home_dir=str(tmp_path), user=SimpleNamespace(name="ada"))
    with pytest.raises(classroom.NoCopy, match=r"^ada may not run .*/\.venv/bin/python: the course and"):
        asyncio.run(classroom.copy_lessons(spawner, found))


def test_root_copies_as_the_reader(monkeypatch):
    """Never as root: the process gets the reader's user, group and groups."""
    account = SimpleNamespace(pw_name="ada", pw_uid=4321, pw_gid=4322, pw_dir="/home/ada")
    spawner = SimpleNamespace(user=SimpleNamespace(name="ada"))
    monkeypatch.setattr(pwd, "getpwnam", {"ada": account}.get)
    monkeypatch.setattr(os, "getgrouplist", lambda name, group: [group, 5000])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert classroom._as_reader(spawner) == {
        "user": 4321,
        "group": 4322,
        "extra_groups": [4322, 5000],
        "cwd": "/",
    }
    assert classroom.home(spawner) == Path("/home/ada")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert classroom._as_reader(spawner) == {}


# versions --------------------------------------------------------------------------------------


def requirements():
    lines = text(DEPLOY / "requirements.txt").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_version_is_exact():
    for wanted in requirements():
        assert re.fullmatch(r"==[\w.]+", str(wanted.specifier)), wanted
    found = {wanted.name: str(wanted.specifier) for wanted in requirements()}
    assert found["jupyterhub"] == "==6.1.1"
    proxy = json.loads(text(DEPLOY / "package.json"))["dependencies"]["configurable-http-proxy"]
    lock = json.loads(text(DEPLOY / "package-lock.json"))["packages"]
    assert proxy == lock["node_modules/configurable-http-proxy"]["version"] == "5.3.0"
    assert all("integrity" in entry and "resolved" not in entry for name, entry in lock.items() if name)


def test_the_course_has_what_jupyterhub_needs_of_it():
    """A reader's server takes from the course what the course has: it must be new enough for JupyterHub."""
    site = next((ROOT / ".scratch" / "hub" / "lib").glob("python*/site-packages"), None)
    if site is None:
        pytest.skip("JupyterHub is not installed: make hub")
    [hub] = metadata.distributions(name="jupyterhub", path=[str(site)])
    needs = [Requirement(line) for line in hub.requires]
    for need in [n for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]:
        try:
            ours = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            assert list(metadata.distributions(name=need.name, path=[str(site)])), need
        else:
            assert need.specifier.contains(Version(ours)), f"{need}, and the course has {ours}"


# units, image and chart ------------------------------------------------------------------------


def test_the_units_as_systemd_reads_them(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    for unit in DEPLOY.glob("*.service"):  # the same with programs that are here
        lines = re.sub(r"^(ExecStart=).*?(?= |$)", r"\1/bin/true", text(unit), flags=re.M)
        (tmp_path / unit.name).write_text(lines, encoding="utf-8")
    units = sorted(tmp_path.glob("*.service"))
    assert len(units) == 2
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, encoding="utf-8")
    said = [line for line in done.stderr.splitlines() if "classroom" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_what_the_spawner_is_given_are_properties_that_systemd_knows(tmp_path, monkeypatch, good):
    """MemoryMax and its like, in a unit of this test's own: a wrong name is reported."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    found = read_config(monkeypatch, good)
    lines = [f"MemoryMax={found['Spawner.mem_limit']}", "OOMPolicy=continue", "PrivateTmp=yes"]
    lines += [f"{name}={value}" for name, value in found["SystemdSpawner.unit_extra_properties"].items()]
    lines += [f"ReadOnlyDirectories={path}" for path in found["SystemdSpawner.readonly_paths"]]
    unit = tmp_path / "reader.service"

    def verify(*more):
        unit.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *lines, *more, ""]), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, encoding="utf-8")
        return [line for line in done.stderr.splitlines() if "reader.service" in line]

    assert verify() == []
    assert "MemoryMaximum" in "".join(verify("MemoryMaximum=4G"))


def values():
    return yaml.safe_load(text(DEPLOY / "values.yaml"))


# what the schema of chart 4 knows of the parts that deploy/values.yaml sets; it refuses other names
CHART = {
    "": {"hub", "singleuser", "cull", "proxy", "prePuller", "scheduling", "ingress", "custom", "debug"},
    "hub": {"config", "db", "extraConfig", "resources", "concurrentSpawnLimit", "baseUrl"},
    "proxy": {"service", "https", "chp", "secretToken"},
    "proxy.https": {"enabled", "type", "letsencrypt", "manual", "secret", "hosts"},
    "proxy.https.letsencrypt": {"contactEmail", "acmeServer"},
    "singleuser": {"image", "cmd", "memory", "cpu", "storage", "extraEnv", "defaultUrl", "lifecycleHooks"}
    | {"startTimeout", "uid", "fsGid", "networkPolicy", "cloudMetadata", "initContainers", "events"},
    "singleuser.image": {"name", "tag", "pullPolicy", "pullSecrets"},
    "singleuser.memory": {"limit", "guarantee"},
    "singleuser.cpu": {"limit", "guarantee"},
    "singleuser.storage": {"type", "capacity", "dynamic", "static", "homeMountPath", "extraLabels"}
    | {"extraVolumes", "extraVolumeMounts"},
    "cull": {"enabled", "users", "adminUsers", "removeNamedServers", "timeout", "every", "concurrency"}
    | {"maxAge"},
}


def test_the_values_use_names_that_the_chart_knows():
    for path, known in CHART.items():
        part = values()
        for name in filter(None, path.split(".")):
            part = part.get(name, {})
        assert part.keys() <= known, f"{path}: {part.keys() - known}"


def test_the_values_say_what_the_server_says(good):
    found, chart = classroom.settings(good), values()
    reader = chart["singleuser"]
    assert reader["memory"]["limit"] == f"{found.memory // 2**30}G" and reader["memory"]["guarantee"] == "1G"
    assert chart["cull"] == {"enabled": True, "timeout": found.idle, "every": 300}
    assert reader["extraEnv"]["COURSE_MODELS"] == "bundled"
    [mount] = reader["storage"]["extraVolumeMounts"]
    [volume] = reader["storage"]["extraVolumes"]
    assert mount["name"] == volume["name"] and mount["readOnly"] is True
    assert volume["persistentVolumeClaim"]["readOnly"] is True
    assert reader["extraEnv"]["COURSE_CACHE"].startswith(mount["mountPath"])
    assert "not run on a cluster" in text(DEPLOY / "values.yaml").partition("\n\n")[0]
