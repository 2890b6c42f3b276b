from .checked import run_simulator as run_simulator
from .stream import Simulations as Simulations
