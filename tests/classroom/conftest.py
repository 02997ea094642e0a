"""The load test takes minutes: it is collected where this folder is named, as `make stress` does."""


def pytest_ignore_collect(collection_path, config):
    if collection_path.name == "test_ten_readers.py":
        return not any("classroom" in argument for argument in config.args) or None
    return None
