"""From documents to tokens: tokenizers, prepared corpora, packing into sequences."""
