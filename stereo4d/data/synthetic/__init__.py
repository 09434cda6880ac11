"""The synthetic world: procedural dynamic scenes with exact truth, batched, on any device.

A world is sampled (``world``), moves in continuous time (``motion``), is seen by ray casting (``render``) and comes out
as training pairs (``pairs``) or as a clip with its truth beside it (``clip``).
"""
