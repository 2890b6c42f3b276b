from .places import Place as Place
from .places import open_pool as open_pool
from .places import read_place as read_place
from .pool import Done as Done
from .pool import Lost as Lost
from .pool import Pool as Pool
from .pool import Recipe as Recipe
from .pool import Task as Task
