"""What the engines on Google Cloud share: labels by which anybody finds what runs, and variables to pass on."""

import os
import re
from collections.abc import Iterable

from launch.coordination.provenance import user_name
from scaling.specs.base import InputError, fingerprint_text
from scaling.store.store import Store

LAUNCH, STUDY, USER, STORE = "scaling-launch", "scaling-study", "scaling-user", "scaling-store"  # labels


def check_variables(names: Iterable[str]) -> None:
    """Checks that variables to be passed on are given by name alone.

    Raises:
      InputError: one is not.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(f'env={name!r} is no name of a variable; give names alone, as env=["WANDB_API_KEY"]')


def read_variables(names: Iterable[str]) -> dict[str, str]:
    """Returns the values of variables to be passed on.

    Raises:
      InputError: one is not set here.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InputError(f"env={missing[0]!r} is not set here, so it cannot be passed on; set it, or leave it out")
    return {name: os.environ[name] for name in names}


def make_labels(launch: str, store: Store) -> dict[str, str]:
    """Returns what whatever a launch asks for is labelled with."""
    study = str(store.study["name"]) if (store.path / "study.json").exists() else ""
    return {LAUNCH: label(launch), STUDY: label(study), USER: label(user_name()), STORE: store_label(store)}


def store_label(store: Store) -> str:
    """Returns what stands for a store in labels."""
    return fingerprint_text(str(store.path))


def label(text: str) -> str:
    """Returns a text in the letters that labels may have."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63].strip("-_")
