from .hookspecs import Offer as Offer
from .hookspecs import hookimpl as hookimpl
from .registry import Catalogue as Catalogue
from .registry import Found as Found
from .registry import Problem as Problem
from .registry import catalogue as catalogue
from .registry import load as load
from .scaffold import write_scaffold as write_scaffold
