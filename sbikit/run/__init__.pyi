from .config import Overrides as Overrides
from .config import RunConfig as RunConfig
from .config import load_config as load_config
from .config import read_config as read_config
from .pipeline import Run as Run
from .pipeline import run_stages as run_stages
from .runfolder import RunFolder as RunFolder
