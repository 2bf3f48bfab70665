"""Data sets turned into items: prompts, options, canonical answers, gold check.

Importing this package registers every task and loads no data.
"""

from labelrel.tasks import (
    ethics_commonsense,
    family_names,
    first_names,
    gsm8k,
    hellaswag,
    mmlu,
    python_modules,
    subdivisions,
    table,
    translations,
    us_cities,
    word_languages,
    world_facts,
)
from labelrel.tasks.base import Reading, Task, Wording, assign_splits, tasks
from labelrel.tasks.prompting import Prompting

__all__ = [
    "Prompting",
    "Reading",
    "Task",
    "Wording",
    "assign_splits",
    "ethics_commonsense",
    "family_names",
    "first_names",
    "gsm8k",
    "hellaswag",
    "mmlu",
    "python_modules",
    "subdivisions",
    "table",
    "tasks",
    "translations",
    "us_cities",
    "word_languages",
    "world_facts",
]
