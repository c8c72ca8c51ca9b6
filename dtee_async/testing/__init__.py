"""What tests of yours can use: checks of transports and outputs, a recording output, and a job that plays a script."""

from .conformance import SCRIPT as SCRIPT
from .conformance import RecordingOutput as RecordingOutput
from .conformance import ScriptedTransport as ScriptedTransport
from .conformance import batch_of as batch_of
from .conformance import check_output as check_output
from .conformance import check_transport as check_transport
from .conformance import open_fds as open_fds
from .fakes import FakeJob as FakeJob
from .fakes import FakeStdin as FakeStdin
