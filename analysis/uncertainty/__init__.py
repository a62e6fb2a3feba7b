"""How sure a fit is: resampling, profiles, likelihood, noise between runs, intervals of predictions."""
