"""The machines that train: chips, meshes and what lies where on them, several processes, compilation, topologies."""
