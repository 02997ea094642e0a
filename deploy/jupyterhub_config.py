"""JupyterHub for a class on one server: docs/classroom_server.md says how to set it up.

Every setting is a variable of the environment, on a server in /etc/classroom.env:

CONFIGPROXY_AUTH_TOKEN  the secret that hub and proxy share; it must be set
CLASS_ADDRESS           where the proxy listens; 0.0.0.0: everywhere (127.0.0.1)
CLASS_PORT              and its port (8000)
CLASS_COURSE            the course's folder, with its .venv (default: the folder that holds this one)
COURSE_CACHE            what the course unpacked and made, shared by all (default: .cache in the course)
CLASS_STATE             the hub's own folder: its database and its cookie secret (/var/lib/classroom)
CLASS_MEMORY            the most memory that one reader may use, server and kernels together (4G)
CLASS_CPUS              the most cores that one reader may use; 0: as many as are free (0)
CLASS_THREADS           the threads on which one kernel computes (2)
CLASS_IDLE_MINUTES      a server, or a kernel without a browser, is stopped when idle so long; 0: never (60)
CLASS_GROUP             members of this Unix group may log in (readers)
CLASS_TEACHERS          names with commas; they see the hub's admin page, and may stop servers (none)
CLASS_AUTHENTICATOR     who checks passwords: pam, the machine's own accounts (pam)

Another authenticator is a package to install beside the hub, its name in CLASS_AUTHENTICATOR, such as
`ldapauthenticator.LDAPAuthenticator`, and its own settings at the end of this file, among them who may
log in (`c.Authenticator.allowed_users` or `allow_all`). With SystemdSpawner a reader needs an account of
the same name on the machine, whoever checks the password.

What holds the memory limit: systemd. It starts each reader's server as a unit of its own, with MemoryMax,
so the kernel of Linux counts all that the reader runs. At the limit it ends the reader's largest process,
as a rule a notebook's kernel; the server and its other kernels live on (OOMPolicy=continue, the
spawner's default). RLIMIT_AS would not do: it counts addresses, of which torch reserves many times
what it uses.

systemd itself was not run here. tests/classroom starts servers as plain processes, with the limit set and
not held. Tried by hand with a stand-in for systemd-run, as root, with accounts and PAM: a kernel that
took 4G of 2G ended at the limit of its cgroup, its server went on, and the course was read-only.
"""

import functools
import sys
import sysconfig
from os import environ
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import classroom

try:
    here = classroom.settings(environ)
except ValueError as e:
    sys.exit(f"The classroom server does not start: {e}.")

c = get_config()  # noqa: F821

# Who may log in.
c.JupyterHub.authenticator_class = here.authenticator
c.Authenticator.admin_users = set(here.teachers)
if here.authenticator == "pam":
    c.PAMAuthenticator.allowed_groups = {here.group}
    c.PAMAuthenticator.open_sessions = False

# A restart of the hub stops nothing: servers are units of their own, the proxy is one too, and the hub
# finds both again by its database.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.last_activity_interval = 30  # seconds; a proxy that was restarted has its routes again by then
c.JupyterHub.db_url = f"sqlite:///{here.state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(here.state / "cookie_secret")

# A reader's server: the course's own environment (see reader_server.py), in the reader's own copy.
c.JupyterHub.spawner_class = "systemdspawner.SystemdSpawner"
c.Spawner.cmd = [
    str(here.python),
    str(classroom.HERE / "reader_server.py"),
    sysconfig.get_path("platlib"),
]
c.Spawner.pre_spawn_hook = functools.partial(classroom.copy_lessons, found=here)
c.Spawner.notebook_dir = f"~/{classroom.FOLDER}"
c.Spawner.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.Spawner.args = [f"--MappingKernelManager.cull_idle_timeout={here.idle}"]
c.Spawner.environment = {
    "COURSE_CACHE": str(here.cache),
    "COURSE_MODELS": "bundled",
    "OMP_NUM_THREADS": str(here.threads),
    "TOKENIZERS_PARALLELISM": "false",
    "JUPYTER_CONFIG_PATH": str(here.course / "jupyter"),
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PATH": f"{here.python.parent}:/usr/local/bin:/usr/bin:/bin",
}
# Thirty servers that start at the same moment take longer than one.
c.Spawner.start_timeout = c.Spawner.http_timeout = 180

# Limits, held by systemd.
c.Spawner.mem_limit = here.memory
c.Spawner.cpu_limit = here.cpus
c.SystemdSpawner.readonly_paths = [str(here.course), str(here.cache)]
c.SystemdSpawner.isolate_tmp = True
c.SystemdSpawner.unit_extra_properties = {"MemorySwapMax": "0"}

# Servers that nobody uses are stopped; what is saved stays.
if here.idle:
    c.JupyterHub.services = [
        {
            "name": "idle-culler",
            "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={here.idle}"],
        }
    ]
    c.JupyterHub.load_roles = [
        {
            "name": "idle-culler",
            "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
            "services": ["idle-culler"],
        }
    ]
