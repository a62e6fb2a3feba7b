"""Claims about checksums: nothing that has changed is taken for what it was."""

import pytest

from scaling.training.checkpoints.checksums import DamageError, seal, unseal


def test_a_sealed_text_is_refused_when_any_character_changes():
    text = seal({"step": 3, "facts": {"loss": 1e-05}})
    assert unseal(text) == {"step": 3, "facts": {"loss": 1e-05}}
    for position in range(len(text)):
        for other in ("", "0" if text[position] != "0" else "1", text[position].swapcase(), text[position] + " "):
            changed = text[:position] + other + text[position + 1 :]
            if changed != text:
                with pytest.raises(DamageError):
                    unseal(changed)
