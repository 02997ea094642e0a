"""The configuration of deploy/ for a test: on loopback, any name with one password, servers as plain
processes in homes of the test's own. All else is as on a server."""

import os
from pathlib import Path

room = Path(os.environ["CLASS_TEST_ROOM"])
ports = os.environ["CLASS_TEST_PORTS"].split()  # of the proxy, of its API, of the hub

c = get_config()  # noqa: F821
load_subconfig(os.environ["CLASS_TEST_CONFIG"])  # noqa: F821

c.JupyterHub.bind_url = f"http://127.0.0.1:{ports[0]}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{ports[1]}"
c.JupyterHub.hub_port = int(ports[2])
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.DummyAuthenticator.password = "chalk"
c.Spawner.environment.update(PYTHONPATH=os.environ["CLASS_COURSE"])  # helpers of the test's own course
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(room / "homes" / "{username}")
