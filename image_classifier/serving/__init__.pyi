from .app import Service as Service, create_app as create_app, load_service as load_service
from .bodies import ClientGone as ClientGone, Upload as Upload, media_type as media_type, parse_form as parse_form, read_body as read_body, read_uploads as read_uploads
from .client import RemoteClassifier as RemoteClassifier
from .engine import Answer as Answer, Engine as Engine
from .observing import Metrics as Metrics, forget_process as forget_process, log_as_lines as log_as_lines, log_line as log_line
from .page import PAGES as PAGES, read_page as read_page
from .problems import Problem as Problem, to_problem as to_problem
from .requests import Requests as Requests
from .running import bind as bind, serve as serve
from .settings import ServerSettings as ServerSettings
