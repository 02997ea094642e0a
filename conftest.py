"""Every test runs on the bundled models, whatever else is on this machine."""

import os

os.environ["COURSE_MODELS"] = "bundled"
os.environ["PYTHONIOENCODING"] = "utf-8"  # what a test reads from a child; Windows has others
pytest_plugins = ["tests.lesson_plugin"]
