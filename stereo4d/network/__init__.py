"""The two-view network: layers, encoder, decoder, heads' contract, weights."""
