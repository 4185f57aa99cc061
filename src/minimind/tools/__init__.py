"""The tools that a model may call, their limits, and the loop that answers its calls.

Nothing that a model writes is run as code or handed to a shell: it can only name a tool that the user chose, with
arguments that are data.
"""

from minimind.tools.loop import ToolResult, run_turn
from minimind.tools.tool import Limits, Tool, ToolError
from minimind.tools.toolbox import Toolbox, open_tools

__all__ = ["Limits", "Tool", "ToolError", "ToolResult", "Toolbox", "open_tools", "run_turn"]
