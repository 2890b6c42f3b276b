from .config import RunConfig as RunConfig
from .config import load_config as load_config
from .config import read_config as read_config
from .draft import Overrides as Overrides
from .folder import RunFolder as RunFolder
from .job import Run as Run
from .stages import run_stages as run_stages
