"""A study's records as one page that opens offline: figure, laws, crossings, cells, and how to reproduce them."""
