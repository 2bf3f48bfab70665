"""Data sets turned into items: prompts, options, canonical answers, gold check.

Importing this package registers every task and loads no data.
"""

from labelrel.tasks import world_facts
from labelrel.tasks.base import Task, assign_splits, tasks

__all__ = ["Task", "assign_splits", "tasks", "world_facts"]
