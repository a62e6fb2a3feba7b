"""Which examples a cell sees and when: nested subsets of one permutation, and the batches of each step."""
