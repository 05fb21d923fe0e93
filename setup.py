"""Where the packages lie: the engine, the first-party plugins and the presets (pyproject.toml has the rest)."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vidrestore*"]), *find_packages("plugins"), "vidrestore.configs"],
    package_dir={"vidrestore_plugins": "plugins/vidrestore_plugins", "vidrestore.configs": "configs"},
)
