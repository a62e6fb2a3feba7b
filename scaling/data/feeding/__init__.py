"""From examples to arrays on devices: resident or streamed, standardised, transformed and augmented."""
