from .page import page_content as page_content
from .page import render as render
from .page import write_report as write_report
from .run_files import RunFiles as RunFiles
from .run_files import read_run as read_run
