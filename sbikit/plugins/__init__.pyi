from .hookspecs import Offer as Offer
from .hookspecs import hookimpl as hookimpl
from .installed import Catalogue as Catalogue
from .installed import Found as Found
from .installed import Problem as Problem
from .installed import catalogue as catalogue
from .registry import load as load
from .scaffold import write_scaffold as write_scaffold
