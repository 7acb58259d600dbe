"""Events from pictures and video: motion, the threshold model of an event pixel, leak and noise."""

from evlift.simulate.camera import EventCamera, EventPixels
from evlift.simulate.fit import Fit, fit
from evlift.simulate.motions import MOTIONS, NMNIST_DOWN, NMNIST_RIGHT, nmnist_path, random3_path
from evlift.simulate.noise import add_noise, add_shot_noise
from evlift.simulate.pixel import PixelState, log_intensity, simulate_frames
from evlift.simulate.saccades import Saccades
from evlift.simulate.scene import SceneSimulator, SimulatedScene
from evlift.simulate.video import Video, simulate_video

__all__ = [
    "MOTIONS",
    "NMNIST_DOWN",
    "NMNIST_RIGHT",
    "EventCamera",
    "EventPixels",
    "Fit",
    "PixelState",
    "Saccades",
    "SceneSimulator",
    "SimulatedScene",
    "Video",
    "add_noise",
    "add_shot_noise",
    "fit",
    "log_intensity",
    "nmnist_path",
    "random3_path",
    "simulate_frames",
    "simulate_video",
]
