"""Settings of `make lab`: this folder, loopback only, nothing asked of the network."""

import os
from pathlib import Path

root = Path(__file__).resolve().parent.parent
# Answers the question about JupyterLab news with no (labconfig/default_setting_overrides.json).
os.environ["JUPYTER_CONFIG_PATH"] = str(root / "jupyter")
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")

c = get_config()  # noqa: F821
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.root_dir = str(root)
c.ServerApp.allow_root = True  # in a container the reader is root
c.LabApp.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdates"
c.LabApp.extension_manager = "readonly"
