"""Start a reader's JupyterLab: the course's environment, with JupyterHub's package behind it.

    .venv/bin/python deploy/reader_server.py PACKAGES [options of jupyterhub-singleuser]

A server that a hub starts needs the package jupyterhub. It is not installed into the course's
environment, whose versions are locked: PACKAGES, the site-packages of the hub's own environment, goes to
the end of the search path, so what the course has comes from the course, and only what it lacks from
the hub. The kernels that this server starts see the course's environment alone.
"""

import site
import sys

if __name__ == "__main__":
    site.addsitedir(sys.argv.pop(1))
    from jupyterhub.singleuser import main

    main()
