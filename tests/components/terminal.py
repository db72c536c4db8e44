"""A terminal that a test types into and looks at: tmux with a shell of its own."""

import os
import subprocess
import time

from harness import BINARY

# No view may take longer to show what it is waited for.
WAIT_SECONDS = 30
PROMPT = "$ "


class Terminal:
    """A shell on a screen of `columns` x `lines`, with `ringfeed` in its path. Ends with the block."""

    def __init__(self, directory, endpoint, columns=80, lines=24):
        self.directory = directory
        self.socket = str(directory / "tmux.sock")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RINGFEED_", "TMUX"))}
        self.environment = clean | {
            "PATH": f"{BINARY.parent}:{os.environ['PATH']}",
            "RINGFEED_ENDPOINT": f"http://{endpoint}",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PS1": PROMPT,
        }
        self.size = (columns, lines)

    def __enter__(self):
        columns, lines = map(str, self.size)
        shell = ["bash", "--norc", "--noprofile", "-i"]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", lines, *shell)
        self.tmux("set", "-g", "window-size", "manual")
        self.until(lambda lines: lines[0] == PROMPT.strip(), "the shell's prompt")
        return self

    def __exit__(self, *_):
        self.tmux("kill-server")

    def tmux(self, *arguments):
        command = ["tmux", "-u", "-S", self.socket, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=self.directory, timeout=WAIT_SECONDS
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def type(self, text):
        """Types a line."""
        self.tmux("send-keys", "-l", text)
        self.press("Enter")

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, columns, lines):
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))
        tty = self.state("pane_tty")
        # tmux tells what runs in it a little later.
        self.until(lambda _: stty_size(tty) == f"{lines} {columns}", "resize of the terminal")

    def screen(self):
        """The lines of the screen, without blanks at their ends."""
        shown = self.tmux("capture-pane", "-p").split("\n")
        return [line.rstrip() for line in shown[:-1]]

    def unwrapped(self):
        """The same, with lines that were longer than the screen in one piece."""
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", "-J").split("\n")]

    def until(self, holds, what):
        """Looks until the screen is as `holds` wants it; answers it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds(lines := self.screen()):
            assert time.monotonic() < deadline, f"no {what}:\n" + "\n".join(lines)
            time.sleep(0.03)
        return lines

    def until_shown(self, *texts):
        """Looks until the screen has all the texts; answers it."""
        return self.until(lambda lines: all(text in "\n".join(lines) for text in texts), " or no ".join(texts))

    def run(self, command):
        """Types a command into the shell and waits until it is done: what it printed, in whole lines."""
        self.press("C-l")
        self.until(lambda lines: lines[0] == PROMPT.strip() and not any(lines[1:]), "empty screen")
        self.type(command)
        self.until(lambda lines: lines[0] != PROMPT.strip() == last(lines), "prompt")
        lines = self.unwrapped()
        return [line for line in lines[1:] if line and line != PROMPT.strip()]

    def children(self):
        """The processes that the shell runs."""
        shell = self.state("pane_pid")
        with open(f"/proc/{shell}/task/{shell}/children") as file:
            return [int(pid) for pid in file.read().split()]

    def state(self, of):
        """What tmux knows of the terminal: cursor_flag, alternate_on, pane_title."""
        return self.tmux("display-message", "-p", f"#{{{of}}}").strip()


def stty_size(tty):
    return subprocess.run(["stty", "-F", tty, "size"], capture_output=True, text=True).stdout.strip()


def last(lines):
    """The last line that is not empty."""
    return next((line for line in reversed(lines) if line), "")
