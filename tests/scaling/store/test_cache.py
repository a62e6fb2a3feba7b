"""Prepared arrays are made once, and again where the file is damaged."""

import numpy as np

from scaling.store.cache import load_or_make


def test_prepared_arrays_are_kept_and_survive_damage(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return [np.arange(3), np.eye(2)]

    for _ in range(2):
        arrays = load_or_make("x", make)
        assert [a.tolist() for a in arrays] == [[0, 1, 2], [[1, 0], [0, 1]]]
    assert len(made) == 1
    (tmp_path / "scaling" / "x.npz").write_bytes(b"PK torn")
    load_or_make("x", make)
    assert len(made) == 2
