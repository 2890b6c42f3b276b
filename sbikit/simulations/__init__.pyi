from .attempts import Attempts as Attempts
from .attempts import attempt as attempt
from .attempts import too_many as too_many
from .checked import run_simulator as run_simulator
from .stream import Simulations as Simulations
from .tried import Failure as Failure
from .trying import simulate_all as simulate_all
from .trying import simulating as simulating
