"""What networks are made of, as data: layers that know their arrays, roles and FLOPs by arithmetic, free of JAX."""
