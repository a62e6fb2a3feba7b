"""Published parameters of Chinchilla's law, in its order."""

from __future__ import annotations

import numpy as np

from analysis.laws.registry import get_law

LAW = get_law("chinchilla")


HOFFMANN = [np.exp(0.5267228), np.exp(6.0073404), np.exp(6.0179186), 0.33917084, 0.2849083]  # unrounded


ROUNDED = [1.69, 406.4, 410.7, 0.34, 0.28]


REFIT = [1.81722, 477.83, 2143.4, 0.34731, 0.36717]


BESIROGLU = [1.81686, 482.01, 2085.43, 0.34781, 0.36585]


REPEATED = [np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), 0.3526596, 0.3526596]  # Muennighoff et al. on C4
