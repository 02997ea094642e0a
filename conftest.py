"""Every test runs on the bundled models, whatever else is on this machine."""

import os

os.environ["COURSE_MODELS"] = "bundled"
pytest_plugins = ["tests.lesson_plugin"]
