"""How laws do on runs that they did not see: hold-outs, rollouts, tournaments, and frozen predictions scored later."""
