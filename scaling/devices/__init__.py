"""The machines that train: chips, meshes, memory, several processes, and compilation, here or ahead of time."""
