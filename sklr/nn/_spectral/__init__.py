"""Networks of fields on grids: learned trigonometric series of a few tokens of each patch."""
