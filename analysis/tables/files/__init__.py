"""Files of tables that anybody made, in any of the usual formats, read right the first time."""
