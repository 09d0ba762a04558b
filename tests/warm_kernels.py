"""Kernels for nbval that are forked from a process which has torch imported, so that 100 notebooks do not import it 100 times.

Only libraries of others are imported beforehand, and no code of theirs is run: each notebook still imports the package itself."""
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

# Not pyplot: it asks for the kernel when it is imported.
LIBRARIES = ("torch", "torchvision", "sklearn.datasets", "matplotlib.backends.backend_agg", "ipykernel.kernelapp")


class ForkedKernel:
    "What jupyter_client needs of `subprocess.Popen`, for a process that another one started."
    stdin = stdout = stderr = None

    def __init__(self, pid):
        self.pid, self.returncode, self.descriptor = pid, None, os.pidfd_open(pid)

    def poll(self):
        return self.wait(0)

    def wait(self, timeout=None):
        if self.returncode is None and select.select([self.descriptor], [], [], timeout)[0]:
            os.close(self.descriptor)
            self.returncode = 0
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class ForkServer:
    "A process that forks kernels; it ends with this one."
    def __init__(self):
        self.socket, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as a kernel sets it before matplotlib is imported
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        self.answers = self.socket.makefile("r")

    def launch(self, command, env=None, cwd=None, **_):
        "Take the place of `jupyter_client.launcher.launch_kernel`."
        request = {"argv": command[3:], "env": dict(os.environ if env is None else env), "cwd": str(cwd or Path.cwd())}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return ForkedKernel(int(self.answers.readline()))

    def close(self):
        self.answers.close()
        self.socket.close()
        self.process.wait()


def warm_kernels(nbval_kernel):
    "Make nbval start its kernels in a `ForkServer`, which is returned; the server starts with the first of them."
    from jupyter_client.provisioning import local_provisioner
    start, servers = nbval_kernel.start_new_kernel, []

    def start_warm(**options):
        servers or servers.append(ForkServer())
        usual, local_provisioner.launch_kernel = local_provisioner.launch_kernel, servers[0].launch
        try:
            return start(**options)
        finally:
            local_provisioner.launch_kernel = usual
    nbval_kernel.start_new_kernel = start_warm
    return servers


def serve(connection):
    "Fork a kernel for each line that is read, and answer with its process id."
    for name in LIBRARIES:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels that end leave no zombie
    lines = connection.makefile("r")
    while line := lines.readline():
        if (pid := os.fork()) == 0:
            become_kernel(json.loads(line))
        os.setpgid(pid, pid)  # jupyter_client sends signals to the kernel's group: it must be one of its own before the answer
        connection.sendall(f"{pid}\n".encode())


def become_kernel(request):
    "Do what `python -m ipykernel_launcher` does, in this process."
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["ipykernel_launcher", *request["argv"], f"--IPKernelApp.parent_handle={os.getppid()}"]  # it ends with its parent
    from ipykernel.kernelapp import launch_new_instance
    launch_new_instance()
    sys.exit()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    serve(socket.socket(fileno=int(sys.argv[1])))
