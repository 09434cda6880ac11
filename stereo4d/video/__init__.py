"""From a video to a scene: frames, pair graph, inference, pipeline, workspace."""
