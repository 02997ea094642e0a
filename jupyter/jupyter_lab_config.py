"""Settings of `make lab`: this folder, loopback only, nothing asked of the network."""

import os
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
# Answers the question about JupyterLab news with no (labconfig/default_setting_overrides.json).
os.environ["JUPYTER_CONFIG_PATH"] = str(root / "jupyter")
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
# `python` in a terminal of JupyterLab is the course's own, activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

c = get_config()  # noqa: F821
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.root_dir = str(root)
c.ServerApp.allow_root = True  # in a container the reader is root
c.LabApp.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
