"""How good a talking video is: eyes that listen, lips that follow their own voice, pictures that look real."""

from anytalker.evaluation.eye_motion.scores import Interactivity, interactivity

__all__ = ["Interactivity", "interactivity"]
