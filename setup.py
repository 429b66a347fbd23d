"""The packages of the wheel, which pyproject.toml could only list one by one: conf/ goes into denoiser/."""

from setuptools import find_namespace_packages, setup

conf = [f"denoiser.{name}" for name in find_namespace_packages(include=["conf*"])]
setup(packages=[*find_namespace_packages(include=["denoiser*"]), *conf])
