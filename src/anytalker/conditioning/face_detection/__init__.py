"""Face detectors: the network in the package, YuNet, and OpenCV's cascades."""
